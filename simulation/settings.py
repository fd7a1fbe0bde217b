"""Settings of the simulated shop, read from the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SimulationSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    data_dir: Path = Path("data")
    """The result is in `reports/` of it, and what every seed leaves behind in `simulation/`."""
    seeds: int = Field(default=3, ge=1)
    """How many shops are simulated, each with its own items, visitors and choices."""
