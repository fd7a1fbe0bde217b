"""Make the previous champion the champion again: `python -m training.jobs.rollback`. The rankers keep it loaded.

The release that is taken back is tagged with REASON and the time, and `promote` refuses it until FORCE is set.
"""

from recsys.errors import JobError
from recsys.model.registry import CHAMPION, PREVIOUS, ModelRegistry
from training.job import run_job
from training.promotion.lease import promotion_lease
from training.promotion.rolled_back import ROLLED_BACK_TAG, RolledBack, rolled_back
from training.settings import JobSettings, RegistrySettings, ReleaseSettings


def rollback(_: JobSettings) -> str:
    """The job. A second run undoes the first. Raises JobError if there is no previous champion, or while another job
    changes the champion; with FORCE, that job fails instead.
    """
    registry, wanted = ModelRegistry(RegistrySettings().mlflow_tracking_uri), ReleaseSettings()
    with promotion_lease(registry, "rollback", take_over=wanted.force) as lease:
        champion, previous = _champion_and_previous(registry.aliases())
        undone = rolled_back(registry.tags_of(previous)) is not None
        if not undone:
            registry.set_tag(champion, ROLLED_BACK_TAG, RolledBack.now(wanted.reason).model_dump_json())
        lease.require()
        registry.set_alias(CHAMPION, previous)
        registry.set_alias(PREVIOUS, champion)
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


if __name__ == "__main__":
    run_job("rollback", rollback)
