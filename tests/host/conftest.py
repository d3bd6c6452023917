"""The real host in this process, on the CPU, with the pack loaded as the host loads it.

The host's modules are imported inside tests and fixtures, never when a test file is read.
"""

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def importable_host(host_path: Path) -> Iterator[None]:
    """First on sys.path, so that `nodes` is the host's module; and no test here runs without a host."""
    sys.path.insert(0, str(host_path))
    yield
    sys.path.remove(str(host_path))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's models, input and output folders."""
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="session")
def server(importable_host: None, base: Path) -> Iterator[Any]:
    """The host's modules, set up as its main.py does, without listening to anybody."""
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, str(base)
    torch.set_num_threads(1)  # the models here are so small that threads cost more than they do
    import utils.extra_config  # noqa: F401, I001 (before nodes.py, which in the oldest host puts another utils on the path)
    import comfy.utils
    from server import PromptServer

    import nodes

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server = PromptServer(loop)
    assert nodes.NODE_CLASS_MAPPINGS
    comfy.utils.PROGRESS_BAR_ENABLED = False
    yield server
    loop.close()


@pytest.fixture(scope="session")
def pack(server: Any) -> ModuleType:
    """Our package, loaded by the host's own loader from this folder."""
    import nodes

    assert server.loop.run_until_complete(nodes.load_custom_node(str(ROOT)))
    return sys.modules[str(ROOT).replace(".", "_x_")]


@pytest.fixture(scope="session")
def ours(pack: ModuleType) -> Callable[[str], ModuleType]:
    """A module of the pack, such as ours("nodes.host.model"), as the host has it: not the one the tests import."""
    return lambda name: importlib.import_module(f".{name}", pack.__name__)


@pytest.fixture(scope="session")
def extras(server: Any) -> Callable[[str], None]:
    """Loads nodes of the host that lie outside its nodes.py, such as extras("nodes_custom_sampler")."""
    import folder_paths  # noqa: F401 (the host's)

    import nodes

    host = Path(nodes.__file__).parent

    def load(name: str) -> None:
        path = host / "comfy_extras" / f"{name}.py"
        assert server.loop.run_until_complete(nodes.load_custom_node(str(path), module_parent="comfy_extras"))

    return load


@pytest.fixture(scope="session")
def run(server: Any, pack: ModuleType) -> Callable[..., tuple]:
    """A node by its id, called as the host calls it: run("KSampler", model=..., ...) -> its outputs."""
    import nodes

    def call(node_id: str, **inputs: Any) -> tuple:
        kind = nodes.NODE_CLASS_MAPPINGS[node_id]
        with torch.inference_mode():
            if hasattr(kind, "GET_SCHEMA"):
                out = kind.execute(**inputs)
                return tuple(getattr(out, "args", out))  # some of the host's return a bare tuple
            return getattr(kind(), kind.FUNCTION)(**inputs)

    return call


