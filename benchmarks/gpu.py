"""Whether this project is right on a CUDA device, what memory it takes and how fast it is: one table, also to report a problem with.

python -m benchmarks.gpu                 on the first CUDA device, at most eight minutes
python -m benchmarks.gpu --rehearse      the same code on the CPU, with small networks
python -m benchmarks.gpu --comfyui DIR   in a ComfyUI too: weights loaded in part, LoRAs on them, torch.compile, out of memory

It runs from a checkout with torch, einops, safetensors and numpy; making a clip also needs open_clip_torch, kornia, Pillow and tqdm. What
cannot run is said in the table, and the rest goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynamicrafter_core.devices import DTYPES, PeakMemory, finish, release_memory
from dynamicrafter_core.families import FAMILIES, FINE_TUNES
from dynamicrafter_core.models.autoencoder import Autoencoder, AutoencoderConfig
from dynamicrafter_core.models.projector import Projector, ProjectorConfig
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

from . import models
from .measure import machine, matmul_ceiling

sys.path.append(str(Path(__file__).parents[1] / "tests" / "core"))  # golden values, and the rule that fills the weights
SMALL: dict[str, Any] = {
    "model_channels": 32,
    "head_channels": 8,
    "channel_mult": (1, 2),
    "res_blocks": 1,
    "attention_levels": (0,),
}
BARS = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}  # of a tensor's largest value


@dataclass(frozen=True)
class Line:
    section: str
    what: str
    result: str
    good: bool | None = None  # None: a figure without a bar


@dataclass(frozen=True)
class Check:
    device: torch.device
    rehearse: bool
    until: float
    comfyui: Path | None = None

    def left(self) -> float:
        return self.until - time.monotonic()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small networks")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="what does not fit is left out, and said (default: 8)"
    )
    parser.add_argument(
        "--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"), help="the folder of ComfyUI (COMFYUI_PATH)"
    )
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        sys.stderr.write(
            "There is no CUDA device here; --rehearse runs the same checks on the CPU, with small networks.\n"
        )
        return 2
    device = torch.device("cpu" if options.rehearse else "cuda")
    check = Check(device, options.rehearse, time.monotonic() + 60 * options.minutes, options.comfyui)
    # Exact means fp32: CUDA's convolutions round to TF32 unless they are told not to.
    torch.backends.cudnn.allow_tf32 = False
    lines: list[Line] = []
    for section in (exactness, variants, steps, clips, commands, comfyui):
        lines += run(section, check)
    sys.stdout.write(f"### {machine(device)}\n\n{table(lines)}\n")
    return 0 if all(line.good is not False for line in lines) else 1


def run(section: Callable[[Check], Iterator[Line]], check: Check) -> list[Line]:
    """One that fails, or for which no time is left, does not stop the others."""
    name, found = section.__name__, []
    if check.left() <= 0:
        return [Line(name, "all of it", "left out: the time is over")]
    sys.stderr.write(f"{name} ...\n")
    try:
        with torch.inference_mode():
            for line in section(check):
                found.append(line)
                sys.stderr.write(f"  {line.what}: {line.result}\n")
                if check.left() <= 0:
                    return [*found, Line(name, "the rest", "left out: the time is over")]
    except Exception as error:
        sys.stderr.write(traceback.format_exc())
        found.append(Line(name, "the rest", f"{type(error).__name__}: {error}".split("\n")[0][:300], False))
    release_memory(check.device)
    return found


def table(lines: list[Line]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    rows = [f"| {line.section} | {line.what} | {line.result} | {marks[line.good]} |" for line in lines]
    return "\n".join(["| section | what | result | within its bar |", "| --- | --- | --- | --- |", *rows])


def exactness(check: Check) -> Iterator[Line]:
    """Every network against what the original code computed, in each precision."""
    for dtype, bar in BARS.items():
        for name, networks in {"UNet": unets, "autoencoder": autoencoders, "projector": projectors}.items():
            worst = max(error for make in networks() for error in make(check.device, DTYPES[dtype]))
            yield Line(
                "exactness", f"{name}, {dtype}", f"{worst:.1e} of the largest value (bar {bar:.0e})", worst <= bar
            )


Errors = Callable[[torch.device, torch.dtype], Iterator[float]]


def difference(actual: Tensor, expected: dict[str, Any]) -> float:
    flat = actual.detach().double().flatten().cpu()
    if not flat.isfinite().all():
        return float("inf")
    errors = [abs(flat[int(index)].item() - value) for index, value in expected["samples"].items()]
    return max(*errors, abs(flat.abs().max().item() - expected["absmax"])) / expected["absmax"]


def filled(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    from golden import fill

    return fill(module).to(device, dtype)


def unets() -> Iterator[Errors]:
    from golden import golden

    image_models, text_models, turbo = (
        golden(f"{name}_golden") for name in ("dynamicrafter", "videocrafter", "t2v_turbo")
    )
    for flavour in ("dc_unet", "dc_unet_alpha"):
        first = next(value for key, value in image_models[flavour].items() if key.startswith("A:"))
        yield unet_case(image_models[flavour]["config"], first, channels=8, images=4, fs=10)
    for flavour in ("vc1_t2v_512_like", "vc1_t2v_1024_like", "vc2_t2v_like", "vc1_i2v_like"):
        case = text_models[flavour]
        yield unet_case(case["config"], case["fps=[8]"], channels=4, images=1 if "i2v" in flavour else 0, fs=8)
    for flavour, motion in (("turbo_like", ""), ("turbo_v2_mg_like", " motion_gs=0.05")):
        case = turbo[flavour]
        given = {"guidance": 7.5, **({"motion_scale": 0.05} if motion else {})}
        yield unet_case(
            case["config"], case[f"t=321 fps=[16] w=7.5{motion}"], channels=4, images=0, fs=16, tokens=93, **given
        )


def unet_case(
    config: dict[str, Any],
    expected: dict[str, Any],
    channels: int,
    images: int,
    fs: int,
    tokens: int = 141,
    **scales: float,
) -> Errors:
    """`images`: how many frames have image tokens of their own."""
    from golden import golden_input

    def run(device: torch.device, dtype: torch.dtype) -> Iterator[float]:
        unet = filled(VideoUNet(UNetConfig.from_reference(config)), device, dtype)
        context = golden_input("context", [1, tokens, 48]).to(device, dtype)
        image = context[:, 77:].unflatten(1, (-1, 16))[:, :images] if images else None
        x = golden_input("x", [1, channels, 4, 16, 24]).to(device, dtype)
        values = {name: torch.tensor([value], device=device) for name, value in scales.items()}
        t, rate = torch.tensor([321], device=device), torch.tensor([fs], device=device)
        yield difference(unet(x, t, context[:, :77], image, rate, **values), expected)

    return run


def autoencoders() -> Iterator[Errors]:
    from golden import golden, golden_input

    case = golden("dynamicrafter_golden")["vae"]

    def run(device: torch.device, dtype: torch.dtype) -> Iterator[float]:
        coder: Any = filled(Autoencoder(AutoencoderConfig.from_reference(case["ddconfig"])), device, dtype)
        mean, logvar = coder.encode(golden_input("image", [2, 3, 64, 48]).to(device, dtype))
        pixels = coder.decode(golden_input("z", [2, 4, 8, 6]).to(device, dtype))
        yield difference(mean, case['encode mean of input("image",[2,3,64,48])'])
        yield difference(logvar, case["logvar (clamped)"])
        yield difference(pixels, case['decode input("z",[2,4,8,6])'])

    yield run


def projectors() -> Iterator[Errors]:
    from golden import golden, golden_input

    cases = golden("dynamicrafter_golden")

    def run(device: torch.device, dtype: torch.dtype) -> Iterator[float]:
        for flavour in ("resampler_frames", "resampler_single"):
            projector = filled(Projector(ProjectorConfig.from_reference(cases[flavour]["config"])), device, dtype)
            tokens = golden_input("img_tokens", [2, 11, 40]).to(device, dtype)
            yield difference(projector(tokens).flatten(1, 2), cases[flavour]["out"])

    yield run


def variants(check: Check) -> Iterator[Line]:
    """The UNet of every variant in its full size, with random weights: finite, in how much memory, and how fast."""
    for name, family in {**FAMILIES, **FINE_TUNES}.items():
        for dtype in ("fp16", "bf16"):
            config = replace(family.unet, **SMALL) if check.rehearse else family.unet
            width, height = (64, 64) if check.rehearse else (family.width, family.height)
            unet = models.random_weights(VideoUNet(config, dtype=DTYPES[dtype], device=check.device))
            given = inputs(
                config, family.frames if not check.rehearse else 4, height // 8, width // 8, family.image_tokens, unet
            )
            peak = PeakMemory(check.device)
            begun = time.perf_counter()
            out = unet(**given)
            finish(check.device)
            seconds = time.perf_counter() - begun
            result = f"{seconds:.2f} s the first time, {peak.mark() / 2**30:.2f} GiB"
            yield Line(
                "variants",
                f"{name}, {width}x{height}x{given['x'].shape[2]}, {dtype}",
                result,
                bool(out.isfinite().all()),
            )
            del unet, given, out
            release_memory(check.device)


def inputs(
    config: UNetConfig, frames: int, height: int, width: int, tokens: str | None, unet: nn.Module
) -> dict[str, Any]:
    make: dict[str, Any] = {"dtype": next(unet.parameters()).dtype, "device": next(unet.parameters()).device}
    given: dict[str, Any] = {
        "x": torch.randn(1, config.in_channels, frames, height, width, **make),
        "timesteps": torch.full((1,), 500, device=make["device"]),
        "text": torch.randn(1, 77, config.context_dim, **make),
    }
    if tokens:
        given["image"] = torch.randn(1, frames if tokens == "per frame" else 1, 16, config.context_dim, **make)
    if config.guidance_dim:
        given["guidance"] = torch.full((1,), 7.5, device=make["device"])
    if config.motion_dim:
        given["motion_scale"] = torch.full((1,), 0.05, device=make["device"])
    return given


def steps(check: Check) -> Iterator[Line]:
    """A guided step of three branches, as a share of what matrix products reach here, and its memory."""
    dtype = torch.bfloat16
    ceiling = float("inf") if check.rehearse else matmul_ceiling(dtype, check.device)
    if not check.rehearse:
        yield Line("steps", "matrix products, bf16", f"{ceiling / 1e12:.0f} TFLOP/s")
    for size in ("tiny",) if check.rehearse else ("256", "512", "1024"):
        unet = models.random_weights(VideoUNet(models.config(size), dtype=dtype, device=check.device))
        given = models.inputs(size, 3, dtype, check.device)
        unet(*given)
        times = []
        peak = PeakMemory(check.device)
        for _ in range(1 if check.rehearse else 5):
            finish(check.device)
            begun = time.perf_counter()
            unet(*given)
            finish(check.device)
            times.append(time.perf_counter() - begun)
        seconds = sorted(times)[len(times) // 2]
        share = models.flops(size, 3, dtype) / seconds / ceiling
        result = f"{seconds:.3f} s, {peak.mark() / 2**30:.2f} GiB" + (
            "" if check.rehearse else f", {share:.0%} of the products"
        )
        yield Line("steps", f"guided step, 3 branches, {size}", result)
        del unet, given
        release_memory(check.device)


def clips(check: Check) -> Iterator[Line]:
    """The whole pipeline with the embedded model: on this device and on the CPU, kept loaded and stage by stage."""
    from dynamicrafter_core import Pipeline

    image = (torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1)[None]
    image = torch.nn.functional.interpolate(image, (96, 128), mode="bicubic").clamp(-1, 1)[0]
    options: dict[str, Any] = {"steps": 2, "frames": 4, "seed": 1}
    expected = Pipeline("embedded", device="cpu", dtype="fp32").animate(image, "zoom in", **options).frames.double()
    for dtype in ("fp32", "bf16") if check.rehearse else ("fp32", "fp16", "bf16"):
        for kept in (True, False):
            pipeline = Pipeline("embedded", device=check.device, dtype=dtype, keep_loaded=kept)
            clip = pipeline.animate(image, "zoom in", **options)
            error = (clip.frames.double() - expected).square().mean().item()
            psnr = 10 * torch.log10(torch.tensor(255.0**2 / max(error, 1e-3))).item()
            what = f"embedded model, {dtype}, {'kept loaded' if kept else 'stage by stage'}"
            result = f"{psnr:.0f} dB to the CPU's fp32, {clip.peak_memory / 2**30:.2f} GiB"
            yield Line("clips", what, result, psnr >= (45 if dtype == "fp32" else 30))
            pipeline.release()


def commands(check: Check) -> Iterator[Line]:
    """The command line where other programs have taken almost all of the device's memory."""
    from .little_memory import commands as found

    for line in found(check.device, check.rehearse, check.left):
        yield Line("commands", *line)


def comfyui(check: Check) -> Iterator[Line]:
    """The checks of gpu_host.py, in processes whose modules are the host's: models loaded beforehand, and dynamic VRAM."""
    if check.comfyui is None:
        yield Line("comfyui", "all of it", "left out: --comfyui FOLDER tells where it is")
        return
    for mode in ([], ["--dynamic"]):
        yield from in_host(check, check.comfyui, mode)


def in_host(check: Check, folder: Path, mode: list[str]) -> Iterator[Line]:
    command = [sys.executable, "-m", "benchmarks.gpu_host", str(folder), *mode, *["--rehearse"] * check.rehearse]
    ended = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(max(1.0, check.left()), ended.kill)
    watchdog.start()
    try:
        for line in ended.stdout or ():
            what, result, good = json.loads(line)
            yield Line("comfyui", what, result, good)
    finally:
        watchdog.cancel()
        ended.kill()
    if status := ended.wait():
        over = check.left() <= 0
        said = "left out: the time is over" if over else f"its process ended with status {status}"
        yield Line("comfyui", "the rest", said, None if over else False)


if __name__ == "__main__":
    sys.exit(main())
