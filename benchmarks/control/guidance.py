"""What guidance does that changes over the run: curves of its scale, and intervals outside which there is none."""

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


def plan(bench: Bench, scale: float | str, limits: Limits = NO_LIMITS) -> GuidancePlan:
    """With the rescale of the clips without a control."""
    return GuidancePlan(Curve.read("scale", scale, 0, 100), None, bench.subject.dials.rescale, limits)


def compare(bench: Bench, plans: dict[str, GuidancePlan]) -> tuple[str, float]:
    """The measures of each, and what the last costs beside the first."""
    given = bench.pictures(100, [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in range(2 * bench.count)])
    made = [bench.make(given, guidance=each) for each in plans.values()]
    pictures = given.pixels[:, :, 0]
    clips = [each for each, _ in made]
    followed = ", ".join(str(follows(each)) for each in clips)
    likeness = listed([float(conformity(each, pictures).mean()) for each in clips], 3)
    effect = (
        f"{', '.join(plans)}: {followed} of {len(pictures)} clips move as the prompt says, likeness {likeness}, change from frame to "
        f"frame {listed([change(each) for each in clips])}, flicker {listed([flicker(each) for each in clips])}"
    )
    return effect, made[-1][1] / made[0][1]


def follows(made: Tensor) -> int:
    """Clips that the judge of motion sees move as their caption says; the motions come in turn."""
    seen = see_motion(made, motions=("still", *PANS_AND_ZOOMS))
    return sum(one.motion == PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number, one in enumerate(seen))


def count_passes(bench: Bench, each: GuidancePlan) -> int:
    """Branches of all steps of one clip."""
    family, steps = bench.subject.model.family, bench.subject.dials.steps
    timesteps = ddim_timesteps(steps, family.spacing)
    return sum(len(each.at(share_done(torch.tensor([t]))).branches) for t in timesteps)
