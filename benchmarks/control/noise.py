"""What noise does that frames share: along a camera path, still, and begun again from a clip."""

from dynamicrafter_core.diffusion.noise import NoisePrior
from dynamicrafter_core.diffusion.noise_path import NoisePath
from dynamicrafter_core.training.measures import conformity
from dynamicrafter_core.training.motion_judge import see_motion

from .measures import PANS_AND_ZOOMS, Bench, Row, listed, silent

PATHS = {
    "pan_left": NoisePath(pan_x=-0.3),
    "pan_right": NoisePath(pan_x=0.3),
    "pan_up": NoisePath(pan_y=-0.3),
    "pan_down": NoisePath(pan_y=0.3),
    "zoom_in": NoisePath(zoom=1.5),
    "zoom_out": NoisePath(zoom=1 / 1.5),
}
SHARE = 1.0
START = 940  # where zero-SNR models still see something of a clip


def camera(bench: Bench) -> list[Row]:
    """Does the clip move as the noise does, without a word in the prompt?"""
    right, likeness, seconds, count = 0, 0.0, 0.0, 0
    for index, (name, path) in enumerate(PATHS.items()):
        cases = len(range(index, bench.cases, len(PATHS)))
        clips = silent(bench.pictures(100 * index, [name] * cases))
        made, each = bench.make(clips, noise=NoisePrior("residual", SHARE, path), eta=0.0)
        right += sum(seen.motion == name for seen in see_motion(made, motions=("still", *PANS_AND_ZOOMS)))
        likeness += float(conformity(made, clips.pixels[:, :, 0]).sum())
        seconds, count = seconds + each * cases, count + cases
    effect = (
        f"{right} of {count} clips move along the path without a word in the prompt (residual, share {SHARE:g}, eta 0); likeness "
        f"{likeness / count:.3f}"
    )
    paper = "[Text2Video-Zero](https://arxiv.org/abs/2303.13439)"
    return [Row("noise: camera path", paper, effect, seconds / count / bench.seconds)]


def shared(bench: Bench) -> list[Row]:
    priors = {
        "mixed, alpha 0.5": (NoisePrior("mixed", 0.5), "[PYoCo](https://arxiv.org/abs/2305.10474)"),
        "progressive, alpha 1": (NoisePrior("progressive", 1.0), "[PYoCo](https://arxiv.org/abs/2305.10474)"),
        "residual, share 0.2": (NoisePrior("residual", 0.2), "[VideoFusion](https://arxiv.org/abs/2303.08320)"),
    }
    plain = bench.series([{}])
    rows = []
    for name, (prior, paper) in priors.items():
        made = bench.series([{"noise": prior}])
        effect = (
            f"flicker {plain.flicker[0]:.2f} to {made.flicker[0]:.2f}, change from frame to frame {plain.change[0]:.2f} to "
            f"{made.change[0]:.2f}, likeness {plain.likeness[0]:.3f} to {made.likeness[0]:.3f}"
        )
        rows.append(Row(f"noise: {name}", paper, effect, made.cost[0]))
    return rows


def freeinit(bench: Bench) -> list[Row]:
    made = bench.series([{"start_step": START, "freeinit": times} for times in (0, 1)])
    effect = (
        f"start step {START}, once and again: flicker {listed(made.flicker)}; change from frame to frame {listed(made.change)}; "
        f"likeness {listed(made.likeness, 3)}"
    )
    return [Row("noise: FreeInit", "[FreeInit](https://arxiv.org/abs/2312.07537)", effect, made.cost[1])]
