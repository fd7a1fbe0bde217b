"""Timestamps in many formats -> whole seconds since 1970 UTC. Unreadable values become null.

Numbers are seconds, milliseconds, microseconds or nanoseconds by their size, value by value: 1e11 seconds is the year
5138, and 1e11 milliseconds is 1973. Small numbers stay as they are, so a position (1, 2, 3) is a valid timestamp.
Text without a time zone is UTC.
"""

from collections.abc import Iterable

import polars as pl

_SECONDS_BELOW = 10**11
_ISO = "%Y-%m-%dT%H:%M:%S%.f%z"


def seconds(column: str, dtype: pl.DataType, example: object) -> pl.Expr:
    """The expression for a column of this type. The example decides whether text is a number or ISO 8601."""
    value = pl.col(column)
    if dtype == pl.String:
        return _of_number_text(value) if looks_like_number(example) else _of_iso(value)
    if dtype.is_temporal():
        return value.cast(pl.Datetime("us"), strict=False).dt.epoch("s")
    return _of_float(value) if dtype.is_float() else _by_size(value.cast(pl.Int64, strict=False))


def whole_number(column: str) -> pl.Expr:
    """The expression for formats that specify whole numbers as text."""
    return _by_size(pl.col(column).cast(pl.Int64, strict=False))


def looks_like_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def typical(values: Iterable[object]) -> object:
    """An example of the kind that most of the values have, number or not, by the first ones if both are as frequent.

    A log may start with a value that cannot be read. None if there is no value.
    """
    given = [value for value in values if value is not None and str(value).strip()]
    numbers = [value for value in given if looks_like_number(value)]
    others = [value for value in given if not looks_like_number(value)]
    if len(numbers) == len(others):
        return given[0] if given else None
    return numbers[0] if len(numbers) > len(others) else others[0]


def _by_size(whole: pl.Expr) -> pl.Expr:
    size = whole.abs()
    return (
        pl.when(size < _SECONDS_BELOW)
        .then(whole)
        .when(size < _SECONDS_BELOW * 10**3)
        .then(whole // 10**3)
        .when(size < _SECONDS_BELOW * 10**6)
        .then(whole // 10**6)
        .otherwise(whole // 10**9)
    )


def _of_float(value: pl.Expr) -> pl.Expr:
    return _by_size(value.floor().cast(pl.Int64, strict=False))


def _of_number_text(text: pl.Expr) -> pl.Expr:
    bare = text.str.strip_chars()
    return pl.coalesce(_by_size(bare.cast(pl.Int64, strict=False)), _of_float(bare.cast(pl.Float64, strict=False)))


def _of_iso(text: pl.Expr) -> pl.Expr:
    full = (
        text.str.strip_chars()
        .str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00")
        .str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T")
        .str.replace(r"T(\d{2}:\d{2})($|[Zz+-])", "T${1}:00${2}")
        .str.replace(r"[Zz]$", "+00:00")
        .str.replace(r"(T.*[+-]\d{2})$", "${1}:00")
        .str.replace(r"(T[\d:.]+)$", "${1}+00:00")
    )
    return full.str.to_datetime(_ISO, strict=False, time_zone="UTC", time_unit="us").dt.epoch("s")
