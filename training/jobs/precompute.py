"""Renew the champion's lists for the users who were active last: `python -m training.jobs.precompute`.

`promote` stores the lists of a new champion itself. Run this job every day, because lists do not follow new events and
expire after a week.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from recsys.errors import JobError
from recsys.model.registry import CHAMPION, ModelRegistry
from recsys.model.release import Release
from training.job import run_job
from training.precomputed_lists import store_lists
from training.settings import JobSettings, RegistrySettings


def precompute(_: JobSettings) -> str:
    """The job. Raises JobError if there is no champion."""
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    champion = registry.aliases().get(CHAMPION)
    if champion is None:
        raise JobError("there is no champion; run `make promote` first")
    with TemporaryDirectory() as scratch:
        registry.fetch(champion, Path(scratch))
        release = Release.load(champion, Path(scratch))
    return store_lists(release, champion)


if __name__ == "__main__":
    run_job("precompute", precompute)