@pytest.fixture(scope="session")
def tiny_file(server: Any) -> Callable[..., str]:
    """Writes a tiny checkpoint into the host's checkpoints folder, once for all tests, and returns its name there."""
    import folder_paths

    def write(variant: str = "dynamicrafter_512", folder: str = "checkpoints", name: str = "", **kwargs: Any) -> str:
        name = name or f"{variant}.safetensors"
        path = Path(folder_paths.get_folder_paths(folder)[0], name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            tiny_checkpoint(path, variant, **{"metadata": {"family": variant}, **kwargs})
            folder_paths.filename_list_cache.clear()
        return name

    return write


@pytest.fixture(scope="session")
def load(run: Callable[..., tuple], tiny_file: Callable[..., str]) -> Callable[..., SimpleNamespace]:
    """A tiny variant, or the embedded model, through DynamiCrafterLoad; the same objects for the same question."""
    known: dict[tuple, SimpleNamespace] = {}

    def through_the_node(variant: str = "dynamicrafter_512", weight_dtype: str = "default") -> SimpleNamespace:
        if (variant, weight_dtype) not in known:
            checkpoint = variant if variant == "embedded" else tiny_file(variant)
            asked = {"checkpoint": checkpoint, "variant": "auto", "weight_dtype": weight_dtype}
            outputs = run("DynamiCrafterLoad", **asked)
            names = ("model", "clip", "vision", "vae")
            known[variant, weight_dtype] = SimpleNamespace(**dict(zip(names, outputs, strict=True)))
        return known[variant, weight_dtype]

    return through_the_node


@pytest.fixture(scope="session")
def image() -> Callable[..., torch.Tensor]:
    """IMAGE of smooth colours, so that resizing it is well defined: image(height, width, count=1, seed=0)."""

    def make(height: int = 64, width: int = 64, count: int = 1, seed: int = 0) -> torch.Tensor:
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
        return smooth.movedim(1, -1)

    return make


@pytest.fixture(scope="session")
def scene(run: Callable[..., tuple], image: Callable[..., torch.Tensor]) -> Callable[..., SimpleNamespace]:
    """Everything a sampler needs, made by our nodes: scene(loaded, mode=..., frames=..., prompt=...)."""

    def make(
        loaded: SimpleNamespace,
        prompt: str = "a cat walks",
        images: torch.Tensor | None = None,
        strength: float = 1.0,
        **guidance: Any,
    ) -> SimpleNamespace:
        images = image() if images is None else images
        (positive,) = run("CLIPTextEncode", clip=loaded.clip, text=prompt)
        (negative,) = run("CLIPTextEncode", clip=loaded.clip, text="")
        asked = {"mode": "animate", "width": 64, "height": 64, "frames": 4, "fs": 0, "fit": "crop", **guidance}
        if loaded.vision is not None:
            values = {"model": loaded.model, "clip_vision": loaded.vision, "image": images, "strength": strength}
            positive, negative = run("DynamiCrafterImageContext", **values, positive=positive, negative=negative)
        if loaded.model.model.family.concat:
            positive, negative, latent = run(
                "DynamiCrafterVisualGuidance",
                positive=positive,
                negative=negative,
                vae=loaded.vae,
                image=images,
                **asked,
            )
        else:
            empty = {"width": asked["width"], "height": asked["height"], "batch_size": asked["frames"]}
            (latent,) = run("EmptyLatentImage", **empty)
        return SimpleNamespace(model=loaded.model, vae=loaded.vae, positive=positive, negative=negative, latent=latent)

    return make


SAMPLER = {"seed": 1, "steps": 3, "cfg_text": 7.5, "cfg_image": 3.0, "eta": 1.0, "spacing": "auto", "denoise": 1.0}


@pytest.fixture(scope="session")
def sample(run: Callable[..., tuple]) -> Callable[..., torch.Tensor]:
    """Samples a scene with DynamiCrafterSampler, or with another node by its id; gives the latent's samples."""

    def make(
        made: SimpleNamespace, node: str = "DynamiCrafterSampler", model: Any = None, **inputs: Any
    ) -> torch.Tensor:
        given = {"model": model or made.model, "positive": made.positive, "negative": made.negative}
        if node == "DynamiCrafterSampler":
            given |= {"latent": made.latent, **SAMPLER, "guidance_rescale": -1.0}
        elif node == "KSampler":
            given |= {"latent_image": made.latent, "seed": 1, "steps": 3, "cfg": 5.0, "denoise": 1.0}
            given |= {"sampler_name": "euler", "scheduler": "simple"}
        return run(node, **{**given, **inputs})[0]["samples"]

    return make


@pytest.fixture(scope="session")
def noise_of() -> Callable[..., torch.Tensor]:
    """The noise that a seed gives a scene's latent, as the core has it: b c t h w."""

    def draw(made: SimpleNamespace, seed: int = 1) -> torch.Tensor:
        import comfy.sample

        return comfy.sample.prepare_noise(made.latent["samples"], seed).transpose(0, 1)[None]

    return draw


@pytest.fixture(scope="session")
def by_the_core(load: Callable, scene: Callable, ours: Callable, tiny_file: Callable) -> Callable[..., torch.Tensor]:
    """A run of 16 frames by the core's own modules, from a given x_T, with single guidance of 2; `change` is done to the UNet."""
    import folder_paths

    def run(variant: str, x: torch.Tensor, steps: int, start: int = 1000, change: Any = None) -> torch.Tensor:
        path = folder_paths.get_full_path("checkpoints", tiny_file(variant))
        checkpoint = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path)
        unet, family = checkpoint.load("unet"), checkpoint.family
        if change is not None:
            change(unet, family)
        made = scene(load(variant), frames=16)
        (text, positive), (no_text, negative) = made.positive[0], made.negative[0]
        texts = torch.cat([text, no_text])
        images = torch.cat([entry["dynamicrafter_image"] for entry in (positive, negative)])
        concat = positive.get("dynamicrafter_concat")

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            if concat is not None:
                x = torch.cat([x, concat.transpose(1, 2) * 0.18215], 1)
            yes, no = unet(x, t, texts, images, torch.tensor([family.fs_default])).chunk(2)
            return no + 2 * (yes - no)

        core = ours("dynamicrafter_core.diffusion.sampling")
        with torch.inference_mode():
            return core.sample_ddim(predict, x, family.schedule(), steps, family.spacing, eta=0.0, start=start)

    return run
