"""Small random-weight files for the examples that the embedded model cannot run: text to video, T2V-Turbo, ToonCrafter, and a LoRA.

They have the released layout, so every node does its work; what comes out is coloured noise. The end-to-end tests and the
screenshots run on them.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import example_parts
import hosts

sys.path.append(str(hosts.ROOT / "tests" / "core"))
if importlib.util.find_spec("dynamicrafter_core") is None:  # last: the root holds `nodes`, as the host does
    sys.path.append(str(hosts.ROOT))

WIDTH, HEIGHT = 128, 64
EMBEDDED = hosts.ROOT / "dynamicrafter_core" / "embedded" / "model.safetensors"


def write_checkpoint(path: Path) -> None:
    import torch
    from micro import micro_configs, micro_state

    from dynamicrafter_core.models.parts import build
    from dynamicrafter_core.part_names import PREFIXES

    family = path.stem
    prefix = PREFIXES["autoencoder"]
    state = {key: tensor for key, tensor in micro_state(family).items() if not key.startswith(prefix)}
    # Eight times smaller latents, as the released models have: theirs of a hundredth of the size would outweigh the UNet.
    thin = replace(micro_configs(family)["autoencoder"], channel_mult=(1, 1, 1, 1), res_blocks=1)
    state |= {prefix + key: tensor for key, tensor in build(thin).state_dict().items()}
    own = {"family": family, "figures": {"width": WIDTH, "height": HEIGHT}}
    torch.save({"state_dict": state, "dynamicrafter": own}, path)


def write_sketch_encoder(path: Path) -> None:
    """For the stand-in of ToonCrafter, whose autoencoder makes latents of an eighth."""
    import micro

    micro.write_sketch_encoder(path, micro.sketch_config(micro.micro_configs("tooncrafter_512")["unet"], 8))


def write_unet(path: Path) -> None:
    """A UNet alone, without a prefix, as T2V-Turbo is released."""
    import torch
    from micro import micro_state

    from dynamicrafter_core.part_names import PREFIXES

    prefix = PREFIXES["unet"]
    state = micro_state(path.stem)
    torch.save({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, path)


def write_lora(path: Path, rank: int = 4) -> None:
    """For every text attention of the embedded model's UNet, with the keys ComfyUI's own training writes."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    lora = {}
    prefix, wanted = "model.diffusion_model.", ".attn2.to_v.weight"
    with torch.random.fork_rng(devices=[]), safe_open(EMBEDDED, framework="pt") as file:
        torch.manual_seed(0)
        for key in file.keys():  # noqa: SIM118 (it is no mapping)
            if key.startswith(prefix) and key.endswith(wanted):
                name = key.removesuffix(".weight").replace(prefix, "diffusion_model.")
                rows, columns = file.get_slice(key).get_shape()
                lora[f"{name}.lora_up.weight"] = torch.randn(rows, rank)
                lora[f"{name}.lora_down.weight"] = torch.randn(rank, columns)
    save_file(lora, path)


def write_all(base: Path) -> None:
    """Into the models folder of a server's base folder; files that are there stay."""
    models = base / "models"
    wanted = {
        models / "checkpoints" / example_parts.GENERATE: write_checkpoint,
        models / "checkpoints" / example_parts.INTERPOLATE: write_checkpoint,
        models / "checkpoints" / example_parts.TOON: write_checkpoint,
        models / "controlnet" / example_parts.SKETCH: write_sketch_encoder,
        models / "diffusion_models" / example_parts.TURBO: write_unet,
        models / "loras" / example_parts.LORA: write_lora,
    }
    for path, write in wanted.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)


def shorten(prompt: dict, steps: int = 2) -> dict:
    """The same prompt with fewer steps, and small where it states a size of its own."""
    short = {}
    for key, node in prompt.items():
        inputs = dict(node["inputs"])
        if "steps" in inputs:
            inputs["steps"] = steps
        if node["class_type"] == "EmptyLatentImage":
            inputs |= {"width": WIDTH, "height": HEIGHT}
        short[key] = {**node, "inputs": inputs}
    return short
