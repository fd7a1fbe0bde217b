"""One tree of errors: each with a code of its own, drawn as it is."""

import re

import pytest

import recsys.errors as errors
from recsys.errors import DataError, TandemError, error_for


def every_class() -> list[type[TandemError]]:
    declared = [value for value in vars(errors).values() if isinstance(value, type)]
    return [cls for cls in declared if issubclass(cls, TandemError)]


def leaves() -> list[type[TandemError]]:
    return [cls for cls in every_class() if not cls.__subclasses__()]


def test_every_code_names_one_class():
    codes = [cls.code for cls in every_class()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_a_code_that_came_over_the_wire_finds_its_class(cls):
    assert error_for(cls.code) is cls


def test_a_code_of_nobodys_finds_nothing():
    assert error_for("no_such_code") is None


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_status_is_that_of_an_error(cls):
    assert 400 <= cls.status <= 599


def test_the_callers_errors_are_the_ones_with_a_status_below_500():
    below = {cls for cls in leaves() if cls.status < 500}
    others = {errors.ReleaseMismatch, errors.Overloaded}
    assert below == {cls for cls in leaves() if issubclass(cls, errors.CallerError)} | others


def test_the_drawing_in_the_docstring_shows_what_is_declared():
    drawn = re.findall(r"── (\w+) +([a-z_]+)? *(\d{3})?", errors.__doc__ or "")
    names = {name for name, _, _ in drawn}
    assert names == {cls.__name__ for cls in every_class()} - {"TandemError"}
    for name, code, status in drawn:
        if status:
            assert (code, int(status)) == (getattr(errors, name).code, getattr(errors, name).status)


def test_bad_data_names_its_place():
    assert str(DataError("no number", file="a.csv", line=3, column="age")) == "a.csv, line 3, column 'age': no number"
    assert str(DataError("empty", file="a.csv")) == "a.csv: empty"
