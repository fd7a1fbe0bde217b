"""DATA_COLUMNS: our column names to a team's own, as `user_id=customer,item_id=sku`."""

from recsys.errors import DataError

OURS = ("user_id", "item_id", "timestamp", "event", "title", "categories", "category", "year", "price")
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
                raise DataError(f"{ours!r} is not one of our columns: {', '.join(OURS)}", file=_SETTING)
            if ours in self._theirs:
                raise DataError(f"{ours!r} is here twice", file=_SETTING)
            self._theirs[ours] = theirs

    def find(self, ours: str, columns: tuple[str, ...]) -> str | None:
        """What a table with these columns calls our column. One table may use our name where the other has its own."""
        theirs = self._theirs.get(ours, ours)
        return theirs if theirs in columns else ours if ours in columns else None

    def expected(self, ours: str) -> str:
        return self._theirs.get(ours, ours)

    def refuse_strangers(self, *tables: tuple[str, ...]) -> None:
        """A name that no table has is a slip of the pen, and must not quietly drop a column."""
        for ours, theirs in self._theirs.items():
            if not any(theirs in columns for columns in tables):
                arrived = "; ".join(", ".join(columns) for columns in tables)
                raise DataError(f"no file has a column {theirs!r} (for {ours!r}); they have {arrived}", file=_SETTING)
