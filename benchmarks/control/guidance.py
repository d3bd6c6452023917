"""What guidance does that changes over the run, by curves of its scale and intervals without any, and what its projection does."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dynamicrafter_core.diffusion.curves import Curve
from dynamicrafter_core.diffusion.guidance_plan import NO_LIMITS, GuidancePlan, Limits
from dynamicrafter_core.diffusion.schedule import ddim_timesteps, share_done
from dynamicrafter_core.training.measures import conformity
from dynamicrafter_core.training.motion_judge import see_motion

from .measures import PANS_AND_ZOOMS, Bench, Row, change, flicker, listed

SCALE = 4.0  # twice the embedded model's own, for more to show
CURVES = {"4": SCALE, "7 falling to 1": "0: 7, 1: 1", "1 rising to 7": "0: 1, 1: 7"}  # of equal mean
HIGH = 8.0  # where the embedded model's colours are too strong
INTERVALS = ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0))


def curves(bench: Bench) -> list[Row]:
    effect, cost = compare(bench, {name: plan(bench, scale) for name, scale in CURVES.items()})
    paper = "[Guidance weight schedulers](https://arxiv.org/abs/2404.13040)"
    return [Row("text guidance as a curve", paper, effect, cost)]


def interval(bench: Bench) -> list[Row]:
    plans = {f"{start:g} to {end:g}": plan(bench, SCALE, Limits(start, end)) for start, end in INTERVALS}
    effect, cost = compare(bench, plans)
    passes = ", ".join(str(count_passes(bench, each)) for each in plans.values())
    paper = "[Limited interval](https://arxiv.org/abs/2404.07724)"
    return [Row(f"guidance limits, scale {SCALE:g}", paper, f"{effect}; passes of the network {passes}", cost)]


def projection(bench: Bench) -> list[Row]:
    """Contrast and colour are those of the clips beside the pictures' own: 1 is right."""
    high = Curve.flat(HIGH)
    plans = {
        "off": GuidancePlan(high),
        "guidance rescale 0.7": GuidancePlan(high, rescale=0.7),
        "parallel 0": GuidancePlan(high, limits=Limits.read("parallel 0")),
        "norm 0.1": GuidancePlan(high, limits=Limits.read("norm 0.1")),
        "parallel 0, norm 0.1, momentum -0.5": GuidancePlan(
            high, limits=Limits.read("parallel 0, norm 0.1, momentum -0.5")
        ),
    }
    effect, cost = compare(bench, plans, {"contrast": contrast, "colour": colour})
    paper = "[APG](https://arxiv.org/abs/2410.02416)"
    return [Row(f"projected guidance, scale {HIGH:g}", paper, effect, cost)]


def plan(bench: Bench, scale: float | str, limits: Limits = NO_LIMITS) -> GuidancePlan:
    """With the rescale of the clips without a control."""
    return GuidancePlan(Curve.read("scale", scale, 0, 100), None, bench.subject.dials.rescale, limits)


def compare(
    bench: Bench, plans: dict[str, GuidancePlan], looks: Mapping[str, Callable[[Tensor], float]] = {}
) -> tuple[str, float]:
    """The measures of each, `looks` beside those of the pictures, and what the last costs beside the first."""
    given = bench.pictures(100, [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in range(2 * bench.count)])
    made = [bench.make(given, guidance=each) for each in plans.values()]
    pictures = given.pixels[:, :, 0]
    clips = [each for each, _ in made]
    figures = {
        "likeness": listed([float(conformity(each, pictures).mean()) for each in clips], 3),
        "change from frame to frame": listed([change(each) for each in clips]),
        "flicker": listed([flicker(each) for each in clips]),
        **{name: listed([look(each) / look(pictures[:, :, None]) for each in clips]) for name, look in looks.items()},
    }
    followed = ", ".join(str(follows(each)) for each in clips)
    effect = f"{'; '.join(plans)}: {followed} of {len(pictures)} clips move as the prompt says, " + ", ".join(
        f"{name} {values}" for name, values in figures.items()
    )
    return effect, made[-1][1] / made[0][1]


def contrast(clips: Tensor) -> float:
    """Standard deviation over the pixels of a frame."""
    return float(clips.std((1, 3, 4)).mean())


def colour(clips: Tensor) -> float:
    """How far red, green and blue lie apart."""
    return float((clips.amax(1) - clips.amin(1)).mean())


def follows(made: Tensor) -> int:
    """Clips that the judge of motion sees move as their caption says; the motions come in turn."""
    seen = see_motion(made, motions=("still", *PANS_AND_ZOOMS))
    return sum(one.motion == PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number, one in enumerate(seen))


def count_passes(bench: Bench, each: GuidancePlan) -> int:
    """Branches of all steps of one clip."""
    family, steps = bench.subject.model.family, bench.subject.dials.steps
    timesteps = ddim_timesteps(steps, family.spacing)
    return sum(len(each.at(share_done(torch.tensor([t]))).branches) for t in timesteps)
