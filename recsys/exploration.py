"""Exploration: some pages show a few items that the ranker did not choose, at random and with known chances.

With a chance of `share`, a page is explored: s of its places are chosen uniformly, and each of them shows an item that
is drawn uniformly, without replacement, from the rest of the shortlist: the ranked items that may be shown, and that
the page has no room for. The draws follow from the recommendation id, so they can be repeated.

So a place of a page of K is explored with a chance of share * s / K, and a draw is as likely each of the R items of the
rest, whatever the other places show. The propensity of an item at a place, over all that can happen, is

    1 - share * s / K           for the item that the ranker put there
    share * s / K * 1 / R       for each item of the rest,             with s = min(MAX_PLACES, K, R).

Both hold for pages that were not explored, too. `events.reports.exploration` estimates from them what other pages would
have earned.
"""

import random
from collections.abc import Collection, Sequence

from recsys.contracts.recommendation import Exploration
from recsys.page import Page
from recsys.rules import ScoredItem

MAX_PLACES = 2
"""Places of an explored page that show a draw."""


async def explore(page: Page, ranked: Sequence[ScoredItem], share: float, recommendation_id: str) -> Exploration | None:
    """Put draws on the page, or not, and say what the chances were. None if nothing is left to draw from.

    The page was filled from `ranked`.
    """
    rest = await page.left_over(ranked)
    if not rest:
        return None
    drawn = draw(recommendation_id, share, page.length, len(rest))
    for place, number in drawn.items():
        page.replace(place, rest[number])
    return exploration(drawn.keys(), share, page.length, len(rest))


def draw(recommendation_id: str, share: float, num_places: int, num_rest: int) -> dict[int, int]:
    """By explored place of the page, the item of the rest that it shows, both counted from 0. Empty for most pages."""
    chance = random.Random(recommendation_id)
    if chance.random() >= share:
        return {}
    explored = _num_explored(num_places, num_rest)
    places = chance.sample(range(num_places), explored)
    return dict(zip(places, chance.sample(range(num_rest), explored), strict=True))


def exploration(explored: Collection[int], share: float, num_places: int, num_rest: int) -> Exploration:
    """What is logged of a page with these explored places."""
    drawn_at = share * _num_explored(num_places, num_rest) / num_places
    is_explored = [place in explored for place in range(num_places)]
    return Exploration(
        explored=is_explored,
        propensities=[drawn_at / num_rest if drawn else 1 - drawn_at for drawn in is_explored],
        drawn_from=num_rest,
    )


def _num_explored(num_places: int, num_rest: int) -> int:
    return min(MAX_PLACES, num_places, num_rest)
