"""Move the ramp of a promotion by hand: `python -m training.jobs.ramp`, to SHARE or to its next step."""

from recsys.errors import JobError
from recsys.model.registry import ModelRegistry
from training.job import run_job
from training.promotion.lease import promotion_lease
from training.promotion.ramp import move_ramp, running_ramp
from training.settings import JobSettings, RegistrySettings, ReleaseSettings


def ramp(_: JobSettings) -> str:
    """The job. Raises JobError if no promotion ramps, or while another job changes the champion."""
    registry, wanted = ModelRegistry(RegistrySettings().mlflow_tracking_uri), ReleaseSettings()
    with promotion_lease(registry, "ramp") as lease:
        running = running_ramp(registry)
        if running is None:
            raise JobError("no promotion ramps; the champion serves everybody")
        share = running.ramp.next_percent if wanted.share is None else wanted.share
        lease.require()
        moved = move_ramp(registry, running, share)
    return str(moved or f"version {running.champion} serves everybody, version {running.ramp.before} stays warm")


if __name__ == "__main__":
    run_job("ramp", ramp)
