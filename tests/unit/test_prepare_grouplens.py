"""The three MovieLens formats, in small files of the same make."""

import re
from pathlib import Path

import pytest

from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, run

RATINGS = "userId,movieId,rating,timestamp\r\n2,10,4.0,964982703\r\n1,10,3.5,964982702\r\n1,2,0.5,964982702\r\n"
MOVIES = 'movieId,title,genres\r\n10,"Matrix, The (1999)",Action|Sci-Fi\r\n2,Cosmos,(no genres listed)\r\n'


def test_csv_format(tmp_path: Path) -> None:
    prepared = run(tmp_path, "ml-25m", folder_of(tmp_path, ratings__csv=RATINGS, movies__csv=MOVIES))
    assert prepared.interactions.rows() == [
        ("1", "10", 964982702, "rating"),
        ("1", "2", 964982702, "rating"),
        ("2", "10", 964982703, "rating"),
    ]
    assert prepared.items.rows() == [
        ("10", "The Matrix", ["Action", "Sci-Fi"], 1999, None),
        ("2", "Cosmos", [], None, None),
    ]
    assert prepared.manifest.warnings == {}


def test_double_colon_format_in_latin_1(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path,
        ratings__dat="1::1193::5::978300760\n1::661::3::978302109\n2::661::1::978298413\n",
        movies__dat='1193::Misérables, Les: A "Story" (1995)::Drama|Musical\n661::Toy Story (1995)::Animation\n'.encode(
            "latin-1"
        ),
    )
    prepared = run(tmp_path, "ml-1m", source)
    assert prepared.interactions.rows() == [
        ("1", "1193", 978300760, "rating"),
        ("1", "661", 978302109, "rating"),
        ("2", "661", 978298413, "rating"),
    ]
    assert prepared.items.row(0) == ("1193", 'Misérables, Les: A "Story"', ["Drama", "Musical"], 1995, None)


def test_oldest_format_in_latin_1(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path,
        u__data="196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        u__genre="unknown|0\nAction|1\nDrama|2\n\n",
        u__item=(
            "242|Kolya (1996)|24-Jan-1997||http://x|0|0|1\n302|Cité, La (1997)|01-Jan-1997||http://y|0|1|1\n"
            "267|unknown||||1|0|0\n"
        ).encode("latin-1"),
    )
    prepared = run(tmp_path, "ml-100k", source)
    assert prepared.interactions["user_id"].to_list() == ["186", "196"]
    assert prepared.items.rows() == [
        ("242", "Kolya", ["Drama"], 1996, None),
        ("267", "unknown", [], None, None),
        ("302", "La Cité", ["Action", "Drama"], 1997, None),
    ]


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ("1::1193::5::978300760\n1::661::3\n", "ratings.dat, line 2: 3 fields, but 4 are expected"),
        ("1::1193::5::978300760\n1::661::3::4::5\n", "ratings.dat, line 2: 5 fields, but 4 are expected"),
        ("1::1193::5::soon\n", "ratings.dat, line 1, column 'timestamp': 'soon' cannot be read as a timestamp"),
        ("1::1193::5::978300760\n::661::3::5\n", "ratings.dat, line 2, column 'userId': the id is empty"),
        ("", "ratings.dat: the file has no rows"),
    ],
)
def test_a_bad_log_without_header_is_refused(tmp_path: Path, ratings: str, message: str) -> None:
    source = folder_of(tmp_path, ratings__dat=ratings, movies__dat="1193::One (1995)::Drama\n")
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, "ml-1m", source)


def test_tab_separated_faults_name_their_line(tmp_path: Path) -> None:
    source = folder_of(tmp_path, u__data="1\t2\t3\t4\n1\t2\t3\n", u__genre="Action|0\n", u__item="2|x|||u|1\n")
    with pytest.raises(DataError, match=r"u\.data, line 2: 3 fields"):
        run(tmp_path, "ml-100k", source)


def test_a_missing_file_says_what_is_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"movies\.csv is missing; the folder holds ratings\.csv"):
        run(tmp_path, "ml-latest-small", folder_of(tmp_path, ratings__csv=RATINGS))


def test_a_missing_movies_column_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, ratings__csv=RATINGS, movies__csv="movieId,name\n1,x\n")
    with pytest.raises(DataError, match=r"movies\.csv, line 1, column 'title': the column is missing"):
        run(tmp_path, "ml-latest-small", source)
