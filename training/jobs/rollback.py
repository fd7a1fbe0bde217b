"""Make the previous champion the champion again: `python -m training.jobs.rollback`. The rankers keep it loaded.

The release that is taken back is tagged with REASON and the time, and `promote` refuses it until FORCE is set. A ramp
ends.
"""

from recsys.model.registry import ModelRegistry
from training.job import run_job
from training.promotion.lease import promotion_lease
from training.promotion.take_back import take_back
from training.settings import JobSettings, RegistrySettings, ReleaseSettings


def rollback(_: JobSettings) -> str:
    """The job. A second run undoes the first. Raises JobError if there is no previous champion, or while another job
    changes the champion; with FORCE, that job fails instead.
    """
    registry, wanted = ModelRegistry(RegistrySettings().mlflow_tracking_uri), ReleaseSettings()
    with promotion_lease(registry, "rollback", take_over=wanted.force) as lease:
        return take_back(registry, lease, wanted.reason)


if __name__ == "__main__":
    run_job("rollback", rollback)
