"""Numbers given from outside are checked here, so that every refusal reads the same."""

import math
import numbers
import operator
from typing import Any

from .errors import InputError


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int, if it is a whole number (a bool or a float is not) from `low` to `high`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        whole = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}; give a whole number from {low} to {high}.") from None
    if not low <= whole <= high:
        raise InputError(f"{name} is {whole}; give a whole number from {low} to {high}.")
    return whole


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float, if it is a finite real number from `low` to `high`."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    if math.isinf(low) and math.isinf(high):
        accepted = "a finite number"
    elif math.isinf(high):
        accepted = f"a finite number of {low:g} or more"
    else:
        accepted = f"a number from {low:g} to {high:g}"
    raise InputError(f"{name} is {value!r}; give {accepted}.")
