"""Titles, categories, years and prices, as people and publishers write them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets.bad_rows import REJECTS_FILE, BadRows, BadRowsPolicy
from training.datasets.item_values import (
    UNREADABLE_PRICE,
    UNREADABLE_YEAR,
    RawItem,
    categories_of,
    gather,
    price_of,
    title_of,
    year_of,
)
from training.datasets.titles import readable


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("American in Paris, An (1951)", "An American in Paris", 1951),
        ("Misérables, Les (1995)", "Les Misérables", 1995),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura (The Adventure)", 1960),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (La Cité des enfants perdus)",
            1995,
        ),
        (
            "Good, the Bad and the Ugly, The (Buono, il brutto, il cattivo, Il) (1966)",
            "The Good, the Bad and the Ugly (Il Buono, il brutto, il cattivo)",
            1966,
        ),
        ("Seven (a.k.a. Deadly Sins, The) (1995)", "Seven (a.k.a. The Deadly Sins)", 1995),
        ("Cry, the Beloved Country (1995)", "Cry, the Beloved Country", 1995),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("From Dusk Till Dawn 2 (1999) ", "From Dusk Till Dawn 2", 1999),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Babylon 5", "Babylon 5", None),
        ("(1999)", "(1999)", 1999),
    ],
)
def test_titles_read_as_people_write_them(raw: str, title: str, year: int | None) -> None:
    assert readable(raw) == (title, year)


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_any_title_keeps_some_text(raw: str) -> None:
    assert readable(raw).title.strip()


@pytest.mark.parametrize(
    ("raw", "price"),
    [
        (12, 12.0),
        ("12.99", 12.99),
        ("from 12.99", 12.99),
        ("$1,299.00", 1299.0),
        ("1.299,00 €", 1299.0),
        ("12,99", 12.99),
        ("1,299", 1299.0),
        ("1,234,567", 1234567.0),
        ("", None),
        (None, None),
        ("—", None),
        ("-3", None),
        (-3, None),
        (float("nan"), None),
        ("ask us", None),
    ],
)
def test_prices(raw: object, price: float | None) -> None:
    assert price_of(raw) == price


@given(st.decimals(min_value=0, max_value=10**7, places=2))
def test_a_price_survives_its_usual_spellings(amount: object) -> None:
    spelled = f"{amount:,.2f}"
    european = spelled.translate(str.maketrans(",.", ".,"))
    assert price_of(f"${spelled}") == price_of(f"{european} €") == price_of(f"{amount:.2f}") == float(str(amount))


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("A|B", ["A", "B"]),
        (["A", None, " B "], ["A", "B"]),
        ('["A", "B"]', ["A", "B"]),
        ("['A', 'B']", ["A", "B"]),
        ("[A, B]", ["A", "B"]),
        ("A||A", ["A"]),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_categories(raw: object, names: list[str]) -> None:
    assert categories_of(raw) == names


@pytest.mark.parametrize(("raw", "year"), [("1995", 1995), (1995, 1995), (1995.0, 1995), ("95", None), ("", None)])
def test_years(raw: object, year: int | None) -> None:
    assert year_of(raw) == year


def test_blank_titles_are_none_and_others_are_one_line() -> None:
    assert title_of("  ") is None
    assert title_of(" Two\n lines ") == "Two lines"


def test_only_what_is_there_and_unreadable_is_counted(tmp_path: Path) -> None:
    items = [
        RawItem(2, "a", year="soon", price="ask us"),
        RawItem(3, "b", year="", price=None),
        RawItem(4, "c", price="3"),
    ]
    with BadRows(BadRowsPolicy.REFUSE, max_share=0, rejects=tmp_path / REJECTS_FILE) as bad_rows:
        gathered = gather(items, tmp_path / "items.csv", "item_id", bad_rows)
    assert gathered.warnings == {UNREADABLE_YEAR: 1, UNREADABLE_PRICE: 1}
    assert gathered.rows["price"].to_list() == [None, None, 3.0]
    assert gathered.rows["year"].null_count() == 3
