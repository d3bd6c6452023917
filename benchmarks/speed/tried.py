"""What else was tried, and is not shipped: each as a change to the code, for as long as its clips are made."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from dynamicrafter_core.diffusion.curves import Curve
from dynamicrafter_core.diffusion.guidance import guided
from dynamicrafter_core.diffusion.guidance_plan import GuidancePlan, Limits
from dynamicrafter_core.diffusion.reuse import ReusePlan, Speed
from dynamicrafter_core.diffusion.sampling import executed_timesteps
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.models.transformers import Attention, DualAttention, TemporalAttention
from dynamicrafter_core.training import generate

from .clips import Bench

Dials = dict[str, Any]


@contextmanager
def planned(runs: Sequence[int], whole: Sequence[int] | None = None) -> Iterator[None]:
    """The network runs in these steps, and all of it in those (all that run, if nothing is said)."""

    def of(speed: Speed, levels: Sequence[float]) -> ReusePlan:
        return ReusePlan(tuple(levels), tuple(runs), tuple(runs if whole is None else whole))

    with patch.object(generate.ReusePlan, "of", of):
        yield


@contextmanager
def attention_every(spatial: int = 1, temporal: int = 1, cross: int = 1) -> Iterator[None]:
    """The output of each attention is kept for so many steps (pyramid attention broadcast)."""
    forward, kept, turns = Attention.forward, {}, {}

    def reused(layer: Attention, x: Tensor, signals: Any) -> Tensor:
        kind = (
            cross if isinstance(layer, DualAttention) else temporal if isinstance(layer, TemporalAttention) else spatial
        )
        turns[layer] = turns.get(layer, -1) + 1
        if turns[layer] % kind == 0:
            kept[layer] = forward(layer, x, signals)
        return kept[layer]

    with patch.object(Attention, "forward", reused):
        yield


@contextmanager
def unconditional_every(interval: int) -> Iterator[None]:
    """The unconditional branch runs in every n-th step; between, what it differs by from the conditional one stands."""

    def fewer(run: Callable, guidance: Any, schedule: NoiseSchedule) -> Callable:
        step, difference = -1, None

        def some(x: Tensor, t: Tensor, names: tuple[str, ...]) -> Sequence[Tensor]:
            nonlocal step, difference
            step += 1
            if step % interval and difference is not None:
                (cond,) = run(x, t, ("cond",))
                return [cond, cond - difference]
            cond, uncond = run(x, t, names)
            difference = cond - uncond
            return [cond, uncond]

        return guided(some, guidance, schedule)

    with patch.object(generate, "guided", fewer):
        yield


@contextmanager
def multistep() -> Iterator[None]:
    """DPM-Solver++ (2M) in place of DDIM, on the same timesteps and the exact schedule."""
    with patch.object(generate, "sample_ddim", dpm_2m):
        yield


def dpm_2m(
    predict: Callable, x: Tensor, schedule: NoiseSchedule, steps: int, spacing: Any, *_: Any, **__: Any
) -> Tensor:
    """On y = x_0 + sigma noise, as k-diffusion's sample_dpmpp_2m; from a sigma that is infinite the first step is exact."""
    timesteps = executed_timesteps(steps, spacing)[::-1]
    signal, scale = schedule.alphas_cumprod.sqrt(), schedule.scale
    sigmas = [*(((1 - signal**2) ** 0.5 / signal / scale)[timesteps].tolist()), 0.0]
    y, before, last = None, None, float("inf")
    for k, t in enumerate(timesteps):
        at = torch.full((len(x),), t, device=x.device)
        clean = schedule.clean(predict(x, at), x, at)
        sigma, following = sigmas[k], sigmas[k + 1]
        if following == 0:
            return clean
        h = float("inf") if sigma == float("inf") else float(torch.tensor(sigma / following).log())
        ahead = clean if before is None or last == float("inf") else clean + (clean - before) * (h / (2 * last))
        if sigma == float("inf"):
            y = ahead + following * x  # x is the noise itself
        else:
            y = x / (signal[t] * scale[t]) if y is None else y
            y = following / sigma * y + (1 - following / sigma) * ahead
        before, last = clean, h
        x = (y * signal[timesteps[k + 1]] * scale[timesteps[k + 1]]).float()
    return x


def everything(bench: Bench, steps: int) -> list[tuple[str, Any, Dials]]:
    """Name, what is changed meanwhile, and the dials. A list, for steps other than the embedded model's have other places."""
    scale = Curve.flat(bench.subject.dials.text_scale)

    def limited(limits: str) -> Dials:
        return {"guidance": GuidancePlan(scale, None, bench.subject.dials.rescale, Limits.read(limits))}

    from_end = [*range(steps - 1, 0, -3)]
    alternate = range(0, steps, 2)
    found: list[tuple[str, Any, Dials]] = []
    for share in (0.53, 0.4, 0.27, 0.2):
        found.append((f"clip reused: steps {share:g}", None, {"speed": Speed(share)}))
    found.append(("clip reused: the network runs every third step", planned(sorted({0, *from_end})), {}))
    found.append(("inner 2, second half", None, {"speed": Speed(inner=2)}))
    found.append(("inner 3, second half", None, {"speed": Speed(inner=3)}))
    found.append(("inner 2, whole run", planned(range(steps), alternate), {}))
    for share, inner in ((0.53, 2), (0.4, 2), (0.4, 3), (0.27, 2), (0.2, 2)):
        found.append((f"steps {share:g}, inner {inner}", None, {"speed": Speed(share, inner)}))
    found.append(("unconditional branch every 2nd step", unconditional_every(2), {}))
    found.append(("unconditional branch every 3rd step", unconditional_every(3), {}))
    found.append(("guidance in the first half only", None, limited("to 0.5")))
    found.append(("guidance from 0.2 on", None, limited("from 0.2")))
    found.append(("spatial self-attention every 2nd step", attention_every(spatial=2), {}))
    found.append(("temporal attention every 2nd step", attention_every(temporal=2), {}))
    found.append(("all attention every 2nd step", attention_every(2, 2, 2), {}))
    for fewer in (8, 6, 3):
        found.append((f"DDIM, {fewer} steps", None, {"steps": fewer}))
    for fewer in (6, 3):
        found.append((f"DDIM, eta 0, {fewer} steps", None, {"steps": fewer, "eta": 0.0}))
        found.append((f"DPM++ 2M, {fewer} steps", multistep(), {"steps": fewer}))
    return found
