"""The gate of `promote`: a candidate must not rank worse than the champion, measured now on the same held-out items.

Both are measured by their validation fits: the final fits, which serve, have learned from such items.

Each promotion may lose a little, within `PROMOTE_MARGIN`. So that small losses do not add up, the candidate is compared
with the best release so far as well, which is measured now, too.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import JobError, ReleaseDamaged, ReleaseNotLoaded, ReleaseRefused
from recsys.model.registry import ModelRegistry
from recsys.model.release_manifest import ReleaseManifest
from training.evaluation.held_out import HeldOut, gains_on, load_held_out
from training.evaluation.metrics import bootstrap_interval
from training.promotion.rolled_back import rolled_back
from training.settings import JobSettings

METRIC = "ndcg_at_10"
GATE_TAG = "gate"
GATE_USERS = 2_000
"""Users that releases are compared on, at most: about 10 s per release. Between two trainings of the same model, the
standard error of the difference is then about 2% of the value."""

Gains = NDArray[np.float64]
"""[users]: each user's NDCG@10."""


class GateRecord(BaseModel):
    """The tag `gate` of a version that passed: what it was compared with when it was promoted."""

    model_config = ConfigDict(frozen=True)

    best: int
    """The version with the best NDCG@10 of those that were compared. The next candidate is compared with it, too."""
    measured: dict[int, float] = {}
    """NDCG@10 by version; empty if nothing was compared."""
    users: int = 0
    """The users that it was measured on; 0 for stored metrics."""


class Opponent(NamedTuple):
    """A release that the candidate is compared with."""

    version: int
    role: str


class Comparison(NamedTuple):
    """A candidate and an opponent on the same users."""

    candidate: int
    opponent: Opponent
    ours: float
    theirs: float
    interval: tuple[float, float]
    """The 95% interval of the difference."""
    seen: str = ""
    """What the opponent had or had not seen, if that matters."""

    def refused(self, margin: float) -> bool:
        """Whether the candidate loses more than `margin`, a share of the opponent's value, and not by chance."""
        return self.ours < self.theirs * (1 - margin) and self.interval[1] < 0

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"version {self.candidate} has NDCG@10 {self.ours:.4f} and {self.opponent.role}, "
            f"version {self.opponent.version}, {self.theirs:.4f}: {self.ours - self.theirs:+.4f} "
            f"(95% interval {low:+.4f} to {high:+.4f}){self.seen and f', {self.seen}'}"
        )


def pass_gate(
    registry: ModelRegistry, version: int, champion: int, settings: JobSettings, margin: float
) -> tuple[GateRecord, str]:
    """The record to tag the version with, and one line about it.

    Raises ReleaseRefused if the version is worse than the champion or the best release, and JobError if it cannot be
    compared.
    """
    opponents = [Opponent(champion, "the champion"), *_best_so_far(registry, version, champion)]
    manifest = registry.manifest_of(version)
    try:
        held_out = load_held_out(settings, manifest.data_hash, GATE_USERS)
    except JobError as error:
        return _compare_stored(registry, version, manifest.data_hash, opponents, margin, str(error))
    users = len(held_out.examples)
    print(f"promote: comparing version {version} on the held-out items of {users:,} users ...", flush=True)
    gains = {version: _gains_of(registry, version, "the candidate", held_out)}
    for opponent in opponents:
        gains[opponent.version] = _gains_of(registry, opponent.version, opponent.role, held_out)
    comparisons = [
        compare(version, opponent, gains, settings.seed)._replace(
            seen=what_it_saw(
                registry.manifest_of(opponent.version), manifest, held_out, gains[version], gains[opponent.version]
            )
        )
        for opponent in opponents
    ]
    on_users = f"on the held-out items of the same {users:,} users"
    for comparison in comparisons:
        if comparison.refused(margin):
            raise ReleaseRefused(f"{comparison}, {on_users}; {_allowed(margin)}")
    means = {each: float(found.mean()) for each, found in gains.items()}
    record = GateRecord(best=_best(means), measured=means, users=users)
    return record, f"{'; '.join(map(str, comparisons))}, {on_users}"


def compare(version: int, opponent: Opponent, gains: dict[int, Gains], seed: int) -> Comparison:
    """`gains` by version, of the same users in the same order."""
    ours, theirs = gains[version], gains[opponent.version]
    interval = bootstrap_interval(ours - theirs, seed)
    return Comparison(version, opponent, float(ours.mean()), float(theirs.mean()), interval)


