"""The part of the GPU check that needs ComfyUI: what its memory management does with this pack's MODEL.

python -m benchmarks.gpu_host FOLDER_OF_COMFYUI [--dynamic] [--rehearse]

Prints a line of JSON for each check: what, the result, and whether it is within its bar. `python -m benchmarks.gpu --comfyui FOLDER` runs it
in processes of their own, since the host's settings hold for a whole process. `--dynamic`: the host's dynamic VRAM mode, in which weights
come to the device when they are used; without it, models are loaded whole or in part beforehand. `--rehearse`: on the CPU, with a tiny model, where what only a
device can run out of is emulated.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dynamicrafter_core.devices import PeakMemory
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.models.autoencoder import Autoencoder
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.part_names import PREFIXES

from .little_memory import leave

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "core"))
FAMILY = FAMILIES["dynamicrafter_512"]
GIB = 2**30
Found = tuple[str, str, bool | None]


@dataclass
class Host:
    rehearse: bool
    device: torch.device
    run: Callable[..., tuple]
    file: str
    width: int  # of the latent that most checks sample; a small one leaves room for what they take away
    loaded: dict[str, SimpleNamespace] = field(default_factory=dict)

    def load(self, weight_dtype: str = "default") -> SimpleNamespace:
        if weight_dtype not in self.loaded:
            asked = {"checkpoint": self.file, "variant": "dynamicrafter_512", "weight_dtype": weight_dtype}
            model, _, _, vae = self.run("DynamiCrafterLoad", **asked)
            self.loaded[weight_dtype] = SimpleNamespace(model=model, vae=vae)
        return self.loaded[weight_dtype]

    def conditioning(self, frames: int, height: int, width: int, seed: int) -> list:
        draw, channels = torch.Generator().manual_seed(seed), self.load().model.model.family.unet.context_dim
        text = torch.randn(1, 77, channels, generator=draw)
        image = {
            "dynamicrafter_image": torch.randn(1, frames, 16, channels, generator=draw),
            "dynamicrafter_concat": torch.randn(1, frames, 4, height, width, generator=draw),
        }
        return [[text, image]]

    def sample(
        self, model: Any, steps: int = 2, frames: int = 0, height: int = 0, width: int = 0, **asked: Any
    ) -> Tensor:
        frames = frames or (4 if self.rehearse else 16)
        height, width = height or self.width, width or self.width
        asked = {"seed": 1, "steps": steps, "cfg": 5.0, "denoise": 1.0, **asked}
        out = self.run(
            "KSampler",
            model=model,
            positive=self.conditioning(frames, height, width, 1),
            negative=self.conditioning(frames, height, width, 2),
            latent_image={"samples": torch.zeros(frames, 4, height, width)},
            sampler_name="euler",
            scheduler="simple",
            **asked,
        )
        return out[0]["samples"].cpu()

    def unload(self) -> None:
        import comfy.model_management

        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()

    def allocated(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0


def start(folder: Path, base: Path, rehearse: bool, dynamic: bool = False) -> Host:
    """The host's modules set up as its main.py does, without listening to anybody, and this pack loaded by it."""
    known = [place for place in sys.path if Path(place or ".").resolve() != ROOT]  # whose `nodes` would hide the host's
    sys.path[:] = [str(folder), *known]
    from comfy.cli_args import args

    args.cpu, args.base_directory = rehearse, str(base)
    args.enable_dynamic_vram, args.disable_dynamic_vram = dynamic, not dynamic
    args.use_pytorch_cross_attention = True  # what the host takes on CUDA anyway
    if dynamic:
        import comfy_aimdo.control

        if not comfy_aimdo.control.init():  # before the host's modules, which keep what it loads
            raise SystemExit("comfy-aimdo, which dynamic VRAM needs, does not load here.")
    import utils.extra_config  # noqa: F401, I001 (before nodes.py, which in the oldest host puts another utils on the path)
    import comfy.model_management
    import comfy.utils
    from server import PromptServer

    import nodes

    if dynamic:
        set_dynamic(rehearse)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    PromptServer(loop)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    if not loop.run_until_complete(nodes.load_custom_node(str(ROOT))):
        raise SystemExit("ComfyUI could not load this pack: see above.")

    def run(node_id: str, **inputs: Any) -> tuple:
        kind = nodes.NODE_CLASS_MAPPINGS[node_id]
        with torch.inference_mode():
            if hasattr(kind, "GET_SCHEMA"):
                return tuple(kind.execute(**inputs).args)
            return getattr(kind(), kind.FUNCTION)(**inputs)

    device = comfy.model_management.get_torch_device()
    write_model(base / "models" / "checkpoints" / "random.safetensors", device, rehearse)
    return Host(rehearse, device, run, "random.safetensors", 8 if rehearse else 32)


