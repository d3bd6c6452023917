"""LoRA (Hu et al. 2021) on the UNet: a low-rank addition to chosen linear layers, in the file format that hosts load.

Keys are `diffusion_model.<layer>.lora_up.weight`, `.lora_down.weight` and `.alpha`, the generic form of ComfyUI's loader.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_integer, check_number
from ..errors import InputError
from ..models.transformers import TemporalTransformer
from ..tensor_files import write_tensors
from .model import Model
from .seeds import seed_of

LAYERS = ("spatial", "temporal")


class LoraLayer(nn.Module):
    """up(down(x)) * alpha / rank, added to what the layer answers."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        make: dict[str, Any] = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        self.down = nn.Linear(layer.in_features, rank, bias=False, **make)
        self.up = nn.Linear(rank, layer.out_features, bias=False, **make)
        self.scale, self.on = alpha / rank, True
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        layer.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self.up(self.down(inputs[0])) * self.scale if self.on else output


class Lora(nn.Module):
    def __init__(self, names: list[str], layers: list[LoraLayer], alpha: float) -> None:
        super().__init__()
        self.names, self.alpha = names, alpha
        self.layers = nn.ModuleList(layers)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """The model as it is without the addition."""
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)

    def _switch(self, on: bool) -> None:
        for layer in self.layers:
            layer.on = on  # type: ignore[assignment]


def attach_lora(model: Model, settings: Mapping[str, Any], seed: int) -> Lora:
    """`settings`: rank (8), alpha (rank), layers (spatial, temporal or both). The UNet itself stays as it is."""
    given = {"rank": 8, "layers": list(LAYERS), **settings}
    given.setdefault("alpha", given["rank"])
    check_integer("the LoRA's rank", given["rank"], 1, 4096)
    check_number("the LoRA's alpha", given["alpha"])
    chosen = tuple(given["layers"]) if isinstance(given["layers"], (list, tuple)) else (given["layers"],)
    if unknown := sorted(set(given) - {"rank", "alpha", "layers"}) or [each for each in chosen if each not in LAYERS]:
        raise InputError(
            f"The recipe's lora names {unknown[0]!r}; it has rank, alpha and layers ({', '.join(LAYERS)})."
        )
    if not isinstance(given["rank"], int) or given["rank"] < 1:
        raise InputError(f"The LoRA's rank is {given['rank']!r}; give a whole number from 1, such as 8.")
    unet = model.part("unet")
    temporal = {
        f"{name}.{inner}"
        for name, layer in unet.named_modules()
        if isinstance(layer, TemporalTransformer)
        for inner, _ in layer.named_modules()
    }
    names = [
        name
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear)
        and ".transformer_blocks." in name
        and ("temporal" if name in temporal else "spatial") in chosen
    ]
    torch.manual_seed(seed_of(seed, "lora"))
    layers = [LoraLayer(unet.get_submodule(name), given["rank"], given["alpha"]) for name in names]
    return Lora(names, layers, float(given["alpha"]))


def lora_tensors(lora: Lora) -> dict[str, Tensor]:
    held: dict[str, Tensor] = {}
    for name, layer in zip(lora.names, lora.layers, strict=True):
        held[f"diffusion_model.{name}.lora_up.weight"] = layer.get_parameter("up.weight")
        held[f"diffusion_model.{name}.lora_down.weight"] = layer.get_parameter("down.weight")
        held[f"diffusion_model.{name}.alpha"] = torch.tensor(lora.alpha)
    return held


def save_lora(path: Path, lora: Lora, notes: Mapping[str, Any]) -> Path:
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in lora_tensors(lora).items()}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in notes.items()}
    write_tensors(path, tensors, metadata)
    return path


@torch.no_grad()
def merge_lora(model: Model, path: Path) -> None:
    """Add what the file holds to the UNet's weights, for good."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as a LoRA ({error}); give a file that `dynamicrafter train` made."
        ) from error
    weights = dict(model.part("unet").named_parameters())
    for name in tensors:
        layer = name.removeprefix("diffusion_model.").removesuffix(".lora_up.weight")
        if not name.endswith(".lora_up.weight"):
            continue
        up, down = tensors[name], tensors[name.replace("lora_up", "lora_down")]
        weight = weights.get(f"{layer}.weight")
        if weight is None or weight.shape != (up.shape[0], down.shape[1]):
            raise InputError(
                f"{path} is not a LoRA of this model, which has no layer {layer} of {up.shape[0]} by {down.shape[1]}."
            )
        scale = float(tensors[name.replace("lora_up.weight", "alpha")]) / up.shape[1]
        weight += (up @ down * scale).to(weight)
