"""What the orchestrator can be told through the environment."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.auth import ApiKeys, RateLimits
from recsys.experiment import Experiment


class OrchestratorSettings(BaseSettings):
    # What is wrong is named without what was given, which may be a key.
    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", env_ignore_empty=True, hide_input_in_errors=True)

    feature_service_url: str = Field(validation_alias="FEATURE_SERVICE_URL")
    ranker_url: str = Field(validation_alias="RANKER_URL")
    qdrant_url: str | None = Field(default=None, validation_alias="QDRANT_URL")
    """A Qdrant server; without it the collections in `qdrant_edge_dir` are searched in this process."""
    qdrant_api_key: str | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    qdrant_edge_dir: Path | None = Field(default=None, validation_alias="QDRANT_EDGE_DIR")
    deadline_ms: float = Field(default=200.0, ge=20, le=10_000)
    """How long a request may take that does not say so itself, with the header `X-Deadline-Ms`."""
    max_concurrent: int = Field(default=16, ge=1)
    """How many requests are worked on at once."""
    max_queued: int = Field(default=16, ge=0)
    """How many more wait for their turn; others are answered 429 at once."""
    num_candidates: int = Field(default=200, ge=10, le=1000)
    """How many items are retrieved for the ranker to choose from, as long as there is time for them."""
    refresh_seconds: float = Field(default=1.0, gt=0)
    """How often the serving release and the popular items are looked up ahead of requests."""
    recall_sample: float = Field(default=0.01, ge=0, le=1)
    """The share of requests whose retrieval is repeated exactly by the ranker, to measure its recall."""
    experiment: str = "champion:100"
    """Percent of the users per variant, as `champion:90,challenger:10`."""
    shadow: bool = False
    """Whether the challenger is also asked beside answers of the champion, to log how the two differ."""
    api_keys: str = Field(default="", repr=False)
    """Who may call, as `name:key,name:key`; without any everybody may."""
    rate_limit: str | None = None
    """How often each caller may, as `1000/second` or `100/second;2000/minute`, as this process counts."""
    cors_origins: str = ""
    """Whose pages may call from a browser, as `https://shop.example,https://www.shop.example`."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")

    @field_validator("api_keys")
    @classmethod
    def _names_keys(cls, text: str) -> str:
        ApiKeys.parse(text)
        return text

    @field_validator("rate_limit")
    @classmethod
    def _limits(cls, text: str | None) -> str | None:
        if text is not None:
            RateLimits.parse(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in filter(None, text.split(",")):
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(f"{origin!r} is no origin like https://shop.example")
        return text

    @field_validator("experiment")
    @classmethod
    def _splits(cls, text: str) -> str:
        Experiment.parse(text)
        return text

    @model_validator(mode="after")
    def _has_an_index(self) -> Self:
        if self.qdrant_url is None and self.qdrant_edge_dir is None:
            raise ValueError("set QDRANT_URL (a server) or QDRANT_EDGE_DIR (a folder of embedded collections)")
        return self
