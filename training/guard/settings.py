"""Settings of the guard, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.internal_token import InternalToken
from training.guard.decision import Rules


class GuardSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GUARD_", env_ignore_empty=True, hide_input_in_errors=True)

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    event_log: str = Field(validation_alias="EVENT_LOG")
    """Where the event log's files are: a folder, or `s3://bucket/prefix`."""
    seconds: float = Field(default=60.0, gt=0)
    """Time between two looks at a ramp."""
    click_margin: float = Field(default=0.05, ge=0, lt=1)
    """How much of the click-through a release may lose, as a fraction of that of the release before."""
    largest_loss: float = Field(default=0.5, gt=0, le=1)
    """Which loss of click-through, as such a fraction, has to be ruled out before a release gets the next share."""
    lowered_margin: float = Field(default=0.01, ge=0, lt=1)
    """How much larger the share of its responses of a lower tier may be."""
    slower_margin: float = Field(default=0.5, ge=0)
    """How much longer its responses may take on average, as a fraction of the time of the release before."""
    step_minutes: float = Field(default=30.0, ge=0)
    """The time that the release serves a share before it gets the next one, ..."""
    step_impressions: int = Field(default=1000, ge=1)
    """... and the responses that it gives in that time."""
    blind_minutes: float = Field(default=15.0, gt=0)
    """How old the newest impression, and the newest event, may be before the guard says that it cannot see."""
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that calls have to carry, besides those of probes and Prometheus."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")

    @property
    def rules(self) -> Rules:
        return Rules(
            click_margin=self.click_margin,
            largest_loss=self.largest_loss,
            lowered_margin=self.lowered_margin,
            slower_margin=self.slower_margin,
            step_seconds=self.step_minutes * 60,
            step_impressions=self.step_impressions,
            blind_seconds=self.blind_minutes * 60,
        )
