"""Make the previous champion the champion again: `python -m training.jobs.rollback`. The rankers keep it loaded."""

from recsys.errors import JobError
from recsys.model.registry import CHAMPION, PREVIOUS, ModelRegistry
from training.job import run_job
from training.settings import JobSettings, RegistrySettings


def rollback(_: JobSettings) -> str:
    """The job. A second run undoes the first. Raises JobError if there is no previous champion."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    aliases = registry.aliases()
    champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
    if champion is None or previous is None or champion == previous:
        raise JobError(f"there is no release to go back to; the champion is {champion}, the one before {previous}")
    registry.set_alias(CHAMPION, previous)
    registry.set_alias(PREVIOUS, champion)
    return f"version {previous} is the champion again, version {champion} stays warm"


if __name__ == "__main__":
    run_job("rollback", rollback)
