"""What weights inside the UNet do: lambda by part, temporal attention's strength and temperature, attention to the first frame."""

from collections.abc import Sequence

from torch import Tensor

from dynamicrafter_core.models.motion import AS_TRAINED, Motion
from dynamicrafter_core.training.measures import conformity

from .measures import Bench, Row, Series, at_equal, change, listed, monotone

FEWER = (0.5, 2.0)
LAMBDAS = (0.5, 1.0, 1.5, 2.0, 3.0)
STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)
TEMPERATURES = (0.5, 1.0, 2.0)
DYNAMICRAFTER = "[DynamiCrafter](https://arxiv.org/abs/2310.12190)"


def lambdas(bench: Bench) -> list[Row]:
    middle = bench.series([{"motion": Motion(middle=weight)} for weight in LAMBDAS])
    ends = bench.series([{"motion": Motion(ends=weight)} for weight in LAMBDAS])
    early = bench.series([{"motion": Motion(weight, weight, end=0.5)} for weight in FEWER])
    late = bench.series([{"motion": Motion(weight, weight, start=0.5)} for weight in FEWER])
    return [
        Row("lambda, middle", DYNAMICRAFTER, f"{_told(middle, LAMBDAS)}. {_compared(middle, ends)}", max(middle.cost)),
        Row("lambda, ends", DYNAMICRAFTER, _told(ends, LAMBDAS), max(ends.cost)),
        Row("lambda of both, first half of the run", DYNAMICRAFTER, _told(early, FEWER), max(early.cost)),
        Row("lambda of both, second half", DYNAMICRAFTER, _told(late, FEWER), max(late.cost)),
    ]


def _told(series: Series, weights: Sequence[float]) -> str:
    return (
        f"lambda {', '.join(f'{weight:g}' for weight in weights)}: change from frame to frame {listed(series.change)} "
        f"({monotone(series.change)}), likeness {listed(series.likeness, 3)}"
    )


def _compared(middle: Series, ends: Series) -> str:
    """Which of them keeps the picture better where both leave as much motion."""
    pairs = [
        (likeness, other)
        for moved, likeness in zip(middle.change, middle.likeness, strict=True)
        if (other := at_equal(moved, ends.change, ends.likeness)) is not None
    ]
    if not pairs:
        return "The two parts never leave the same motion, so they cannot be compared"
    better = sum(mine > other for mine, other in pairs)
    return f"At equal motion the middle keeps the picture better than the ends in {better} of {len(pairs)} settings"


def strength(bench: Bench) -> list[Row]:
    made = bench.series([{"motion": Motion(strength=(value,))} for value in STRENGTHS])
    effect = (
        f"{', '.join(f'{value:g}' for value in STRENGTHS)}: change from frame to frame {listed(made.change)} "
        f"({monotone(made.change)}), flicker {listed(made.flicker)}, likeness {listed(made.likeness, 3)}"
    )
    return [
        Row("motion strength", "[AnimateDiff](https://arxiv.org/abs/2307.04725)'s motion scale", effect, max(made.cost))
    ]


def temperature(bench: Bench) -> list[Row]:
    made = bench.series([{"motion": Motion(temperature=(value,))} for value in TEMPERATURES])
    effect = (
        f"{', '.join(f'{value:g}' for value in TEMPERATURES)}: change from frame to frame {listed(made.change)} "
        f"({monotone(made.change)}), likeness {listed(made.likeness, 3)}"
    )
    return [Row("motion temperature", "softmax temperature", effect, max(made.cost))]


def causal(bench: Bench) -> list[Row]:
    made = bench.series([{"motion": Motion(causal=each)} for each in (False, True)])
    effect = (
        f"off, on: change from frame to frame {listed(made.change)}, flicker {listed(made.flicker)}, likeness {listed(made.likeness, 3)}; the "
        "model was trained without it"
    )
    return [Row("causal temporal attention", "[MagicVideo](https://arxiv.org/abs/2211.11018)", effect, max(made.cost))]


def first_frame(bench: Bench) -> list[Row]:
    """With the picture as detail beside the noise, and without, where attention to the first frame is all that the others have of it."""
    shown = [compare_frames(bench, vdg) for vdg in (True, False)]
    effect = "; ".join(
        f"{words}: {told}"
        for words, (told, _) in zip(("with the detail of the picture", "without it"), shown, strict=True)
    )
    paper = "[Text2Video-Zero](https://arxiv.org/abs/2303.13439)"
    return [Row("first-frame attention", paper, f"off, beside 1, in-place 1, {effect}", shown[0][1])]


def compare_frames(bench: Bench, vdg: bool) -> tuple[str, float]:
    """Likeness of the last frame to the picture and to the clip's own first frame; what the last setting costs beside the first."""
    pictures = bench.clips.pixels[:, :, 0]
    settings = (AS_TRAINED, Motion(first_frame=1), Motion(first_frame=1, manner="in-place"))
    made = [bench.make(motion=motion, vdg=vdg) for motion in settings]
    clips = [each for each, _ in made]
    figures = {
        "likeness of the last frame to the picture": listed([likeness(each[:, :, -1], pictures) for each in clips], 3),
        "to the first frame": listed([likeness(each[:, :, -1], each[:, :, 0]) for each in clips], 3),
        "change from frame to frame": listed([change(each) for each in clips]),
    }
    return ", ".join(f"{name} {values}" for name, values in figures.items()), made[-1][1] / made[0][1]


def likeness(frames: Tensor, others: Tensor) -> float:
    return float(conformity(frames[:, :, None], others).mean())
