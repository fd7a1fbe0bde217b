"""Train on the log and on the collected events, and promote if it is no worse: `python -m training.jobs.retrain`.

Runs the other jobs, each in a process of its own. A run that was interrupted is continued, with the same events.
"""

import os
from functools import partial

from recsys.model.registry import CHAMPION, ModelRegistry
from training.job import run_job
from training.model_directory import require_to_serve
from training.promotion.ramp import running_ramp
from training.retraining.run import retrain, run_job_step
from training.retraining.state import state_file
from training.settings import CollectedSettings, JobSettings, RegistrySettings


def retrain_once(settings: JobSettings) -> str:
    """The job. Raises JobError if a step fails, or if the split is for measuring only."""
    require_to_serve(settings)
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    return retrain(
        state_file(settings),
        champion=lambda: registry.aliases().get(CHAMPION),
        run_step=partial(run_job_step, environment=os.environ),
        until=CollectedSettings().events_until,
        ramping=lambda: running_ramp(registry),
    )


if __name__ == "__main__":
    run_job("retrain", retrain_once)
