import math
import re

import numpy as np
import pytest
import torch

from leftout.core import errors
from leftout.core.checks import (
    check_at_least,
    check_between,
    check_choice,
    check_count,
    check_finite,
    check_index,
    check_kind,
    check_positive,
    check_rows,
    check_whole,
    row_numbers,
    shown,
)
from leftout.core.errors import DataError, LeftoutError, OptionError, ShapeError


def refused(kind, words, ask):
    with pytest.raises(kind, match=re.escape(words)):
        ask()


@pytest.mark.parametrize("value", [-1, -1e-300, math.nan, math.inf, -math.inf])
def test_at_least_refuses_less_infinity_and_no_number(value) -> None:
    words = f"`ridge` must be a finite number ≥ 0; got {value!r}."
    refused(OptionError, words, lambda: check_at_least("ridge", value, 0))
    check_at_least("ridge", 0, 0)
    check_at_least("ridge", 1e308, 0)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_positive_refuses_zero_infinity_and_no_number(value) -> None:
    words = f"`rate` must be a finite number > 0; got {value!r}."
    refused(OptionError, words, lambda: check_positive("rate", value))
    check_positive("rate", 5e-324)


@pytest.mark.parametrize("value", [0.0, 1.0, -1, 2, math.nan])
def test_between_is_open_at_both_ends(value) -> None:
    words = f"`rtol` must lie in (0, 1); got {value!r}."
    refused(OptionError, words, lambda: check_between("rtol", value, 0, 1))
    check_between("rtol", 0.5, 0, 1)


def test_choices_are_listed() -> None:
    check_choice("loss", "sum", ("sum", "mean"))
    words = "`loss` must be one of 'sum', 'mean'; got None."
    refused(OptionError, words, lambda: check_choice("loss", None, ("sum", "mean")))


@pytest.mark.parametrize("value", [-1, 3, 99])
def test_an_index_is_one_of_the_rows(value) -> None:
    words = f"`index` must be a row number from 0 to 2; got {value}."
    refused(OptionError, words, lambda: check_index("index", value, 3))
    for row in range(3):
        check_index("index", row, 3)


@pytest.mark.parametrize(
    "given",
    [
        [4, 0],
        (4, 0),
        np.array([4, 0]),
        np.array([4, 0], dtype=np.uint8),
        torch.tensor([4, 0]),
        (i for i in (4, 0)),
        [np.int64(4), torch.tensor(0)],
        {4: None, 0: None}.keys(),
    ],
)
def test_row_numbers_come_in_any_collection(given) -> None:
    assert row_numbers("index", given) == [4, 0]


@pytest.mark.parametrize("given", [3, np.int64(3), np.array(3), torch.tensor(3)])
def test_one_row_number_is_a_list_of_one(given) -> None:
    assert row_numbers("index", given) == [3]


@pytest.mark.parametrize("given", [1.0, [0, 1.5], True, [False], "1", None, [[1]], [np.nan], [None]])
def test_what_is_no_row_number_is_refused(given) -> None:
    words = "`index` must be row numbers, whole and no truth values; got "
    refused(OptionError, words, lambda: row_numbers("index", given))


def test_rows_say_the_shape_that_came() -> None:
    three = torch.zeros(3, 2)
    check_rows("targets", three, 3)
    words = "`targets` must have 4 rows, the side of `gram`; got (3, 2)."
    refused(ShapeError, words, lambda: check_rows("targets", three, 4))
    words = "`targets` must have 4 rows, the side of `inputs`; got (3, 2)."
    refused(ShapeError, words, lambda: check_rows("targets", three, 4, of="`inputs`"))


