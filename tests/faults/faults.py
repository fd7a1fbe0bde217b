"""What can happen to a part, and what every kind of request is answered with while it does."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from recsys.contracts.recommendation import Tier
from recsys.errors import UpstreamOverloaded
from recsys.stages import FAILURE_POLICY, Stage
from tests.engines import Process
from tests.fault_proxy import PASSING, Behaviour, FaultProxy
from tests.faults.expected import Answered, Kind

# --- the faults -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[Process, FaultProxy], None]
    end: Callable[[Process, FaultProxy], None]
    endurable: bool = False
    """Whether it can be lived with: full service all the while."""


def _start_again(process: Process, _: FaultProxy) -> None:
    process.start()
    process.wait_until_up()


def _behaves(name: str, behaviour: Behaviour, *, endurable: bool = False) -> Fault:
    return Fault(
        name,
        begin=lambda _, cable: cable.behave(behaviour),
        end=lambda _, cable: cable.behave(PASSING),
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
"""No HTTP, no JSON, no text; JSON of no shape and of Qdrant's shape with nothing right in it."""
RESP_GARBAGE = (b"\x00\xff\xfe no RESP at all\r\n", b"$-7\r\n", b"+OK\r\n" * 8, b":1\r\n" * 8, b"*1\r\n" * 8)
"""No RESP, and RESP that answers another question."""


def faults_of(part: str) -> list[Fault]:
    return [
        Fault("killed", begin=lambda process, _: process.kill(), end=_start_again),
        Fault("frozen", begin=lambda process, _: process.freeze(), end=lambda process, _: process.thaw()),
        _behaves("50 ms slower", Behaviour(delay_seconds=0.05), endurable=True),
        _behaves("500 ms slower", Behaviour(delay_seconds=0.5)),
        _behaves("resets", Behaviour(resets=True)),
        _behaves("garbage", Behaviour(garbage=RESP_GARBAGE if part == "redis" else HTTP_GARBAGE)),
    ]


# --- what is right ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Right:
    tier: Tier
    reason: str
    """How the reason begins: `complete`, or the stage that was missed."""

    def fits(self, tier: Tier, reason: str) -> bool:
        return tier == self.tier and reason.startswith(self.reason)


FULL = {
    Kind.KNOWN: Right(Tier.PERSONALIZED, "complete"),
    Kind.KNOWN_SESSION: Right(Tier.PERSONALIZED, "complete"),
    Kind.VISITOR: Right(Tier.PERSONALIZED, "complete"),
    Kind.UNKNOWN: Right(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Right(Tier.PERSONALIZED, "complete"),
}
WITHOUT_FEATURES = {
    Kind.KNOWN: Right(Tier.STATIC, "features:"),
    Kind.KNOWN_SESSION: Right(Tier.PERSONALIZED, "features:"),
    Kind.VISITOR: Right(Tier.PERSONALIZED, "features:"),
    Kind.UNKNOWN: Right(Tier.STATIC, "features:"),
    Kind.CANDIDATES: Right(Tier.POPULAR, "features:"),
}
"""A session makes up for the features; candidates are ranked for nobody in particular."""
WITHOUT_RANKER = {
    Kind.KNOWN: Right(Tier.PRECOMPUTED, "encode:"),
    Kind.KNOWN_SESSION: Right(Tier.PRECOMPUTED, "encode:"),
    Kind.VISITOR: Right(Tier.POPULAR, "encode:"),
    Kind.UNKNOWN: Right(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Right(Tier.POPULAR, "rank:"),
}
WITHOUT_INDEX = {
    Kind.KNOWN: Right(Tier.PRECOMPUTED, "retrieve:"),
    Kind.KNOWN_SESSION: Right(Tier.PRECOMPUTED, "retrieve:"),
    Kind.VISITOR: Right(Tier.POPULAR, "retrieve:"),
    Kind.UNKNOWN: Right(Tier.POPULAR, "unknown_user"),
    Kind.CANDIDATES: Right(Tier.PERSONALIZED, "describe:"),
}
"""Candidates are ranked as ever, but have no titles."""
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
    "qdrant": (Stage.RETRIEVE, Stage.DESCRIBE),
    "mlflow": (),
}
"""Whose work is lost with a part."""


ROUNDING_MS = 3.0
"""What passes between two stages, and is in the time of neither."""


def is_right(answered: Answered, right: dict[Kind, Right]) -> bool:
    answer = answered.answer
    return answer is not None and right[answered.asked.kind].fits(answer.tier, answer.tier_reason)


def is_right_on_the_turn(answered: Answered, part: str) -> bool:
    """Whether it is in the moments when a part goes or comes back: the one, the other, or what lies between."""
    if is_right(answered, FULL):
        return True
    answer, kind = answered.answer, answered.asked.kind
    if answer is None:
        return False
    tiers = list(Tier)
    between = tiers[tiers.index(FULL[kind].tier) : tiers.index(WITHOUT[part][kind].tier) + 1]
    return answer.tier in between and answer.tier_reason.partition(":")[0] in (
        *STAGES[part],
        WITHOUT[part][kind].reason,
    )


def was_crowded_out(answered: Answered, lost: Collection[Stage], deadline_ms: float) -> bool:
    """Whether the machine was busy with something else: it was refused for that, by us or by a hop, or a stage that is
    not lost ran out of its time."""
    if answered.answer is None:
        return answered.shed
    if answered.answer.tier_reason.endswith(f":{UpstreamOverloaded.code}"):
        return True
    stages = {name: spent for name, spent in answered.answer.timings_ms.items() if name != "total"}
    elapsed = answered.answer.timings_ms["total"] - sum(stages.values())  # what it waited for its turn
    for name, spent in stages.items():
        elapsed += spent
        if Stage(name) not in lost and elapsed + ROUNDING_MS >= FAILURE_POLICY[Stage(name)].finish_by * deadline_ms:
            return True
    return False