def what_it_saw(
    opponent: ReleaseManifest, candidate: ReleaseManifest, held_out: HeldOut, ours: Gains, theirs: Gains
) -> str:
    """A clause about what the opponent had seen of the candidate's held-out items; empty if it cannot be known.

    An opponent of earlier data has seen none of them: a user's items that were for training remain before the held-out
    ones when more items follow.
    """
    if opponent.ends_after(candidate.events_until):
        return (
            f"which learned from events until {opponent.events_until}, after the end of this data: it may have seen "
            "held-out items, which is in its favour"
        )
    if opponent.events_until is None:
        return ""
    later = held_out.times >= datetime.fromisoformat(opponent.events_until).timestamp()
    if not later.any():
        return "with no held-out item from after what it learned from"
    return (
        f"for the {int(later.sum()):,} users whose item came after what it learned from {ours[later].mean():.4f} and "
        f"{theirs[later].mean():.4f}"
    )


def gate_record(tags: Mapping[str, str]) -> GateRecord | None:
    """The record among the tags of a version; None if it was promoted without one."""
    try:
        return GateRecord.model_validate_json(tags.get(GATE_TAG, ""))
    except ValidationError:
        return None


def _best_so_far(registry: ModelRegistry, version: int, champion: int) -> list[Opponent]:
    """The best release that the champion was compared with, unless that is the champion or it was rolled back."""
    record = gate_record(registry.tags_of(champion))
    if record is None or record.best in (version, champion):
        return []
    try:
        was_rolled_back = rolled_back(registry.tags_of(record.best)) is not None
    except ReleaseNotLoaded:  # it was deleted from the registry
        return []
    return [] if was_rolled_back else [Opponent(record.best, "the best release so far")]


def _gains_of(registry: ModelRegistry, version: int, role: str, held_out: HeldOut) -> Gains:
    with TemporaryDirectory() as scratch:
        try:
            registry.fetch_validation_fit(version, Path(scratch))
            return gains_on(held_out, Path(scratch))
        except ReleaseDamaged as error:
            raise JobError(
                f"{role}, version {version}, cannot be measured: {error}; FORCE=1 promotes without a comparison"
            ) from error


def _compare_stored(
    registry: ModelRegistry, version: int, data_hash: str, opponents: Sequence[Opponent], margin: float, reason: str
) -> tuple[GateRecord, str]:
    """Compare the metrics of `make evaluate`, which are comparable if both releases were evaluated on the same data.

    `reason` says why they cannot be measured now. Opponents that were evaluated on other data are left out, but the
    champion must not be.
    """
    champion = opponents[0]
    comparable = [opponent for opponent in opponents if _data_hash_of(registry, opponent) == data_hash]
    if champion not in comparable:
        raise JobError(
            f"version {version} cannot be compared with the champion, version {champion.version}: {reason}, and the "
            f"champion was evaluated on other data; `make pipeline` prepares and trains, and FORCE=1 promotes version "
            f"{version} without a comparison"
        )
    stored = {
        each: float(registry.tags_of(each).get(METRIC, 0)) for each in (version, *(o.version for o in comparable))
    }
    for opponent in comparable:
        if stored[version] < stored[opponent.version] * (1 - margin):
            raise ReleaseRefused(
                f"version {version} has {METRIC} {stored[version]:.4f} and {opponent.role}, version "
                f"{opponent.version}, {stored[opponent.version]:.4f}, as stored by `make evaluate`; {_allowed(margin)}"
            )
    unmeasured = [opponent.version for opponent in opponents if opponent not in comparable]
    best = unmeasured[0] if unmeasured else _best(stored)
    line = f"version {version} is no worse by the stored {METRIC} {stored}, because they cannot be measured: {reason}"
    return GateRecord(best=best, measured=stored), line


def _data_hash_of(registry: ModelRegistry, opponent: Opponent) -> str | None:
    try:
        return registry.manifest_of(opponent.version).data_hash
    except ReleaseDamaged:
        return None


def _best(measured: Mapping[int, float]) -> int:
    """The version with the highest value, the newest of equals."""
    return max(measured, key=lambda version: (measured[version], version))


def _allowed(margin: float) -> str:
    return f"at most {margin:.1%} less is allowed; FORCE=1 promotes it anyway"
