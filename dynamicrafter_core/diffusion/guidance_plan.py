"""Guidance over a run: scales that follow a curve, an interval outside which there is no guidance, and its projection.

In the noisiest steps guidance drives clips of one prompt to look alike, and in the cleanest it changes next to nothing, so that a
limited interval (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in
Diffusion Models") costs fewer passes: outside it the network runs on the prompt and the image alone.
"""

from dataclasses import dataclass, fields

from ..checks import check_number
from ..errors import InputError
from .curves import Curve
from .guidance import Guidance
from .projection import AS_GIVEN, Projection


@dataclass(frozen=True)
class Limits:
    """Where guidance counts, in shares of the run from pure noise on, and how much of it (see projection.py)."""

    start: float = 0.0
    end: float = 1.0
    projection: Projection = AS_GIVEN

    def __post_init__(self) -> None:
        check_number("where guidance starts", self.start, 0, 1)
        check_number("where guidance ends", self.end, 0, 1)
        if self.end <= self.start:
            raise InputError(f"guidance starts at {self.start:g} and ends at {self.end:g}; the end must come later.")

    @classmethod
    def read(cls, text: str) -> "Limits":
        """ "from 0.1, to 0.8, parallel 0, norm 0.5, momentum -0.5", of which any part may be left out."""
        names = {"from": "start", "to": "end"}
        of_projection = {field.name for field in fields(Projection)}
        given: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                word, number = part.split()
                given[word if word in of_projection else names[word]] = float(number)
            except (KeyError, ValueError):
                raise InputError(
                    f"guidance limits hold {part!r}; give parts such as 'from 0.1', 'to 0.8', 'parallel 0', 'norm "
                    "0.5' or 'momentum -0.5', separated by commas."
                ) from None
        projection = Projection(**{name: given.pop(name) for name in of_projection & set(given)})
        return cls(**given, projection=projection)


NO_LIMITS = Limits()
UNGUIDED = Guidance(1.0)


@dataclass(frozen=True)
class GuidancePlan:
    """Of a whole run. `image` None: no separate image guidance."""

    text: Curve
    image: Curve | None = None
    rescale: float = 0.0
    limits: Limits = NO_LIMITS

    @property
    def constant(self) -> bool:
        """Every step has the same guidance."""
        whole = (self.limits.start, self.limits.end) == (0, 1)
        return whole and self.text.constant and (self.image is None or self.image.constant)

    def at(self, done: float) -> Guidance:
        """The guidance of the step before which a share `done` of the run lies."""
        if not self.limits.start <= done <= self.limits.end:
            return UNGUIDED
        image = None if self.image is None else self.image.at(done)
        return Guidance(self.text.at(done), image, self.rescale, self.limits.projection)
