"""The work of a run, counted: passes of the network, and floating-point operations at a released size."""

import time

import torch
from torch import Tensor

from benchmarks.measure import count_flops, medians
from benchmarks.models import config, inputs, random_weights
from dynamicrafter_core.diffusion.reuse import OUTER, PRESETS, ReusePlan, Speed
from dynamicrafter_core.models.hooks import Hooks, InnerHook
from dynamicrafter_core.models.transformers import DualAttention
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

BRANCHES = 2
STEPS = 50  # of the released models


def outer_share(figures: UNetConfig, given: tuple[Tensor, ...]) -> float:
    """What a pass without the inner blocks takes, of a whole one."""
    unet = VideoUNet(figures, device="meta")
    kept: list[Tensor] = []
    place = f"output {len(unet.input_blocks) - OUTER}"
    keep = Hooks(inner=InnerHook(place, lambda compute, where: kept.append(compute()) or kept[0]))  # type: ignore[func-returns-value]
    whole = count_flops(lambda: unet(*given, hooks=keep))
    again = Hooks(inner=InnerHook(place, lambda compute, where: kept[0]))
    return count_flops(lambda: unet(*given, hooks=again)) / whole


def text_share(size: str) -> float:
    """What the keys and values of text and image take, of a whole pass: all that computing them once a clip could save."""
    figures, given = config(size), inputs(size, 1, torch.float32, torch.device("meta"))
    unet = VideoUNet(figures, device="meta")
    text, image = given[2], given[3].flatten(0, 1)
    readers = [layer for layer in unet.modules() if isinstance(layer, DualAttention)]
    keys_and_values = count_flops(
        lambda: [(r.to_k(text), r.to_v(text), r.to_k_ip(image), r.to_v_ip(image)) for r in readers]
    )
    return keys_and_values / count_flops(lambda: unet(*given))


def saved(speed: Speed, steps: int, share: float) -> tuple[int, int, float]:
    """Passes of the network for each branch, those that are whole, and by how much the work falls."""
    plan = ReusePlan.of(speed, list(range(steps, 0, -1)))
    whole = len(plan.whole)
    return len(plan.runs), whole, steps / (whole + share * (len(plan.runs) - whole))


def full_size(size: str, dtype: torch.dtype, repeat: int) -> tuple[str, list[list[str]]]:
    """A random UNet of a released size: a whole and an outer pass of both branches, timed in turns, and what runs of them take."""
    device, kept = torch.device("cpu"), []
    unet = random_weights(VideoUNet(config(size), dtype=dtype, device=device))
    given = inputs(size, BRANCHES, dtype, device)
    place = f"output {len(unet.input_blocks) - OUTER}"
    keep = Hooks(inner=InnerHook(place, lambda compute, where: kept.append(compute()) or kept[-1]))  # type: ignore[func-returns-value]
    again = Hooks(inner=InnerHook(place, lambda compute, where: kept[0]))
    with torch.inference_mode():
        unet(*given, hooks=keep)
        began = time.perf_counter()
        whole, outer = medians([lambda: unet(*given), lambda: unet(*given, hooks=again)], repeat)
    memory = kept[0].nbytes / 2**20
    counted = outer_share(config(size), inputs(size, BRANCHES, torch.float32, torch.device("meta")))
    rows = []
    for name, speed in PRESETS.items():
        passes, full, work = saved(speed, STEPS, counted)
        seconds = full * whole + (passes - full) * outer
        rows.append(
            [name, f"{BRANCHES * passes}", f"{BRANCHES * full}", f"{work:.2f} x", f"{STEPS * whole / seconds:.2f} x"]
        )
    said = (
        f"A UNet of released size with random weights, {size}, {str(dtype).removeprefix('torch.')}, {BRANCHES} branches, {STEPS} steps: "
        f"a pass without the inner blocks takes {counted:.0%} of the operations of a whole pass and {outer / whole:.0%} of its time "
        f"(medians of {repeat}, interleaved, {time.perf_counter() - began:.0f} s); the cache takes {memory:.0f} MiB."
    )
    return said, rows
