"""The names of the ranking features, and the numbers that define them.

They are apart from the code that computes them, because jobs that only need a fingerprint import them.
"""

from recsys.model.item_activity import ACTIVITY_NAMES
from recsys.model.ranking_tables import stored_name

DECAYS = (0.6, 0.8, 0.93)
EASE_DECAYS = (0.5, 0.8, 0.9, 0.96, 0.985, 1.0)
SIMILARITY_DECAYS = (0.8, 0.97)
CONTENT_DECAYS = (0.8, 1.0)
CATEGORY_DECAYS = (0.8, 0.95, 1.0)
LATEST_ITEMS = {"next_items": 10, "followers": 20, "session": 50, "preceded": 20}
"""Number of latest items that are looked up in each matrix."""
AGES = {"next_items": 3, "followers": 3, "session": 1, "preceded": 1}
"""Number of latest items whose entries are features of their own."""
SIMILAR_ITEMS = 50
HIGHEST_OF = 10
CONTENT_ITEMS = 20
DISTANCE_ITEMS = 10
ITEM_COLUMNS = ("popularity", "mean_log_position", "mean_share_before", "mean_log_history_length", "year")
TOWER_NAMES = ("tower_score", "tower_behind_best", "tower_log_probability", "tower_rank", "tower_bias")


def _decayed(name: str, decays: tuple[float, ...]) -> list[str]:
    return [f"{name}_{decay}" for decay in decays]


def _of_matrix(name: str) -> list[str]:
    by_age = [f"{name}_{age}" for age in range(AGES[name])]
    return [*by_age, *_decayed(name, DECAYS), f"{name}_strongest", f"{name}_strongest_age", f"{name}_count"]


FEATURE_NAMES = [
    *TOWER_NAMES,
    *map(stored_name, ITEM_COLUMNS),
    *ACTIVITY_NAMES,
    *("history_length", "times_seen", "steps_since_seen"),
    *(feature for name in LATEST_ITEMS for feature in _of_matrix(name)),
    *_decayed("ease", EASE_DECAYS),
    *("similarity_0", "similarity_highest", f"similarity_highest_of_{HIGHEST_OF}"),
    *_decayed("similarity", SIMILARITY_DECAYS),
    *("content_0", *_decayed("content", CONTENT_DECAYS)),
    *("share_in_category", *_decayed("category", CATEGORY_DECAYS), *_decayed("category_and_item", CATEGORY_DECAYS)),
    *("year_distance_0", "year_distance", "price_distance_0", "price_distance"),
]
"""The columns of `RankingFeatures.matrix`, in their order. Trees are stored with these names."""
