"""A figure that changes over a run, such as a guidance scale (Wang et al. 2024, "Analysis of Classifier-Free Guidance Weight
Schedulers"): points "share of the run: value", with straight lines between them. A number alone is the same in every step.

Shares count noise levels, from pure noise (0) to the finished clip (1), so they mean the same for every number of steps.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..checks import check_number
from ..errors import InputError


@dataclass(frozen=True)
class Curve:
    points: tuple[tuple[float, float], ...]  # share of the run, value; the shares rise

    @classmethod
    def flat(cls, value: float) -> "Curve":
        return cls(((0.0, value),))

    @classmethod
    def read(cls, name: str, given: object, low: float, high: float) -> "Curve":
        """From a number, a text such as "7.5" or "0: 9, 0.5: 7.5, 1: 3", or a curve; values from `low` to `high`."""
        if isinstance(given, Curve):
            return given
        if not isinstance(given, str):
            return cls.flat(check_number(name, given, low, high))
        try:
            points = tuple(_point(part) for part in given.split(","))
            if len(points) > 1 and ":" not in given.split(",")[0]:
                raise ValueError
        except ValueError:
            raise InputError(
                f"{name} is {given!r}; give a number from {low:g} to {high:g}, or points of the run with their values, such as "
                "'0: 9, 0.5: 7.5, 1: 3'."
            ) from None
        for share, value in points:
            check_number(f"a share of the run in {name} {given!r}", share, 0, 1)
            check_number(f"{name} at {share:g}", value, low, high)
        for (before, _), (after, _) in pairwise(points):
            if after <= before:
                raise InputError(
                    f"{name} is {given!r}, with {after:g} after {before:g}; give shares of the run that rise from 0 to 1."
                )
        return cls(points)

    def at(self, done: float) -> float:
        """Where a share `done` of the run lies behind; before the first point and after the last one, that point's value."""
        shares, values = zip(*self.points, strict=True)
        return float(np.interp(done, shares, values))

    @property
    def constant(self) -> bool:
        return all(value == self.points[0][1] for _, value in self.points)

    def told(self) -> float | str:
        """What read() makes the same curve of."""
        if self.constant:
            return self.points[0][1]
        return ", ".join(f"{share:.10g}: {value:.10g}" for share, value in self.points)


def _point(text: str) -> tuple[float, float]:
    share, colon, value = text.rpartition(":")
    return (float(share), float(value)) if colon else (0.0, float(value))
