"""What is asked of strokes and a brush, and what cannot be together, before any picture is read."""

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .drawing import Strokes


def read_asked(mode: str, given: Mapping[str, Any]) -> Strokes:
    strokes = Strokes.read(given.get("strokes", ""))
    if asks_something(strokes, *map(given.get, ("brush", "brush_to", "flow"))):
        drawn = strokes.lines or strokes.camera.moves
        name = "strokes" if drawn else "flow" if given.get("flow") is not None else "brush"
        if mode != "animate":
            raise InputError(f"only a clip that animates one image takes {name}; leave it out.")
        if taken := [other for other in ("mask", "original", "lock", "freeinit") if other in given]:
            raise InputError(
                f"{name} and {taken[0]} cannot be combined, because both say what is kept; leave one of them out."
            )
        if given.get("strength", 1) != 1:
            raise InputError(
                f"{name} and a strength below 1 cannot be combined, because both lead the run; leave one of them out."
            )
    return strokes


def asks_something(strokes: Strokes, brush: Any, brush_to: Any, flow: Any) -> bool:
    """Whether any of them asks for something; what cannot be together is refused."""
    asked = {
        "strokes": bool(strokes.lines),
        "a camera": strokes.camera.moves,
        "flow": flow is not None,
        "brush-to": brush_to is not None,
    }
    ways = [name for name, there in asked.items() if there]
    if len(ways) > 1:
        raise InputError(f"{ways[0]} and {ways[1]} both say where things go; give one of them.")
    if brush_to is not None and brush is None:
        raise InputError("brush-to is given and brush is missing; give both: where something is, and where it goes.")
    if strokes != Strokes() and not ways:
        raise InputError(
            "strokes say how to move but not where; give a stroke such as '120,80 -> 180,90', a camera such as "
            "'camera pan 0.25 0', a flow, or brush-to."
        )
    return bool(ways) or brush is not None
