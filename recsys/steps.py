"""The steps of a history: what the model reads of a user's events.

A view, a click and a purchase of one item in a row are one step: predicting the current item again teaches nothing.
Training, the feature stores and releases follow this rule, and cut a history only after it.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")


def latest_steps(items: Iterable[T], most: int) -> list[T]:
    """The latest items, at most `most`, without consecutive repeats; oldest first, like `items`."""
    return [item for item, _ in groupby(items)][-most:]
