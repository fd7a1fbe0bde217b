"""The A/B experiment: splits users between the champion and a challenger. A user always gets the same variant."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Self

CHAMPION = "champion"
CHALLENGER = "challenger"
HOLDBACK = "holdback"
"""The release before the champion, for the users whom a ramped promotion has not reached yet."""
VARIANTS = (CHAMPION, CHALLENGER, HOLDBACK)
ARMS = (CHAMPION, CHALLENGER)
"""What an experiment splits the users between. A ramp divides those of the champion once more."""
BUCKETS = 10_000
RECOMMENDATION_ID = re.compile(rf"[0-9a-f]{{32}}\.({'|'.join(VARIANTS)})")


def new_recommendation_id(variant: str) -> str:
    """An id that names the variant, so that an event with it can be attributed without stored state."""
    return f"{uuid.uuid4().hex}.{variant}"


def recommended_by(recommendation_id: str | None) -> str | None:
    """The variant in an id of the form that `new_recommendation_id` returns; None for anything else."""
    found = RECOMMENDATION_ID.fullmatch(recommendation_id or "")
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Experiment:
    """The share of users per variant, in percent."""

    challenger_percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `champion:90,challenger:10`. Raises ValueError with the given and the expected text."""
        shares: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, percent = part.partition(":")
            try:
                shares[name] = float(percent)
            except ValueError:
                raise ValueError(f"{part!r} is not <variant>:<percent>") from None
        unknown = shares.keys() - set(ARMS)
        if unknown or sum(shares.values()) != 100 or min(shares.values()) < 0:
            raise ValueError(f"{text!r} does not split 100 percent between {' and '.join(ARMS)}")
        return cls(shares.get(CHALLENGER, 0.0))

    @property
    def runs(self) -> bool:
        return self.challenger_percent > 0

    def variant_of(self, user_id: str) -> str:
        """The user's arm, from a hash of the user id: sticky without stored state."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"variant").digest()
        bucket = int.from_bytes(digest, "big") % BUCKETS
        return CHALLENGER if bucket < self.challenger_percent / 100 * BUCKETS else CHAMPION


def sample_ratio_p_value(observed: Sequence[int], expected_shares: Sequence[float]) -> float:
    """The p-value of two variants' user counts under their expected shares: Pearson's chi-squared test with one degree
    of freedom (Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019). Below 0.0005 the split is broken."""
    total = sum(observed)
    if total == 0:
        return 1.0
    expected = [share * total for share in expected_shares]
    if 0 in expected:
        return 1.0 if list(observed) == expected else 0.0
    statistic = sum((count - mean) ** 2 / mean for count, mean in zip(observed, expected, strict=True))
    return erfc(sqrt(statistic / 2))
