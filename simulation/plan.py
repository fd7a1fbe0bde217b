"""What happens when: the numbers of the experiment. A finished seed is simulated again if one of them changes."""

from pydantic import BaseModel, ConfigDict

from simulation.population import Habits
from simulation.world import Assortment


class Plan(BaseModel):
    """Days are simulated ones. While a job runs, the clock stands still and nobody visits."""

    model_config = ConfigDict(frozen=True)

    visitors: int = 600
    """Of each policy."""
    visits_per_day: float = 240.0
    """Of the visitors of a policy together."""
    mean_steps: float = 3.0
    with_pages: float = 0.5
    taste_changes: float = 0.06
    page_items: int = 10

    first_day: int = 210
    """The first day of the log, which has no recommendations; days count from the beginning of the catalogue's year."""
    opening_day: int = 240
    """The first release begins to serve."""
    days_before: int = 3
    """Days with the first release before the season changes, ..."""
    days_of_drift: int = 12
    """... and after it."""
    days_after_first: int = 12
    """Days with the release of the first retraining."""
    days_after_second: int = 4
    days_with_bad: int = 1
    """At least; they go on until the bad release is taken back."""
    new: float = 0.2
    """The share of all items that launch with the season."""
    replaced: float = 0.2
    gone_daily: float = 0.001
    season_changes: float = 0.5

    train_minutes: float = 3.0
    """As in TRAIN_MINUTES. A retraining, which starts from the champion, takes a third of it."""
    bad_train_minutes: float = 0.5
    most_days: int = 20
    """How long the guard may take to end a ramp."""
    ramp: str = "20,50"
    """As in RAMP. The first share is larger than usual, so that a ramp needs fewer days."""
    guard_step_impressions: int = 100
    """Fewer than the 1,000 that the guard asks for by default, for the same reason."""
    equal_releases: int = 20
    """In all seeds together."""

    @property
    def season_day(self) -> int:
        return self.opening_day + self.days_before

    @property
    def first_retraining(self) -> int:
        return self.season_day + self.days_of_drift

    @property
    def second_retraining(self) -> int:
        return self.first_retraining + self.days_after_first

    @property
    def bad_day(self) -> int:
        return self.second_retraining + self.days_after_second

    @property
    def habits(self) -> Habits:
        return Habits(self.visits_per_day, self.mean_steps, self.with_pages, self.taste_changes, self.season_changes)

    @property
    def assortment(self) -> Assortment:
        return Assortment(self.first_day, self.season_day, self.new, self.replaced, self.gone_daily)

    def equal_releases_of(self, seed: int, seeds: int) -> int:
        """How many of the equal releases the seed tries; seeds count from 1."""
        return self.equal_releases // seeds + (seed <= self.equal_releases % seeds)
