"""The tree of errors: unique codes, and a docstring that matches the classes."""

import re

import pytest

import recsys.errors as errors
from recsys.errors import DataError, TandemError, error_for


def every_class() -> list[type[TandemError]]:
    declared = [value for value in vars(errors).values() if isinstance(value, type)]
    return [cls for cls in declared if issubclass(cls, TandemError)]


def leaves() -> list[type[TandemError]]:
    return [cls for cls in every_class() if not cls.__subclasses__()]


def test_every_code_names_one_class() -> None:
    codes = [cls.code for cls in every_class()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_code_finds_its_class(cls: type[TandemError]) -> None:
    assert error_for(cls.code) is cls


def test_an_unknown_code_finds_nothing() -> None:
    assert error_for("no_such_code") is None


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_status_is_an_error_status(cls: type[TandemError]) -> None:
    assert 400 <= cls.status <= 599


def test_caller_errors_have_a_status_below_500() -> None:
    below = {cls for cls in leaves() if cls.status < 500}
    others = {errors.ReleaseMismatch, errors.Overloaded}
    assert below == {cls for cls in leaves() if issubclass(cls, errors.CallerError)} | others


def test_the_tree_in_the_docstring_matches_the_classes() -> None:
    drawn = re.findall(r"── (\w+) +([a-z_]+)? *(\d{3})?", errors.__doc__ or "")
    names = {name for name, _, _ in drawn}
    assert names == {cls.__name__ for cls in every_class()} - {"TandemError"}
    for name, code, status in drawn:
        if status:
            assert (code, int(status)) == (getattr(errors, name).code, getattr(errors, name).status)


def test_data_errors_name_the_file_line_and_column() -> None:
    assert str(DataError("no number", file="a.csv", line=3, column="age")) == "a.csv, line 3, column 'age': no number"
    assert str(DataError("empty", file="a.csv")) == "a.csv: empty"
