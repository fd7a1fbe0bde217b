"""DATA_COLUMNS: the column names in the files, as `user_id=customer,item_id=sku`."""

from recsys.errors import DataError
from training.datasets.tables import ITEM_SCHEMA

INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "event")
OURS = (*INTERACTION_COLUMNS, *(name for name in ITEM_SCHEMA if name not in INTERACTION_COLUMNS), "category")
"""`category` is another name for a column of `categories` with one category each."""
_SETTING = "DATA_COLUMNS"


class ColumnNames:
    def __init__(self, setting: str | None) -> None:
        self._theirs: dict[str, str] = {}
        for pair in (setting or "").split(","):
            if not pair.strip():
                continue
            ours, equals, theirs = (part.strip() for part in pair.partition("="))
            if not equals or not theirs:
                raise DataError(f"{pair.strip()!r} is not of the form ours=theirs", file=_SETTING)
            if ours not in OURS:
                raise DataError(f"{ours!r} is not one of the columns {', '.join(OURS)}", file=_SETTING)
            if ours in self._theirs:
                raise DataError(f"{ours!r} is given twice", file=_SETTING)
            self._theirs[ours] = theirs

    def find(self, ours: str, columns: tuple[str, ...]) -> str | None:
        """The table's name of our column. One of two tables may use the standard name although the other does not."""
        theirs = self._theirs.get(ours, ours)
        return theirs if theirs in columns else ours if ours in columns else None

    def expected(self, ours: str) -> str:
        return self._theirs.get(ours, ours)

    def require_known(self, *tables: tuple[str, ...]) -> None:
        """Raise DataError if no table has one of the given names: a typing error must not drop a column silently."""
        for ours, theirs in self._theirs.items():
            if not any(theirs in columns for columns in tables):
                arrived = "; ".join(", ".join(columns) for columns in tables)
                raise DataError(f"no file has a column {theirs!r} (for {ours!r}); they have {arrived}", file=_SETTING)
