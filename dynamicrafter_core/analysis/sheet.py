"""Trials as one picture: a row of frames for each, and curves of motion and likeness for each group."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .trials import Trial

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SHOWN = 6  # frames of a clip
SIDE, GAP, LABEL = 96, 4, 190  # pixels
PLOT = (360, 200)
COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b9770e")


def draw(trials: Sequence[Trial], title: str) -> "Image":
    from PIL import Image, ImageDraw

    height, width = trials[0].frames.shape[1:3]
    across, down = round(SIDE * width / max(width, height)), round(SIDE * height / max(width, height))
    rows = len(trials) * (down + GAP)
    page = Image.new(
        "RGB", (LABEL + SHOWN * (across + GAP) + 2 * GAP + PLOT[0], 24 + max(rows, 2 * PLOT[1] + 60)), "white"
    )
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), title, fill="black")
    for row, trial in enumerate(trials):
        top = 24 + row * (down + GAP)
        pen.text((GAP, top + down // 2 - 14), f"{trial.group}  {trial.value:g}", fill="black")
        pen.text((GAP, top + down // 2), f"motion {trial.motion:.1f}  likeness {trial.likeness:.3f}", fill="#555555")
        for column in range(SHOWN):
            frame = trial.frames[round(column * (len(trial.frames) - 1) / (SHOWN - 1))]
            picture = Image.fromarray(frame.numpy()).resize((across, down), Image.Resampling.BICUBIC)
            page.paste(picture, (LABEL + column * (across + GAP), top))
    left = LABEL + SHOWN * (across + GAP) + GAP
    for number, what in enumerate(("motion", "likeness")):
        _plot(pen, trials, what, left, 24 + number * (PLOT[1] + 30))
    return page


def _plot(pen: "ImageDraw", trials: Sequence[Trial], what: str, left: int, top: int) -> None:
    width, height = PLOT
    values = [getattr(trial, what) for trial in trials]
    places = [trial.value for trial in trials]
    low, high = min(values), max(values)
    first, last = min(places), max(places)
    pen.text((left + 4, top + 2), f"{what}: {low:.3g} to {high:.3g}", fill="black")
    pen.rectangle((left, top + 18, left + width - 1, top + height - 1), outline="#bbbbbb")
    for number, group in enumerate(dict.fromkeys(trial.group for trial in trials)):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            (
                left + 8 + (width - 16) * (trial.value - first) / ((last - first) or 1),
                top + height - 9 - (height - 36) * (getattr(trial, what) - low) / ((high - low) or 1),
            )
            for trial in trials
            if trial.group == group
        ]
        pen.line(points, fill=colour, width=2)
        for x, y in points:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        pen.text((left + 130 + 115 * (number % 2), top + 20 + 11 * (number // 2)), group[:20], fill=colour)
