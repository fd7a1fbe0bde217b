"""Where the ramp of a promotion stands, and how it moves. It is one tag, so every step is whole or did not happen."""

from typing import NamedTuple

from recsys import clock
from recsys.errors import JobError
from recsys.model.registry import CHAMPION, PREVIOUS, ModelRegistry
from recsys.ramp import EVERYBODY, RAMP_TAG, Ramp


class RunningRamp(NamedTuple):
    champion: int
    ramp: Ramp

    def __str__(self) -> str:
        shares = f"{self.ramp.percent:g}% of the users, version {self.ramp.before} the others"
        return f"version {self.champion} serves {shares}"


def running_ramp(registry: ModelRegistry) -> RunningRamp | None:
    """The ramp of the champion; None if it serves everybody. Raises JobError if its tag cannot be read."""
    aliases = registry.aliases()
    champion = aliases.get(CHAMPION)
    if champion is None:
        return None
    try:
        ramp = Ramp.of(registry.tags_of(champion))
    except ValueError:
        raise JobError(f"the tag {RAMP_TAG!r} of version {champion} is not a ramp; delete it in MLflow") from None
    return RunningRamp(champion, ramp) if ramp is not None and ramp.before == aliases.get(PREVIOUS) else None


def begin_ramp(registry: ModelRegistry, version: int, before: int, steps: tuple[float, ...]) -> None:
    """Say how the version will serve once it is the champion: everybody at once, without `steps`."""
    if not steps:
        registry.delete_tag(version, RAMP_TAG)
        return
    now = clock.now()
    ramp = Ramp(before=before, percent=steps[0], steps=steps, started=now, since=now)
    registry.set_tag(version, RAMP_TAG, ramp.model_dump_json())


def move_ramp(registry: ModelRegistry, running: RunningRamp, percent: float) -> RunningRamp | None:
    """Give the champion this share of the users. With 100 the ramp ends, which returns None."""
    if percent >= EVERYBODY:
        registry.delete_tag(running.champion, RAMP_TAG)
        return None
    moved = running.ramp.model_copy(update={"percent": percent, "since": clock.now()})
    registry.set_tag(running.champion, RAMP_TAG, moved.model_dump_json())
    return running._replace(ramp=moved)


def require_no_ramp(registry: ModelRegistry) -> None:
    """Raises JobError while a promotion ramps: its release is not proven, so none may follow it."""
    running = running_ramp(registry)
    if running is not None:
        raise JobError(
            f"a promotion ramps: {running}; wait until it ends, or end it with `make ramp SHARE=100` or `make rollback`"
        )
