"""Refusals are read in terminals, logs and dialogs: one line that prints, of a length that is read."""

import pickle

import pytest

from dynamicrafter_core.checks import check_number, is_of
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import Family


def test_words_from_outside_do_not_reach_the_terminal_raw() -> None:
    assert str(InputError("a\x1b[31m\n\ud800 is wrong.")) == r"a\x1b[31m\n\ud800 is wrong."
    assert str(InputError("Übergröße 画像\u3000é.")) == "Übergröße 画像\u3000é."


def test_of_a_long_refusal_the_begin_and_the_advice_are_kept() -> None:
    text = str(InputError(f"prompt is {'a' * 100_000!r}; give text."))
    assert len(text) < 2000
    assert text.startswith("prompt is 'aaa") and text.endswith("aaa'; give text.")


def test_a_refusal_travels_between_processes() -> None:
    assert str(pickle.loads(pickle.dumps(InputError("steps is 0.")))) == "steps is 0."


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), True, "1"])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="give a finite number"):
        check_number("share", value)


@pytest.mark.parametrize(
    ("value", "field", "fits"),
    [
        (3, "cfg", True),
        (7.5, "cfg", True),
        (float("inf"), "cfg", False),
        (10**400, "cfg", False),
        (True, "cfg", False),
        (7.5, "width", False),
        (None, "base_scale", True),
        (None, "cfg", False),
        ((1, 9), "fs_range", True),
        ((1, "9"), "fs_range", False),
        ((1, 2, 3), "fs_range", False),
        (("animate",), "modes", True),
        (("fall",), "modes", False),
        ("v", "parameterization", True),
        (1, "zero_snr", False),
    ],
)
def test_values_out_of_json_are_of_a_fields_kind_or_not(value: object, field: str, fits: bool) -> None:
    assert is_of(value, Family.__annotations__[field]) is fits