def set_dynamic(rehearse: bool) -> None:
    """As the host's main.py does where it finds a device it knows; rehearsed, its patcher is made to work on a CPU all the same."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    kind = comfy.model_patcher.ModelPatcherDynamic
    if rehearse:  # where nothing can be taken from the device again
        changed = {"__new__": lambda cls, *args, **named: object.__new__(cls), "partially_unload": lambda *args: 0}
        kind = type("DynamicOnCpu", (kind,), changed)
    elif comfy_aimdo.control.init_devices([comfy.model_management.get_torch_device().index or 0]):
        comfy.memory_management.aimdo_enabled = True
    else:
        raise SystemExit("comfy-aimdo, which dynamic VRAM needs, does not know this device.")
    comfy.model_patcher.CoreModelPatcher = kind


def write_model(path: Path, device: torch.device, rehearse: bool) -> None:
    """A checkpoint of random weights, in the released size."""
    from tiny import tiny_checkpoint

    path.parent.mkdir(parents=True)
    if rehearse:
        tiny_checkpoint(path, FAMILY.name, metadata={"family": FAMILY.name})
        return
    state: dict[str, Tensor] = {}
    for part, network in {"unet": VideoUNet, "autoencoder": Autoencoder}.items():
        made: Any = network(getattr(FAMILY, part)).to(device, torch.float16)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        state |= {PREFIXES[part] + key: value.cpu() for key, value in made.state_dict().items()}
    state |= FAMILY.schedule().registered_buffers()
    save_file(state, path, metadata={"dynamicrafter": json.dumps({"family": FAMILY.name})})


def relative(out: Tensor, expected: Tensor) -> float:
    error = (out - expected).abs().max() / expected.abs().max()
    return float(error) if out.isfinite().all() else float("inf")


def with_lora(host: Host, model: Any) -> Any:
    """A LoRA of two ranks on every text projection of the UNet, loaded by the host."""
    import comfy.sd

    lora, draw = {}, torch.Generator().manual_seed(0)
    for name, layer in model.model.diffusion_model.named_modules():
        if name.endswith("attn2.to_k"):
            rows, columns = layer.weight.shape
            lora[f"diffusion_model.{name}.lora_up.weight"] = torch.randn(rows, 2, generator=draw) / rows**0.5
            lora[f"diffusion_model.{name}.lora_down.weight"] = torch.randn(2, columns, generator=draw) / columns**0.5
    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def loading(host: Host) -> Iterator[Found]:
    """Whole, in part, with a LoRA on what stays behind, and in fp8."""
    model = host.load().model
    patched = with_lora(host, model)
    whole, changed = host.sample(model), host.sample(patched)
    yield "whole model", f"{model.model_size() / GIB:.2f} GiB, finite", bool(whole.isfinite().all())
    moved = relative(changed, whole)
    yield "a LoRA", f"changes the latents by {moved:.1%} of the largest", 0 < moved < float("inf")
    for gib in (6.0, 3.0, 1.0):
        for kind, each, expected in (("", model, whole), (" and a LoRA", patched, changed)):
            host.unload()
            share, out = sample_in_part(host, each, gib)
            error = relative(out, expected)
            yield f"{gib:.0f} GiB left{kind}", f"{share:.0%} of it loaded, {error:.1e} from the whole", error <= 2e-2
    host.unload()
    error = relative(host.sample(host.load("fp8_e4m3fn").model), whole)
    yield "weights in fp8_e4m3fn", f"{error:.1e} from the whole", error < float("inf")


def sample_in_part(host: Host, model: Any, gib: float) -> tuple[float, Tensor]:
    """The share of the model that is loaded where so much memory is left, and what it samples."""
    if not host.rehearse:
        with leave(host.device, gib):
            out = host.sample(model)
            return model.loaded_size() / model.model_size(), out
    model.detach()
    try:
        model.load(lowvram_model_memory=int(model.model_size() * gib / 10), force_patch_weights=False)
        return model.loaded_size() / model.model_size(), host.sample(model)
    finally:
        model.detach()


def dynamic(host: Host) -> Iterator[Found]:
    """Weights that come when they are used, with all the memory and with little, beside the model that is loaded beforehand."""
    model = host.load().model
    yield "dynamic VRAM", type(model).__name__, model.is_dynamic()
    whole = model.clone(disable_dynamic=True)
    pairs = [("", model, host.sample(whole))]
    if host.rehearse:
        yield "dynamic VRAM and a LoRA", "only on a device: the host adds it while weights come there", None
    else:
        pairs.append((" and a LoRA", with_lora(host, model), host.sample(with_lora(host, whole))))
    del whole
    for gib in (None, 6.0, 3.0, 1.0):
        for kind, each, expected in pairs:
            host.unload()
            with contextlib.nullcontext() if gib is None or host.rehearse else leave(host.device, gib):
                error = relative(host.sample(each), expected)
            left = "all memory" if gib is None else f"{gib:.0f} GiB left"
            yield f"dynamic VRAM, {left}{kind}", f"{error:.1e} from the model loaded beforehand", error <= 2e-2


def planned_memory(host: Host) -> Iterator[Found]:
    """What the host makes room for before it samples, by what sampling takes."""
    model = host.load().model
    sizes = ((8, 8, 2),) if host.rehearse else tuple((*size, frames) for size in SIZES for frames in (16, 32))
    for height, width, frames in sizes:
        host.unload()
        host.sample(model, steps=1, frames=frames, height=height, width=width)
        watch, before = PeakMemory(host.device), host.allocated()
        host.sample(model, steps=1, frames=frames, height=height, width=width)
        taken = max(1, watch.mark() - before)
        planned = model.model.memory_required([2 * frames, 4, height, width])  # prompt and negative prompt in one batch
        good = None if host.rehearse else 0.85 <= planned / taken <= 1.15
        what = f"{8 * width}x{8 * height}x{frames}, two branches"
        yield what, f"planned {planned / GIB:.2f}, taken {taken / GIB:.2f} GiB: {planned / taken:.2f}", good


SIZES = ((32, 32), (40, 64), (72, 128))


def compiled(host: Host) -> Iterator[Found]:
    """torch.compile: the same result, and nothing compiled again after the first step."""
    import torch._dynamo
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    plain = host.load().model
    model = plain.clone()
    set_torch_compile_wrapper(model=model, backend="eager" if host.rehearse else "inductor")
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    error = relative(host.sample(model, steps=1), host.sample(plain, steps=1))
    yield "compiled", f"{error:.1e} from the model that is not", error <= 2e-2
    graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    yield "graphs", f"{graphs}, with {breaks} breaks", breaks == 0
    for what, asked in {"three more steps": {"steps": 3, "seed": 2}, "without guidance": {"cfg": 1.0}}.items():
        host.sample(model, **asked)
        before, graphs = graphs, counters["stats"]["unique_graphs"]
        yield what, f"{graphs - before} more graphs", graphs - before <= ("cfg" in asked)


def stopping(host: Host) -> Iterator[Found]:
    """Cancelled, and out of memory in sampling and in decoding: a sentence, and the memory is given back."""
    import comfy.model_management
    import comfy.utils

    loaded = host.load()
    host.sample(loaded.model, steps=1)
    host.unload()
    before = host.allocated()

    def cancel(value: int, total: int, preview: Any = None, **named: Any) -> None:
        comfy.model_management.interrupt_current_processing(value >= 2)
        comfy.model_management.throw_exception_if_processing_interrupted()

    comfy.utils.set_progress_bar_global_hook(cancel)
    yield ended(host, "cancelled in the second step", before, lambda: host.sample(loaded.model, steps=4), "Interrupt")
    comfy.utils.set_progress_bar_global_hook(None)
    latent = torch.randn(4, 4, host.width, host.width)
    with out_of_memory(host, loaded.model.model, "_apply_model"):
        made = (host.conditioning(4, host.width, host.width, seed) for seed in (1, 2))
        named = dict(zip(("positive", "negative"), made, strict=True))
        asked = {"seed": 1, "steps": 2, "cfg_text": 5.0, "cfg_image": 1.0, "eta": 1.0, "spacing": "auto"}
        asked |= {"guidance_rescale": -1.0, "denoise": 1.0, "latent": {"samples": torch.zeros_like(latent)}}
        call = lambda: host.run("DynamiCrafterSampler", model=loaded.model, **named, **asked)  # noqa: E731
        yield ended(host, "no memory to sample", before, call, "lower the width and height")
    with out_of_memory(host, loaded.vae.first_stage_model, "decode"):
        call = lambda: host.run("DynamiCrafterDecode", vae=loaded.vae, latent={"samples": latent})  # noqa: E731
        yield ended(host, "no memory to decode", before, call, "VAE Decode (Tiled)")


@contextlib.contextmanager
def out_of_memory(host: Host, owner: Any, name: str) -> Iterator[None]:
    """The call fails as a device without memory makes it fail: with memory that is really asked for where there is a device."""
    kept = getattr(owner, name)

    def fail(*args: Any, **named: Any) -> Tensor:
        if host.rehearse:
            raise torch.cuda.OutOfMemoryError("emulated")
        return torch.empty(1 << 50, dtype=torch.uint8, device=host.device)

    setattr(owner, name, fail)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def ended(host: Host, what: str, before: int, call: Callable[[], Any], said: str) -> Found:
    error = "nothing stopped it"
    try:
        call()
    except BaseException as raised:  # an interruption is no Exception in every host
        error = f"{type(raised).__name__}: {raised}"
    host.unload()
    more = host.allocated() - before
    return what, f"{error[:90]}; {more / 2**20:.0f} MiB more than before", said in error and more < 2**20


CHECKS = (loading, planned_memory, compiled, stopping)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_host",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("comfyui", type=Path, help="the folder of ComfyUI")
    parser.add_argument("--dynamic", action="store_true", help="the host's dynamic VRAM mode")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with a tiny model")
    options = parser.parse_args()
    sys.argv[1:] = []  # the host reads the command line too
    with tempfile.TemporaryDirectory() as base, contextlib.redirect_stdout(sys.stderr):
        host = start(options.comfyui.resolve(), Path(base), options.rehearse, options.dynamic)
        for check in (dynamic,) if options.dynamic else CHECKS:
            try:
                for found in check(host):
                    sys.__stdout__.write(json.dumps(found) + "\n")
                    sys.__stdout__.flush()
            except Exception as error:
                said = f"{type(error).__name__}: {error}".split("\n")[0][:300]
                sys.__stdout__.write(json.dumps((f"{check.__name__}: the rest", said, False)) + "\n")
            host.unload()
    return 0


if __name__ == "__main__":
    sys.exit(main())
