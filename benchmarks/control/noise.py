"""What noise does that frames share, and noise that is begun again from a clip."""

from dynamicrafter_core.diffusion.noise import NoisePrior

from .measures import Bench, Row, listed

START = 940  # where zero-SNR models still see something of a clip


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
        f"start step {START}, without and with a FreeInit run: flicker {listed(made.flicker)}; change from frame to frame {listed(made.change)}; "
        f"likeness {listed(made.likeness, 3)}"
    )
    return [Row("noise: FreeInit", "[FreeInit](https://arxiv.org/abs/2312.07537)", effect, made.cost[1])]
