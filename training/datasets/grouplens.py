"""The MovieLens formats, oldest to newest. Every rating is kept, as an implicit interaction.

ml-100k                               u.data (tab), u.item and u.genre (pipe), latin-1, no header
ml-1m                                 ratings.dat, movies.dat (`::`), latin-1, no header
ml-latest-small, ml-20m, 25m, 32m     ratings.csv, movies.csv, UTF-8
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.datasets.bad_rows import BadRows
from training.datasets.folder import need
from training.datasets.item_values import RawItem, gather
from training.datasets.tables import LogColumns, RawItems, RawLog, RawTables
from training.datasets.text_log import raw_log
from training.datasets.text_table import TextTable
from training.datasets.timestamps import whole_number
from training.datasets.titles import readable

_NO_GENRES = "(no genres listed)"
_COLUMNS = LogColumns("userId", "movieId", "timestamp")
_RATING_HEADER = ("userId", "movieId", "rating", "timestamp")
_MOVIE_HEADER = ("movieId", "title", "genres")
_ITEM_100K_HEADER = ("movieId", "title", "release date", "video release date", "IMDb URL")


class GroupLensCsv:
    def inputs(self, folder: Path) -> list[Path]:
        return [need(folder, "ratings.csv"), need(folder, "movies.csv")]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        ratings, movies = self.inputs(folder)
        return RawTables(_ratings(TextTable(ratings)), _movies(TextTable(movies), bad_rows))


class GroupLens1M:
    def inputs(self, folder: Path) -> list[Path]:
        return [need(folder, "ratings.dat"), need(folder, "movies.dat")]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        ratings, movies = self.inputs(folder)
        return RawTables(
            _ratings(TextTable(ratings, "::", _RATING_HEADER, "latin-1", quoted=False)),
            _movies(TextTable(movies, "::", _MOVIE_HEADER, "latin-1", quoted=False), bad_rows),
        )


class GroupLens100K:
    def inputs(self, folder: Path) -> list[Path]:
        return [need(folder, "u.data"), need(folder, "u.item"), need(folder, "u.genre")]

    def read(self, folder: Path, bad_rows: BadRows) -> RawTables:
        ratings, movies, genres = self.inputs(folder)
        listed = TextTable(genres, "|", ("genre", "number"), "latin-1", quoted=False)
        names = [name for _, (name, _) in listed.records(bad_rows)]
        flagged = TextTable(movies, "|", (*_ITEM_100K_HEADER, *names), "latin-1", quoted=False)
        return RawTables(
            _ratings(TextTable(ratings, "\t", _RATING_HEADER, "latin-1", quoted=False)),
            _flagged_movies(flagged, names, bad_rows),
        )


def _ratings(table: TextTable) -> RawLog:
    return raw_log(table, _COLUMNS, whole_number("timestamp"), event=pl.lit("rating"))


def _movies(table: TextTable, bad_rows: BadRows) -> RawItems:
    table.require(*_MOVIE_HEADER)
    places = [table.columns.index(name) for name in _MOVIE_HEADER]

    def movies() -> Iterator[RawItem]:
        for line, fields in table.records(bad_rows):
            movie_id, title, genres = (fields[place] for place in places)
            yield _movie(line, movie_id, title, [] if genres == _NO_GENRES else genres.split("|"))

    return gather(movies(), table.path, _COLUMNS.item_id, bad_rows)


def _flagged_movies(table: TextTable, genres: list[str], bad_rows: BadRows) -> RawItems:
    """The oldest format has one column of 0 and 1 for each genre."""

    def movies() -> Iterator[RawItem]:
        for line, fields in table.records(bad_rows):
            flags = fields[-len(genres) :]
            named = [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1" and genre != "unknown"]
            yield _movie(line, fields[0], fields[1], named)

    return gather(movies(), table.path, _COLUMNS.item_id, bad_rows)


def _movie(line: int, movie_id: str, raw_title: str, genres: list[str]) -> RawItem:
    title, year = readable(raw_title)
    return RawItem(line, movie_id, title, genres, year)
