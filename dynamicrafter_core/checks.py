"""Numbers given from outside are checked here, so that every refusal reads the same."""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

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
        number = as_float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    if math.isinf(low) and math.isinf(high):
        accepted = "a finite number"
    elif math.isinf(high):
        accepted = f"a finite number of {low:g} or more"
    else:
        accepted = f"a number from {low:g} to {high:g}"
    raise InputError(f"{name} is {value!r}; give {accepted}.")


def as_float(value: Any) -> float:
    """Infinity where an integer is beyond what a float holds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON is what a dataclass's field says it holds. Numbers are finite, and no bool is one."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inside)
    if origin in (Union, UnionType):
        return any(is_of(value, each) for each in inside)
    if origin is tuple:
        if not isinstance(value, tuple) or (inside[-1] is not ... and len(value) != len(inside)):
            return False
        return all(is_of(each, inside[0] if inside[-1] is ... else inside[at]) for at, each in enumerate(value))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(is_of(each, inside[1]) for each in value.values())
    if origin is Sequence:
        return isinstance(value, (tuple, list)) and all(is_of(each, inside[0]) for each in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(as_float(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True


def kind_of(hint: Any) -> str:
    """What `is_of` accepts, in words."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(kind_of, inside)))
    if origin in (tuple, Sequence):
        return "a list"
    if origin is Mapping:
        return "an object"
    return {float: "a number", int: "a whole number", bool: "true or false", type(None): "null"}.get(hint, "text")
