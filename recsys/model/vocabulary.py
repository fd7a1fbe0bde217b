"""Maps item ids to rows of the item table and back."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from recsys.errors import ReleaseDamaged

PADDING_INDEX = 0


class Vocabulary:
    """item_index 0 is padding and never a candidate; the items are 1..len(vocabulary), in the order given."""

    def __init__(self, item_ids: Iterable[str]) -> None:
        self._item_ids = tuple(item_ids)
        self._index_of = {item_id: index for index, item_id in enumerate(self._item_ids, start=PADDING_INDEX + 1)}
        if len(self._index_of) != len(self._item_ids):
            raise ValueError("an item id appears twice in the vocabulary")

    def __len__(self) -> int:
        return len(self._item_ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._index_of

    @property
    def item_ids(self) -> Sequence[str]:
        """All item ids; the one at position p has item_index p + 1."""
        return self._item_ids

    def index_of(self, item_id: str) -> int | None:
        return self._index_of.get(item_id)

    def indices_or_none(self, item_ids: Sequence[str]) -> list[int | None]:
        """One index per item, None if it is unknown."""
        return list(map(self._index_of.get, item_ids))

    def indices(self, item_ids: Iterable[str]) -> list[int]:
        """The indices of the known `item_ids`, in order; unknown ones are dropped."""
        return [index for item_id in item_ids if (index := self._index_of.get(item_id)) is not None]

    def item_id(self, index: int) -> str:
        """Raises IndexError for the padding index and for indices after the last item."""
        if not PADDING_INDEX < index <= len(self._item_ids):
            raise IndexError(f"item_index {index} is not in 1..{len(self._item_ids)}")
        return self._item_ids[index - 1]

    def save(self, path: Path) -> None:
        path.write_text(self._as_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Raises ReleaseDamaged if the file is missing or invalid."""
        try:
            item_ids = json.loads(path.read_text(encoding="utf-8"))["item_ids"]
            return cls(item_ids)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReleaseDamaged(f"{path} is not a readable vocabulary: {error}") from error

    def _as_json(self) -> str:
        return json.dumps({"item_ids": self._item_ids}, ensure_ascii=False)
