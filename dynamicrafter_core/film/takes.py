"""Shots become takes: clips of as many frames as the model makes at once, in the order they are made.

animate    begins with the shot's picture
generate   is made of the prompt alone
extend     goes on from the take before
morph      leads from the last frame of the take before to the next shot's picture
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..families import Mode
from ..pipeline.settings import DEFAULT_SEED
from .script import USUAL_DISSOLVE, Script, Shot

Kind = Literal["animate", "generate", "extend", "morph", "still"]


@dataclass(frozen=True)
class Means:
    """What the models at hand can do."""

    name: str
    modes: tuple[Mode, ...]
    frames: int  # of one clip
    fps: float
    morphs: bool  # there is a model that leads from one picture to another


@dataclass(frozen=True)
class Take:
    where: str  # its shot in the script
    kind: Kind
    image: str | None  # what it begins with; of one that goes on, what the context shows; of a morph, where it leads
    prompt: str
    frames: int  # that are shown, without what the take before has shown
    made: int  # that the network makes for them
    dissolve: int  # frames over which it takes the place of the take before
    options: Mapping[str, Any]

    @property
    def goes_on(self) -> bool:
        return self.kind in ("extend", "morph")


def plan(script: Script, means: Means) -> list[Take]:
    """Every take of a film; what cannot be made is refused by its shot."""
    takes: list[Take] = []
    context: str | None = None  # the picture that a chain of takes began with
    lengths = [max(1, round(shot.seconds * means.fps)) for shot in script.shots]
    before: Shot | None = None
    for number, (shot, length) in enumerate(zip(script.shots, lengths, strict=True)):
        goes_on = before is not None and before.transition == "continue"
        context = shot.image or (context if goes_on else None)
        faded = _dissolve(before, means.fps)
        fading = _dissolve(shot, means.fps)
        shorter = min(length, lengths[number + 1]) if fading else length
        if fading >= shorter or faded + fading > length:
            raise InputError(
                f"{shot.where}: a dissolve of {fading} frames is too long for shots of {shorter} frames; give shorter "
                "transition_seconds, or longer shots."
            )
        takes += _takes_of(shot, length, goes_on, context, faded, script, means)
        if shot.transition == "morph":
            takes.append(_morph(shot, script.shots[number + 1], script, means))
        before = shot
    return takes


def _takes_of(
    shot: Shot, length: int, goes_on: bool, context: str | None, dissolve: int, script: Script, means: Means
) -> list[Take]:
    options = {**script.options, **shot.options}
    if shot.seconds == 0 and shot.image is not None and not goes_on:
        return [Take(shot.where, "still", shot.image, "", 1, 1, dissolve, {**options, "frames": means.frames})]
    whole = options.get("window") is not None
    seed = options.get("seed", DEFAULT_SEED)
    takes: list[Take] = []
    left = length
    while left:
        on = goes_on or bool(takes)
        kind: Kind = "extend" if on else "animate" if shot.image else "generate"
        _check(shot, kind, means, on_purpose=goes_on)
        given = script.keep if on else 0
        made = max(left + given, means.frames) if whole else means.frames
        shown = min(left, made - given)
        # Takes of one shot differ in their noise; those of different shots need not.
        takes.append(
            Take(
                shot.where,
                kind,
                context,
                shot.prompt,
                shown,
                made,
                0 if takes else dissolve,
                {**options, "seed": seed + len(takes), "frames": made},
            )
        )
        left -= shown
    return takes


def _check(shot: Shot, kind: Kind, means: Means, on_purpose: bool) -> None:
    needed: Mode = "generate" if kind == "generate" else "animate"
    if needed in means.modes:
        return
    if kind == "generate":
        raise InputError(
            f"{shot.where} has no image, and {means.name} makes no clip from text alone; give it one, or end the shot "
            "before with 'continue'."
        )
    if kind == "extend" and not on_purpose:
        raise InputError(
            f"{shot.where}: {shot.seconds:g} seconds are more than the {means.frames} frames that {means.name} makes "
            "at once, and it cannot continue a clip; give fewer seconds, or a window."
        )
    what = "continue a clip" if kind == "extend" else "animate a picture"
    raise InputError(f"{shot.where}: {means.name} cannot {what}; use a model that animates, such as dynamicrafter_512.")


def _dissolve(shot: Shot | None, fps: float) -> int:
    if shot is None or shot.transition != "dissolve":
        return 0
    seconds = USUAL_DISSOLVE if shot.transition_seconds is None else shot.transition_seconds
    return max(1, round(seconds * fps))


def _morph(shot: Shot, after: Shot, script: Script, means: Means) -> Take:
    """Its two ends are frames of its neighbours, and are not shown again."""
    if not means.morphs:
        raise InputError(
            f"{shot.where}: a morph needs a model that goes from one picture to another; give morph_model, such as "
            "dynamicrafter_512_interp.ckpt, or another transition."
        )
    seconds = shot.transition_seconds
    shown = means.frames - 2 if seconds is None else max(1, round(seconds * means.fps))
    options = {"seed": DEFAULT_SEED, **script.options, **shot.options, "frames": means.frames}
    return Take(shot.where, "morph", after.image, shot.prompt, shown, means.frames, 0, options)
