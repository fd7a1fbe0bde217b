"""Ports and folders of the local runtime; addresses are derived from them."""

import os
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.settings import default_event_log

HOST = "127.0.0.1"


class LocalSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    dataset: str = "shop"
    state_dir: Path = Path(".run")
    """Folder for the state of stores and services, with a subfolder per data set."""
    orchestrator_port: int = 8000
    feature_service_port: int = 8001
    ranker_port: int = 8002
    collector_port: int = 8003
    guard_port: int = 8004
    retrainer_port: int = 8005
    mlflow_port: int = 5050
    redis_port: int = 6390
    redis_url: str | None = None
    """An external Redis, used instead of the embedded one."""
    redis_maxmemory: str | None = None
    """The memory limit of the embedded Redis, as 4gb. The default is three quarters of the machine's memory."""
    mlflow_tracking_uri: str | None = None
    """An external MLflow server, used instead of the embedded one."""
    qdrant_url: str | None = None
    """A Qdrant server, used instead of Qdrant Edge in the orchestrator's process."""
    data_dir: Path = Path("data")
    ramp: str = "100"
    """The shares of users on the way of a promotion, as `10,50,95`; `100` if it switches at once."""
    event_log: str | None = None
    """Where the collector writes: a folder or `s3://bucket/prefix`. The default is `events/<dataset>` in `data_dir`."""
    retrain_every: float | None = None
    """Hours between two runs of the retrainer. It runs in `make demo` only if this or the next setting is set."""
    retrain_after_events: int | None = None
    """Collected events after which a run starts earlier."""
    clock_file: Path | None = None
    """What services and jobs read the time of day from, for tests and simulations (`recsys/clock.py`)."""
    internal_token: SecretStr | None = None
    """Asked for by the services behind the orchestrator, if it is set."""
    log_level: str = "warning"

    @property
    def home(self) -> Path:
        return (self.state_dir / self.dataset).resolve()

    @property
    def orchestrator_url(self) -> str:
        return f"http://{HOST}:{self.orchestrator_port}"

    @property
    def feature_service_url(self) -> str:
        return f"http://{HOST}:{self.feature_service_port}"

    @property
    def ranker_url(self) -> str:
        return f"http://{HOST}:{self.ranker_port}"

    @property
    def collector_url(self) -> str:
        return f"http://{HOST}:{self.collector_port}"

    @property
    def guard_url(self) -> str:
        return f"http://{HOST}:{self.guard_port}"

    @property
    def retrainer_url(self) -> str:
        return f"http://{HOST}:{self.retrainer_port}"

    @property
    def retrains(self) -> bool:
        return self.retrain_every is not None or self.retrain_after_events is not None

    @property
    def mlflow_url(self) -> str:
        return self.mlflow_tracking_uri or f"http://{HOST}:{self.mlflow_port}"

    def environment(self) -> dict[str, str]:
        """The environment of every local service and job."""
        return {
            **os.environ,
            "REDIS_URL": self.redis_url or f"redis://{HOST}:{self.redis_port}/0",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "QDRANT_URL": self.qdrant_url or "",
            "QDRANT_EDGE_DIR": str(self.home / "qdrant"),
            "FEATURE_SERVICE_URL": self.feature_service_url,
            "RANKER_URL": self.ranker_url,
            "EVENT_LOG": self.event_log or default_event_log(self.data_dir, self.dataset),
            "RANKER_RELEASES_DIR": str(self.home / "releases"),
            "CLOCK_FILE": str(self.clock_file.resolve()) if self.clock_file else "",
            "LOG_LEVEL": self.log_level,
            "BENTOML_HOME": str(self.home / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "PYTHONUNBUFFERED": "1",
        }
