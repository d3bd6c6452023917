"""`python -m benchmarks.profile --size 1024`: where the time of one forward of the UNet goes, operation by operation, with random weights.

Each operation is timed as PyTorch calls it, so the seconds of a line are its own and all lines together are the forward. Beside the
attention over pixels stand its two matrix products alone, on the same shapes. Where a level has as many pixels as the clip has frames, both attentions count as one over frames.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dynamicrafter_core.devices import computes_in_bf16, reused_memory
from dynamicrafter_core.models.unet import VideoUNet

from .measure import machine, matmul_ceiling, medians
from .models import SIZES, config, inputs, random_weights

aten = torch.ops.aten
KINDS = {
    "linear layers": {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.linear},
    "norms": {aten.native_group_norm, aten.native_layer_norm, aten.group_norm, aten.layer_norm},
    "activations": {aten.silu, aten.silu_, aten.gelu, aten.gelu_, aten._softmax, aten.softmax},
    "copies": {aten.clone, aten.copy_, aten._to_copy, aten.cat, aten.contiguous, aten.repeat, aten._reshape_copy},
}
PIXELS = "attention over pixels"


@dataclass
class Work:
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    shapes: set[tuple[int, ...]] = field(default_factory=set)  # of the queries, where it is attention


class Profile(TorchDispatchMode):
    """What is done within it, by kind."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames, self.work = frames, defaultdict[str, Work](Work)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken = time.perf_counter() - start
        kind = self.kind(func.overloadpacket, args)
        work = self.work[kind]
        work.calls, work.seconds = work.calls + 1, work.seconds + taken
        work.flops += self.flops(func.overloadpacket, args, kwargs or {}, out)
        if kind == PIXELS:
            work.shapes.add(tuple(args[0].shape))
        return out

    def kind(self, packet: Any, args: tuple[Any, ...]) -> str:
        if "scaled_dot_product" in str(packet):
            asked, given = args[0].shape[-2], args[1].shape[-2]
            if asked != given:
                return "attention to text and image"
            return "attention over frames" if asked == self.frames else PIXELS
        if "convolution" in str(packet):
            kernel = tuple(args[1].shape[2:])
            return "temporal convolutions" if 1 in kernel and max(kernel) > 1 else "spatial convolutions"
        return next((name for name, packets in KINDS.items() if packet in packets), "additions and the rest")

    @staticmethod
    def flops(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> float:
        if "scaled_dot_product" in str(packet):
            rows, heads, asked, width = args[0].shape
            return 4.0 * rows * heads * asked * args[1].shape[-2] * width
        counted = flop_registry.get(packet)
        return float(counted(*args, **kwargs, out_val=out)) if counted else 0.0


def profile(size: str, dtype: torch.dtype, device: torch.device) -> Profile:
    """One forward, after one of the smallest clip, which warms up."""
    unet = random_weights(VideoUNet(config(size), dtype=dtype, device=device))
    x, *rest = inputs(size, 1, dtype, device)
    unet(x[..., :8, :8], *rest)
    with Profile(x.shape[2]) as seen:
        unet(x, *rest)
    return seen


def share_of_products(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> float:
    """What the two matrix products of attention over such queries reach alone, of a large product's rate, in turns.

    As many queries at a time as leave their logits in a cache.
    """
    length, width = shape[-2:]
    rows = min(length, 256)
    q, k, v = (torch.randn(length, width, dtype=dtype, device=device) for _ in range(3))
    weights = torch.rand(rows, length, dtype=dtype, device=device)
    m, n = 512, 1024
    left, right = torch.randn(m, n, dtype=dtype, device=device), torch.randn(n, n, dtype=dtype, device=device)
    of_attention, of_large = medians([lambda: (q[:rows] @ k.T, weights @ v), lambda: left @ right], 9)
    return (4 * rows * length * width / of_attention) / (2 * m * n * n / of_large)


def table(seen: Profile, ceiling: float) -> str:
    whole = sum(work.seconds for work in seen.work.values())
    lines = [
        "| what | calls | seconds | share of time | TFLOP | of peak |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, work in sorted(seen.work.items(), key=lambda item: -item[1].seconds):
        share = f"{work.flops / work.seconds / ceiling:.0%}" if work.flops else ""
        flops = f"{work.flops / 1e12:.3f}" if work.flops else ""
        lines.append(f"| {kind} | {work.calls} | {work.seconds:.2f} | {work.seconds / whole:.0%} | {flops} | {share} |")
    flops = sum(work.flops for work in seen.work.values())
    lines.append(f"| all | | {whole:.2f} | 100% | {flops / 1e12:.3f} | {flops / whole / ceiling:.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny", help="latent size (default: tiny)")
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16", "fp16"), help="default: bf16 where the device computes in it"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = options.dtype or ("bf16" if computes_in_bf16(device) else "fp32")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    with torch.no_grad(), reused_memory(device):
        before = matmul_ceiling(dtype, device)
        seen = profile(options.size, dtype, device)
        ceiling = (before + matmul_ceiling(dtype, device)) / 2
        shapes = sorted(seen.work[PIXELS].shapes, key=lambda shape: -shape[-2])
        alone = [(shape, share_of_products(shape, dtype, device)) for shape in shapes]
    sys.stdout.write(
        f"### {machine(device)}\n\n{options.size}, {name}, peak of matrix products: {ceiling / 1e9:.0f} GFLOP/s\n\n"
    )
    sys.stdout.write(table(seen, ceiling) + "\n\n")
    for (_, _, length, width), share in alone:
        sys.stdout.write(
            f"The matrix products of attention over {length} pixels with head size {width}, alone: {share:.0%} of the rate of a large product.\n"
        )


if __name__ == "__main__":
    main()
