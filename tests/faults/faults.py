"""The faults of each part, and the tier that each kind of request must get during them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from recsys.contracts.recommendation import Tier
from recsys.errors import UpstreamOverloaded
from recsys.stages import FAILURE_POLICY, Stage
from tests.engines import Process
from tests.fault_proxy import FORWARDING, Behaviour, FaultProxy
from tests.faults.expected import Answered, Kind

# --- the faults -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[Process, FaultProxy], None]
    end: Callable[[Process, FaultProxy], None]
    endurable: bool = False
    """Whether full service must continue during the fault."""


def _restart(process: Process, _: FaultProxy) -> None:
    process.start()
    process.wait_until_up()


def _behaves(name: str, behaviour: Behaviour, *, endurable: bool = False) -> Fault:
    return Fault(
        name,
        begin=lambda _, proxy: proxy.behave(behaviour),
        end=lambda _, proxy: proxy.behave(FORWARDING),
        endurable=endurable,
    )


def _http(body: bytes, kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


HTTP_GARBAGE = (
    b"\x00\xff\xfe no HTTP at all \r\n\r\n",
    _http(b"<html><body>It works!</body></html>", b"text/html"),
    _http(b'{"cut": [1, 2'),
    _http(b"\xff\xfe\x00"),
    _http(b"{}"),
    _http(b"[]"),
    _http(b"null"),
    _http(b'{"result": null, "status": "ok", "time": 0}'),
    _http(b'{"result": {"points": [{"id": 1, "version": 0, "score": 0.5}]}, "status": "ok", "time": 0}'),
    _http(b'{"result": [{"id": 1, "payload": {"item_id": 7}}], "status": "ok", "time": 0}'),
)
"""Not HTTP, not JSON, not text; JSON of the wrong shape; and JSON of Qdrant's shape with wrong content."""
RESP_GARBAGE = (b"\x00\xff\xfe no RESP at all\r\n", b"$-7\r\n", b"+OK\r\n" * 8, b":1\r\n" * 8, b"*1\r\n" * 8)
"""Not RESP, and RESP that replies to another command."""


def faults_of(part: str) -> list[Fault]:
    return [
        Fault("killed", begin=lambda process, _: process.kill(), end=_restart),
        Fault("frozen", begin=lambda process, _: process.freeze(), end=lambda process, _: process.thaw()),
        _behaves("50 ms slower", Behaviour(delay_seconds=0.05), endurable=True),
        _behaves("500 ms slower", Behaviour(delay_seconds=0.5)),
        _behaves("resets", Behaviour(resets=True)),
        _behaves("garbage", Behaviour(garbage=RESP_GARBAGE if part == "redis" else HTTP_GARBAGE)),
    ]


# --- expected tiers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    tier: Tier
    reason: str
    """Prefix of the tier reason: `complete`, or the stage that failed."""

    def matches(self, tier: Tier, reason: str) -> bool:
        return tier == self.tier and reason.startswith(self.reason)


FULL = {
    Kind.KNOWN: Expected(Tier.PERSONALIZED, "complete"),
    Kind.KNOWN_SESSION: Expected(Tier.PERSONALIZED, "complete"),
    Kind.VISITOR: Expected(Tier.PERSONALIZED, "complete"),
    Kind.UNKNOWN: Expected(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Expected(Tier.PERSONALIZED, "complete"),
}
WITHOUT_FEATURES = {
    Kind.KNOWN: Expected(Tier.STATIC, "features:"),
    Kind.KNOWN_SESSION: Expected(Tier.PERSONALIZED, "features:"),
    Kind.VISITOR: Expected(Tier.PERSONALIZED, "features:"),
    Kind.UNKNOWN: Expected(Tier.STATIC, "features:"),
    Kind.CANDIDATES: Expected(Tier.POPULAR, "features:"),
}
"""A session replaces the features. Candidates are ranked without a user."""
WITHOUT_RANKER = {
    Kind.KNOWN: Expected(Tier.PRECOMPUTED, "encode:"),
    Kind.KNOWN_SESSION: Expected(Tier.PRECOMPUTED, "encode:"),
    Kind.VISITOR: Expected(Tier.POPULAR, "encode:"),
    Kind.UNKNOWN: Expected(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Expected(Tier.POPULAR, "rank:"),
}
WITHOUT_INDEX = {
    Kind.KNOWN: Expected(Tier.PRECOMPUTED, "retrieve:"),
    Kind.KNOWN_SESSION: Expected(Tier.PRECOMPUTED, "retrieve:"),
    Kind.VISITOR: Expected(Tier.POPULAR, "retrieve:"),
    Kind.UNKNOWN: Expected(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Expected(Tier.PERSONALIZED, "complete"),
}
"""Candidates need no index: they are ranked, and described from memory."""
WITHOUT = {
    "redis": WITHOUT_FEATURES,
    "feature_service": WITHOUT_FEATURES,
    "ranker_service": WITHOUT_RANKER,
    "qdrant": WITHOUT_INDEX,
    "mlflow": FULL,
}
STAGES = {
    "redis": (Stage.FEATURES, Stage.POPULAR, Stage.BACKFILL),
    "feature_service": (Stage.FEATURES, Stage.POPULAR, Stage.BACKFILL),
    "ranker_service": (Stage.ENCODE, Stage.RANK),
    "qdrant": (Stage.RETRIEVE,),
    "mlflow": (),
}
"""The stages that fail with each part."""

ROUNDING_MS = 3.0
"""Time between two stages that neither of them counts."""


def is_right(answered: Answered, right: dict[Kind, Expected]) -> bool:
    response = answered.response
    return response is not None and right[answered.question.kind].matches(response.tier, response.tier_reason)


def is_right_in_transition(answered: Answered, part: str) -> bool:
    """Whether the tier is right while a part fails or recovers: full service, the fallback, or a tier between them."""
    if is_right(answered, FULL):
        return True
    response, kind = answered.response, answered.question.kind
    if response is None:
        return False
    tiers = list(Tier)
    between = tiers[tiers.index(FULL[kind].tier) : tiers.index(WITHOUT[part][kind].tier) + 1]
    return response.tier in between and response.tier_reason.partition(":")[0] in (
        *STAGES[part],
        WITHOUT[part][kind].reason,
    )


def was_crowded_out(answered: Answered, lost: Collection[Stage], deadline_ms: float) -> bool:
    """Whether another process used the CPU: the request was rejected for overload, by the orchestrator or by a service
    behind it, or a stage that the fault does not affect exceeded its time."""
    if answered.response is None:
        return answered.shed
    if answered.response.tier_reason.endswith(f":{UpstreamOverloaded.code}"):
        return True
    stages = {name: spent for name, spent in answered.response.timings_ms.items() if name != "total"}
    elapsed = answered.response.timings_ms["total"] - sum(stages.values())  # the time spent queueing
    for name, spent in stages.items():
        elapsed += spent
        if Stage(name) not in lost and elapsed + ROUNDING_MS >= FAILURE_POLICY[Stage(name)].finish_by * deadline_ms:
            return True
    return False
