"""Settings of the benchmarks, read from the environment."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ARRIVAL_SHARE = 1 / 4
"""The share of the events in which all idle users arrive."""
WARM_UP_SHARE = 1 / 2
"""The share of the time in which, besides, pools fill and the first old releases and lists are removed. Redis's
allocator needs most of it until its process is as large as it gets for data of a fixed size."""
NUMBERS = r"[0-9]+(,[0-9]+)*"


class BenchSettings(BaseSettings):
    """What `make bench` measures."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    bench_items: int = Field(default=60_000, ge=1_000)
    bench_users: int = Field(default=100_000, ge=1_000)
    """The size of the generated log."""
    bench_seconds: float = Field(default=8.0, ge=1)
    """How long each measurement lasts."""
    bench_rounds: int = Field(default=3, ge=1)
    """How often the comparison is measured; the medians are reported. Everything else is measured once."""
    bench_ray: bool = True
    """Whether to measure the Ray Serve composition, which is installed at the first time."""
    bench_previous: str | None = None
    """A commit or tag of this repository, measured beside the current version."""
    bench_tables: bool = False
    """Whether to measure further catalogues and numbers of users, each on a stack of its own. At the first time it
    trains for several minutes for each of them."""
    bench_catalogues: str = Field(default="10000,200000", pattern=NUMBERS)
    bench_populations: str = Field(default="20000,500000", pattern=NUMBERS)
    """The sizes of the further catalogues, and the numbers of users, besides those above."""
    qdrant_url: str | None = None
    """A Qdrant server with the collection, to measure searches on. By default a stub answers them."""
    bench_page: Path | None = None
    """A page whose tables are replaced."""

    @property
    def size(self) -> tuple[int, int]:
        """Items and users of the stack that everything else is measured on."""
        return self.bench_items, self.bench_users

    @property
    def other_sizes(self) -> list[tuple[int, int]]:
        """Items and users of the stacks of BENCH_TABLES."""
        if not self.bench_tables:
            return []
        catalogues = [(int(items), self.bench_users) for items in self.bench_catalogues.split(",")]
        populations = [(self.bench_items, int(users)) for users in self.bench_populations.split(",")]
        return [size for size in catalogues + populations if size != self.size]


class SoakSettings(BaseSettings):
    """The size of `make soak`."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    soak_minutes: float = Field(default=30.0, gt=0)
    """How long the traffic lasts; longer if the promotions or the events take more time."""
    soak_promotions: int = Field(default=30, ge=1)
    """How many releases are registered and promoted, at even intervals."""
    soak_events: int = Field(default=1_000_000, ge=1_000)
    """How many events are sent, besides those that fill the histories of the active users at the start."""
    soak_users: int = Field(default=200_000, ge=2)
    """How many users have events. Those that are not active send one each, in the first quarter of the time."""
    soak_active_users: int = Field(default=2_000, ge=1)
    """How many of them send the other events and get recommendations."""
    soak_table: Path | None = None
    """A page whose table of results is replaced if the soak succeeds."""

    @property
    def idle_users(self) -> int:
        return self.soak_users - self.soak_active_users

    @property
    def arrival_events(self) -> int:
        """The number of the event before which the last idle user arrives."""
        return int(self.soak_events * ARRIVAL_SHARE)

    @model_validator(mode="after")
    def _users_fit(self) -> Self:
        if self.idle_users < 0:
            raise ValueError(f"there cannot be {self.soak_active_users:,} active ones among {self.soak_users:,} users")
        if self.idle_users > self.arrival_events:
            raise ValueError(
                f"{self.idle_users:,} users that send one event each do not fit into the first quarter of "
                f"{self.soak_events:,} events; SOAK_EVENTS must be at least four times as many"
            )
        return self
