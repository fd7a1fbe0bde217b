"""Take the champion back: the release before it serves everybody, and the one that goes is tagged with the reason."""

from recsys.errors import JobError
from recsys.model.registry import CHAMPION, PREVIOUS, ModelRegistry
from recsys.ramp import RAMP_TAG
from training.promotion.lease import Lease
from training.promotion.rolled_back import ROLLED_BACK_TAG, RolledBack, rolled_back


def take_back(registry: ModelRegistry, lease: Lease, reason: str | None) -> str:
    """Returns one line. The tag is written before the aliases move, so a run that was killed can be repeated.

    If the release before was itself taken back, that is undone. Raises JobError if there is no release to go back to,
    or if the lease was lost.
    """
    champion, previous = _champion_and_previous(registry.aliases())
    undone = rolled_back(registry.tags_of(previous)) is not None
    if undone:
        registry.delete_tag(previous, RAMP_TAG)  # it comes back for everybody
    else:
        registry.set_tag(champion, ROLLED_BACK_TAG, RolledBack.now(reason).model_dump_json())
    lease.require()
    registry.set_alias(CHAMPION, previous)
    registry.set_alias(PREVIOUS, champion)
    registry.delete_tag(champion, RAMP_TAG)
    if undone:
        registry.delete_tag(previous, ROLLED_BACK_TAG)
    outcome = "its rollback is undone" if undone else f"`make promote VERSION={champion}` now requires FORCE=1"
    return f"version {previous} is the champion again, version {champion} stays warm; {outcome}"


def _champion_and_previous(aliases: dict[str, int]) -> tuple[int, int]:
    """Raises JobError if one of them is missing."""
    champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
    if champion is None or previous is None or champion == previous:
        raise JobError(f"there is no release to go back to; the champion is {champion}, the one before {previous}")
    return champion, previous
