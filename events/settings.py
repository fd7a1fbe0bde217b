"""Settings of the collector and of the report on releases, read from the environment."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.attribution.attribute import DEFAULT_WINDOW_SECONDS, MAX_WINDOW_SECONDS, AttributionRules
from recsys.experiment import Experiment
from recsys.internal_token import InternalToken


def default_event_log(data_dir: Path, dataset: str) -> str:
    """Where the files are without a setting, for programs that run outside containers."""
    return str((data_dir / "events" / dataset).resolve())


class ReportSettings(BaseSettings):
    """Of the report on releases, whoever makes it."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    attribution_minutes: float = Field(default=DEFAULT_WINDOW_SECONDS / 60, gt=0, le=MAX_WINDOW_SECONDS / 60)
    """How long after an impression an event with its recommendation_id belongs to it."""
    report_days: int = Field(default=28, ge=1, le=366)
    """How many days, up to today in UTC, a report counts."""
    experiment: str = Field(default="champion:100", validation_alias="ORCHESTRATOR_EXPERIMENT")
    """The shares that the users of today are compared with."""

    @field_validator("experiment")
    @classmethod
    def _check_experiment(cls, text: str) -> str:
        Experiment.parse(text)
        return text

    @property
    def rules(self) -> AttributionRules:
        return AttributionRules(window_seconds=self.attribution_minutes * 60)


class CollectorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="COLLECTOR_", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: str = Field(validation_alias="REDIS_URL")
    event_log: str = Field(validation_alias="EVENT_LOG")
    """Where the files are: a folder, or `s3://bucket/prefix`."""
    seconds: float = Field(default=60.0, gt=0)
    """Time between two passes over the streams. Each pass writes at most a file per stream and day."""
    report_seconds: float = Field(default=60.0, gt=0, validation_alias="REPORT_SECONDS")
    """Time between two reports on releases; longer if one takes long."""
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry, besides those of probes and Prometheus."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")