@pytest.mark.parametrize("value", [0, -1, 2.0, True, None, "3"])
def test_a_count_is_a_whole_number_from_one(value) -> None:
    words = f"`steps` must be a whole number ≥ 1; got {value!r}."
    refused(OptionError, words, lambda: check_count("steps", value))
    for fine in (1, 7, np.int64(3)):
        check_count("steps", fine)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_row_that_is_not_finite_is_named(bad) -> None:
    values = torch.zeros(5, 2, 2)
    values[3, 1, 0] = values[4, 0, 0] = bad
    words = (
        "`inputs` must be finite; row 3 holds NaN or infinity (2 of 5 rows do). Repair or drop these rows."
    )
    refused(DataError, words, lambda: check_finite("inputs", values))
    for fine in (torch.zeros(5), torch.zeros(0, 3), torch.ones(2, dtype=torch.long)):
        check_finite("inputs", fine)


def test_every_error_is_of_this_package_and_a_value_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for warning in (
        errors.NotConvergedWarning,
        errors.LoopWarning,
        errors.ExpansionWarning,
        errors.WeightsWarning,
    ):
        kinds.remove(warning)
        assert issubclass(warning, UserWarning)
    assert {kind.__name__ for kind in kinds} == {
        "LeftoutError",
        "ApproximationError",
        "ShapeError",
        "OptionError",
        "DataError",
        "NotPositiveError",
        "DivergenceError",
        "SolveError",
        "MemoryBudgetError",
        "StoreError",
    }
    for kind in kinds:
        assert issubclass(kind, LeftoutError)
        assert issubclass(kind, ValueError)
        assert kind.__doc__


@pytest.mark.parametrize("value", ["1", True, None, [1.0], 1j, np.array([1.0]), torch.ones(2)])
def test_what_is_no_number_is_refused_and_not_compared(value) -> None:
    for check, words in (
        (lambda: check_at_least("ridge", value, 0), "`ridge` must be a finite number ≥ 0; got "),
        (lambda: check_positive("ridge", value), "`ridge` must be a finite number > 0; got "),
        (lambda: check_between("ridge", value, 0, 2), "`ridge` must lie in (0, 2); got "),
    ):
        refused(OptionError, words, check)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0), torch.tensor(1.0)])
def test_one_number_comes_in_any_form(value) -> None:
    check_at_least("ridge", value, 0)
    check_positive("ridge", value)
    check_between("ridge", value, 0, 2)


def test_another_kind_is_named_and_a_class_is_told_from_its_objects() -> None:
    check_kind("solver", 1, int, what="a number")
    for value, came in (
        ("cg", "'cg'"),
        (None, "None"),
        (2.5, "2.5"),
        ([1], "list"),
        (int, "the class int; write int(…)"),
        (str, "the class str"),
    ):
        words = f"`solver` must be a number; got {came}."
        refused(OptionError, words, lambda v=value: check_kind("solver", v, int, what="a number"))


class Wordless:
    def __repr__(self) -> str:
        raise RuntimeError("no words for it")


def test_what_an_argument_is_can_be_said_of_anything() -> None:
    assert shown("a") == "'a'"
    assert shown(Wordless()) == "Wordless"
    assert shown(10**5000) == "int", "Python prints no number of more than 4300 digits"
    assert shown("x" * 100) == "'" + "x" * 78 + "…"


@pytest.mark.parametrize(
    "odd", [10**400, torch.empty((), device="meta"), float("nan"), True, "1", Wordless()]
)
def test_no_number_that_can_be_computed_with_is_refused_in_a_sentence(odd) -> None:
    with pytest.raises(OptionError, match="`weight` must be a finite number ≥ 0; got "):
        check_at_least("weight", odd, 0)


@pytest.mark.parametrize("odd", [1.0, 2**63, True, None, Wordless(), -1])
def test_no_whole_number_of_64_bits_is_refused_in_a_sentence(odd) -> None:
    with pytest.raises(OptionError, match="`draws` must be a whole number ≥ 0"):
        check_whole("draws", odd, 0)


@pytest.mark.parametrize("odd", [torch.empty(2, device="meta"), np.array(["loss"]), [], Wordless(), None])
def test_an_array_is_no_choice_whatever_it_holds(odd) -> None:
    with pytest.raises(OptionError, match="`of` must be one of 'loss'; got "):
        check_choice("of", odd, ("loss",))
