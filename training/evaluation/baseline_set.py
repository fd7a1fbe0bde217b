"""All baselines of a data set, in the protocol of the model: which of them apply, and the best one on validation.

What they learn from is the training part, as for the model. Those with a clock count what happened before the window:
a shop has such counts live, so they are allowed the events between training and test, as the histories are.
"""

from typing import NamedTuple

import numpy as np

from training.datasets.sequences import History, Sequences
from training.evaluation.baselines import (
    CovisitationScorer,
    EaseScorer,
    LastBasketScorer,
    OwnCountsScorer,
    OwnCountsThenPopularityScorer,
    OwnLatestScorer,
    PopularityScorer,
)
from training.evaluation.metrics import ndcg_at_k
from training.evaluation.ranking import Ranking, Scorer, rank_by_shared_scores, rank_held_out, ranks_of_held_out
from training.evaluation.recent_popularity import counts_of_days, decayed_counts
from training.evaluation.windows import Window
from training.models.cooccurrence import directed_cooccurrence
from training.models.ease import ease_weights

WEEK, MONTH = 7, 30
"""Days."""
HALF_LIVES_DAYS = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 180.0)
MAX_EASE_ITEMS = 20_000
"""The baseline is left out for larger catalogues: EASE inverts a dense matrix of the catalogue's size."""
OWN = ("own_counts", "own_latest", "own_counts_popularity")
TIMED = ("popularity_7_days", "popularity_30_days", "popularity_decayed", "own_counts_popularity", "last_basket")


class Chosen(NamedTuple):
    """What was chosen on validation."""

    best: str
    """The name of the best baseline."""
    half_life_days: float | None
    """Of popularity with decay; None for data without times."""
    ndcg_at_10: dict[str, float]
    """NDCG@10 of all baselines on validation."""


class BaselineSet:
    def __init__(self, sequences: Sequences, *, exclude_seen: bool) -> None:
        self._num_items = sequences.num_items
        self._exclude_seen = exclude_seen
        self._has_times = sequences.has_times
        covisitation = CovisitationScorer(directed_cooccurrence(sequences))
        self._untimed: dict[str, Scorer] = {
            "popularity": PopularityScorer(sequences.train_counts()),
            "covisitation": covisitation,
        }
        self._last_basket = LastBasketScorer(covisitation)
        self.skipped: dict[str, str] = {}
        """The reasons why baselines are left out, by name."""
        if self._num_items <= MAX_EASE_ITEMS:
            self._untimed["ease"] = EaseScorer(ease_weights(sequences))
        else:
            self.skipped["ease"] = f"its matrix would have {self._num_items:,} rows and columns, one for each item"
        if not self._has_times:
            self.skipped |= dict.fromkeys(TIMED, "the timestamps are positions in a sequence")
        if exclude_seen:
            self.skipped |= dict.fromkeys(OWN, "a user's own items are not recommended again (EXCLUDE_SEEN=true)")

    def choose(self, validation: Window) -> Chosen:
        """The half-life and the baseline with the highest NDCG@10 on validation."""
        half_life = self._best_half_life(validation) if self._has_times else None
        ndcg = {name: self._ndcg(validation, scorer, name) for name, scorer in self._scorers(validation, half_life)}
        return Chosen(max(ndcg, key=lambda name: ndcg[name]), half_life, ndcg)

    def rank(self, window: Window, chosen: Chosen) -> dict[str, Ranking]:
        """The ranking of every baseline, by name."""
        return {name: self._rank(window, scorer, name) for name, scorer in self._scorers(window, chosen.half_life_days)}

    def _scorers(self, window: Window, half_life: float | None) -> list[tuple[str, Scorer]]:
        month = counts_of_days(window, self._num_items, MONTH)
        scorers: dict[str, Scorer] = {
            **self._untimed,
            "popularity_7_days": PopularityScorer(counts_of_days(window, self._num_items, WEEK)),
            "popularity_30_days": PopularityScorer(month),
            "own_counts": OwnCountsScorer(self._num_items),
            "own_latest": OwnLatestScorer(self._num_items),
            "own_counts_popularity": OwnCountsThenPopularityScorer(month),
            "last_basket": self._last_basket,
        }
        if half_life is not None:
            scorers["popularity_decayed"] = self._decayed(window, half_life)
        return [(name, scorer) for name, scorer in scorers.items() if name not in self.skipped]

    def _best_half_life(self, validation: Window) -> float:
        ndcg = [self._ndcg(validation, self._decayed(validation, days)) for days in HALF_LIVES_DAYS]
        return HALF_LIVES_DAYS[int(np.argmax(ndcg))]

    def _decayed(self, window: Window, half_life: float) -> Scorer:
        return PopularityScorer(decayed_counts(window, self._num_items, half_life))

    def _ndcg(self, window: Window, scorer: Scorer, name: str = "") -> float:
        if isinstance(scorer, PopularityScorer):
            return ndcg_at_k(self._rank(window, scorer, name).ranks, 10)
        ranks = ranks_of_held_out(scorer, window.examples, self._exclude_seen, _shown(window, name), window.seen)
        return ndcg_at_k(ranks, 10)

    def _rank(self, window: Window, scorer: Scorer, name: str) -> Ranking:
        if isinstance(scorer, PopularityScorer):
            return rank_by_shared_scores(scorer.shared, window.examples, self._exclude_seen, window.seen)
        return rank_held_out(scorer, window.examples, self._exclude_seen, _shown(window, name), window.seen)


def _shown(window: Window, name: str) -> list[History] | None:
    """What the baseline sees in place of the histories."""
    return window.baskets if name == "last_basket" else None
