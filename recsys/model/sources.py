"""The names of the candidate sources. Apart from the code that finds candidates, which takes long to import."""

from enum import StrEnum

MAX_PER_SOURCE = 100


class Source(StrEnum):
    OWN = "own"
    """The user's items, the most frequent first; the later one of two. Only where items may be recommended again."""
    FOLLOWING = "following"
    """What followed the latest items in the log: the sum over age a of 0.9^a * P(item follows within a few steps)."""
    TRENDING = "trending"
    """The items with the largest share of the events of the last days before the release was trained."""
    TRENDING_IN_CATEGORIES = "trending_in_categories"
    """The same times the share of the item's category in the user's history."""
