from pathlib import Path

import pytest

from recsys.errors import ReleaseDamaged
from recsys.model.vocabulary import Vocabulary


def test_indices_start_after_the_padding_and_keep_order() -> None:
    vocabulary = Vocabulary(["b", "a", "c"])
    assert len(vocabulary) == 3
    assert vocabulary.index_of("b") == 1
    assert vocabulary.index_of("nothing") is None
    assert vocabulary.indices(["c", "nothing", "b", "c"]) == [3, 1, 3]
    assert [vocabulary.item_id(index) for index in (1, 2, 3)] == ["b", "a", "c"]
    assert "a" in vocabulary
    assert "nothing" not in vocabulary


@pytest.mark.parametrize("index", [0, -1, 4])
def test_invalid_indices_are_an_error(index: int) -> None:
    with pytest.raises(IndexError):
        Vocabulary(["a", "b", "c"]).item_id(index)


def test_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"])


def test_a_round_trip_keeps_the_order_of_ids(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["7", "ü", 'with "quotes"', ""])
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert list(loaded.item_ids) == list(vocabulary.item_ids)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"item_ids": ["a", "a"]}', '{"item_ids": null}'])
def test_a_damaged_file_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(text)
    with pytest.raises(ReleaseDamaged, match=r"vocabulary\.json"):
        Vocabulary.load(path)
    with pytest.raises(ReleaseDamaged):
        Vocabulary.load(tmp_path / "missing.json")
