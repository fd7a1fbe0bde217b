"""Settings of the orchestrator, read from the environment."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.api_keys import ApiKeys
from orchestrator.auth import RateLimits
from recsys.adapters.replicas import split_urls
from recsys.contracts.base import MAX_CANDIDATES, NUM_CANDIDATES
from recsys.experiment import Experiment
from recsys.internal_token import InternalToken


class OrchestratorSettings(BaseSettings):
    # Error messages must not repeat the input, because it may contain a key.
    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", env_ignore_empty=True, hide_input_in_errors=True)

    feature_service_url: str = Field(validation_alias="FEATURE_SERVICE_URL")
    ranker_url: str = Field(validation_alias="RANKER_URL")
    """One or several URLs, separated by commas. Every address of a name is a replica."""
    qdrant_url: str | None = Field(default=None, validation_alias="QDRANT_URL")
    """The URL of a Qdrant server. Without it the collections in `qdrant_edge_dir` are searched in this process."""
    qdrant_api_key: str | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    qdrant_edge_dir: Path | None = Field(default=None, validation_alias="QDRANT_EDGE_DIR")
    internal_token: InternalToken | None = Field(default=None, validation_alias="INTERNAL_TOKEN")
    """The secret that the feature service and the ranker ask for."""
    deadline_ms: float = Field(default=200.0, ge=20, le=10_000)
    """The deadline of requests without the header `X-Deadline-Ms`."""
    max_concurrent: int = Field(default=16, ge=1)
    """Requests processed at the same time."""
    max_queued: int = Field(default=16, ge=0)
    """Requests that may wait in the queue. Further ones get status 429 at once."""
    num_candidates: int = Field(default=NUM_CANDIDATES, ge=10, le=MAX_CANDIDATES)
    """Items retrieved for the ranker; fewer while recommendations are slow."""
    refresh_seconds: float = Field(default=1.0, gt=0)
    """Time between two refreshes of the serving releases and the popular items."""
    recall_sample: float = Field(default=0.01, ge=0, le=1)
    """The fraction of retrievals that the ranker repeats exactly, to measure their recall."""
    explore_share: float = Field(default=0.0, ge=0, le=0.5, validation_alias="EXPLORE_SHARE")
    """The fraction of pages on which two places show random items of the shortlist."""
    experiment: str = "champion:100"
    """Percentage of users per variant, as `champion:90,challenger:10`."""
    shadow: bool = False
    """Whether to also ask the challenger for the champion's requests, to log how the two differ."""
    api_keys: str = Field(default="", repr=False)
    """API keys, as `name:key,name:key:scope+scope`. If empty, no key is required, and callers may do everything."""
    rate_limit: str | None = None
    """Rate limit per caller and process, as `1000/second` or `100/second;2000/minute`."""
    cors_origins: str = ""
    """Origins whose pages may call from a browser, as `https://shop.example,https://www.shop.example`."""
    log_level: str = Field(default="info", validation_alias="LOG_LEVEL")

    @field_validator("ranker_url")
    @classmethod
    def _check_ranker_url(cls, text: str) -> str:
        split_urls(text)
        return text

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, text: str) -> str:
        ApiKeys.parse(text)
        return text

    @field_validator("rate_limit")
    @classmethod
    def _check_rate_limit(cls, text: str | None) -> str | None:
        if text is not None:
            RateLimits.parse(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, text: str) -> str:
        for origin in filter(None, text.split(",")):
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(f"{origin!r} is not an origin like https://shop.example")
        return text

    @field_validator("experiment")
    @classmethod
    def _check_experiment(cls, text: str) -> str:
        Experiment.parse(text)
        return text

    @model_validator(mode="after")
    def _check_index(self) -> Self:
        if self.qdrant_url is None and self.qdrant_edge_dir is None:
            raise ValueError("set QDRANT_URL (a server) or QDRANT_EDGE_DIR (a folder of embedded collections)")
        return self
