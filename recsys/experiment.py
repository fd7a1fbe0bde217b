"""Who gets which variant: traffic split between the champion and a challenger, the same for a user every time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Self

CHAMPION = "champion"
CHALLENGER = "challenger"
VARIANTS = (CHAMPION, CHALLENGER)
BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Experiment:
    """Shares of the users in percent. They add up to 100."""

    challenger_percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`champion:90,challenger:10`. Raises ValueError, naming what arrived and what was expected."""
        shares: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, percent = part.partition(":")
            try:
                shares[name] = float(percent)
            except ValueError:
                raise ValueError(f"{part!r} is not <variant>:<percent>") from None
        unknown = shares.keys() - set(VARIANTS)
        if unknown or sum(shares.values()) != 100 or min(shares.values()) < 0:
            raise ValueError(f"{text!r} does not split 100 percent between {' and '.join(VARIANTS)}")
        return cls(shares.get(CHALLENGER, 0.0))

    @property
    def runs(self) -> bool:
        return self.challenger_percent > 0

    def variant_of(self, user_id: str) -> str:
        """By a hash of the user id: sticky, and without anything to remember."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"variant").digest()
        bucket = int.from_bytes(digest, "big") % BUCKETS
        return CHALLENGER if bucket < self.challenger_percent / 100 * BUCKETS else CHAMPION


def sample_ratio_p_value(observed: Sequence[int], expected_shares: Sequence[float]) -> float:
    """How likely two variants' numbers of users are under their shares: Pearson's chi-squared test, one degree of
    freedom (Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019). Below 0.0005 the split is broken."""
    total = sum(observed)
    if total == 0:
        return 1.0
    expected = [share * total for share in expected_shares]
    if 0 in expected:
        return 1.0 if list(observed) == expected else 0.0
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in zip(observed, expected, strict=True))
    return erfc(sqrt(statistic / 2))
