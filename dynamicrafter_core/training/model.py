"""The parts under training: new, or loaded from released files; and the one file they end in."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.checkpoint import load_checkpoint
from ..checks import check_number, is_of, kind_of
from ..errors import InputError
from ..families import Family, find_family
from ..models.attention import attend
from ..models.autoencoder import LATENT_SCALE, Autoencoder
from ..models.layer_kinds import temporal_layers
from ..models.parts import CONFIGS, build
from ..models.transformers import TemporalAttention
from ..part_names import PARTS, PREFIXES, PartName
from ..tensor_files import write_tensors
from .growth import check_growing, grow
from .initial import initialise
from .recipe import Recipe, recipes_folder
from .seeds import seed_of

_COUNTS, _MOST_LAYERS, _MOST = ("layers", "depth", "res_blocks"), 64, 2**20  # of a recipe's figures
_MOST_NUMBERS = 10**11
GROUPS = ("unet.spatial", "unet.temporal", "unet.vdg")
_ROWS = 32768  # of attention at once: CUDA's kernels take no more than 65535


@dataclass
class Model:
    family: Family
    parts: dict[PartName, nn.Module]

    def part(self, name: PartName) -> Any:
        if name not in self.parts:
            raise InputError(f"This model has no {name} part, which the stage needs; it has {', '.join(self.parts)}.")
        return self.parts[name]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for part, module in self.parts.items():
            for name, parameter in module.named_parameters():
                yield f"{part}.{name}", parameter

    def state(self) -> dict[str, Tensor]:
        return {
            f"{part}.{key}": value for part, module in self.parts.items() for key, value in module.state_dict().items()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        own = self.state()
        missing = [name for name in own if name not in tensors]
        if missing:
            raise InputError(f"The saved state lacks {len(missing)} tensors of this model, such as {missing[0]}.")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])

    def select(self, patterns: tuple[str, ...]) -> dict[str, nn.Parameter]:
        """The parameters that a stage trains, by parts, groups (unet.spatial, unet.temporal, unet.vdg) or patterns."""
        temporal = _temporal_names(self.parts.get("unet"))
        chosen: dict[str, nn.Parameter] = {}
        for pattern in patterns:
            found = {
                name: parameter
                for name, parameter in self.named_parameters()
                if _matches(name, pattern, name in temporal)
            }
            if not found:
                parts = ", ".join([*self.parts, *GROUPS])
                raise InputError(
                    f"No parameter is called {pattern!r}; a stage trains {parts}, or names with * in them."
                )
            chosen |= found
        return {name: parameter for name, parameter in self.named_parameters() if name in chosen}


def _matches(name: str, pattern: str, temporal: bool) -> bool:
    if pattern == "unet.temporal":
        return temporal
    if pattern == "unet.spatial":
        return name.startswith("unet.") and not temporal
    if pattern == "unet.vdg":
        return name.startswith("unet.input_blocks.0.0.")
    return name.startswith(pattern + ".") or fnmatchcase(name, pattern)


def _temporal_names(unet: nn.Module | None) -> set[str]:
    if unet is None:
        return set()
    return {
        f"unet.{layer}.{name}"
        for layer in temporal_layers(unet)
        for name, _ in unet.get_submodule(layer).named_parameters()
    }


def load_model(
    paths: Sequence[str | os.PathLike[str]], device: torch.device, dtype: torch.dtype | None = None
) -> Model:
    """The parts of checkpoint files, all that there are."""
    checkpoint = load_checkpoint(paths[0], extra=paths[1:])
    return Model(checkpoint.family, {name: checkpoint.load(name, dtype, device) for name in checkpoint.parts})


def make_model(recipe: Recipe, device: torch.device, dtype: torch.dtype, *, grown: bool = True) -> Model:
    """The recipe's model on `device`: parts of its initial files, and new ones where it gives figures instead."""
    family = find_family(recipe.family)
    parts: dict[PartName, nn.Module] = {}
    if recipe.initial:
        files = [recipes_folder() / "model.safetensors" if name == "embedded" else name for name in recipe.initial]
        loaded = load_model(files, device, dtype)
        family, parts = loaded.family, loaded.parts
    for name, given in recipe.model.items():
        if name not in CONFIGS:
            raise InputError(f"The recipe's model has a part {name!r}; the parts are {', '.join(PARTS)}.")
        part: PartName = name  # type: ignore[assignment]
        torch.manual_seed(seed_of(recipe.seed, "initial", part))
        module = build(_configure(part, given), None, "cpu")
        initialise(part, module)
        parts[part] = module.to(device=device, dtype=dtype)
    for name in recipe.grow:
        if name not in parts or name in recipe.model:
            raise InputError(
                f"The recipe grows a {name}, and its initial files have none; they have {', '.join(parts)}."
            )
    if not parts:
        raise InputError("The recipe gives neither initial files nor figures of a model; give one of them.")
    parts = {name: parts[name] for name in PARTS if name in parts}
    if recipe.causal is not None:
        look_back_alone(parts, recipe.causal)
    for module in parts.values():
        _make_trainable(module)
    return change_model(Model(family, parts), recipe.grow if grown else {}, recipe.figures, recipe.seed)


def check_changes(model: Model, recipe: Recipe) -> None:
    """What stages will change, before hours have passed until the one that cannot."""
    configs = {part: _config(module) for part, module in model.parts.items()}
    for stage in recipe.stages:
        growing = recipe.growth_before(stage)
        if stage.align and "embed_dim" in growing.get("autoencoder", {}):
            raise InputError(
                f"Stage {stage.name} aligns latents of more channels with those before them; give it an anchor instead."
            )
        for name, given in growing.items():
            part = _growing_part(name, model)
            grown = _configure(part, {**asdict(configs[part]), **given})
            check_growing(part, configs[part], given)
            configs[part] = grown
        _figures(stage.figures)


def change_model(
    model: Model, growing: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Any], seed: int
) -> Model:
    """With parts that have grown, and with these figures of the family record."""
    parts = dict(model.parts)
    for name, given in growing.items():
        part = _growing_part(name, model)
        _configure(part, {**asdict(_config(parts[part])), **given})
        changed = {figure: tuple(value) if isinstance(value, list) else value for figure, value in given.items()}
        kept = next(parts[part].parameters())
        torch.manual_seed(seed_of(seed, "initial", part))
        parts[part] = grow(part, parts[part], changed).to(device=kept.device, dtype=kept.dtype)
        _make_trainable(parts[part])
    family = replace(model.family, **_figures(figures))
    if family.consistency:
        raise InputError(
            f"{family.title} is distilled from another model, which these stages cannot do; train VideoCrafter2 instead."
        )
    return Model(family, parts)


def check_latents(model: Model) -> None:
    """That the UNet reads the latents that the autoencoder makes."""
    reads, makes = model.part("unet").config.out_channels, model.part("autoencoder").config.embed_dim
    if reads != makes:
        raise InputError(
            f"The UNet reads latents of {reads} channels, and the autoencoder makes {makes}; let both grow alike."
        )


def _growing_part(name: str, model: Model) -> PartName:
    if name not in model.parts:
        raise InputError(f"A stage grows a {name}, and the recipe's model has none; it has {', '.join(model.parts)}.")
    part: PartName = name  # type: ignore[assignment]
    return part


def _figures(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the family record."""
    figures: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    hints = get_type_hints(Family)
    if unknown := sorted(set(figures) - set(hints)):
        raise InputError(f"The recipe's figures contain {', '.join(unknown)}, which are not settings of a family.")
    for name, value in figures.items():
        if name in PARTS or not is_of(value, hints[name]):
            raise InputError(f"The recipe's figures have the {name} {value!r}; give {kind_of(hints[name])}.")
    return figures


def _make_trainable(module: nn.Module) -> None:
    module.requires_grad_(False).train()
    for layer in module.modules():
        if getattr(layer, "attention", None) is attend:
            layer.attention = attend_in_rows  # type: ignore[assignment]


def look_back_alone(parts: Mapping[PartName, nn.Module], causal: bool) -> None:
    """Whether each frame sees the past alone, in a UNet that may have been made otherwise; the file that is saved says it."""
    if "unet" not in parts:
        raise InputError(f"The recipe's causal is {causal}, and its model has no UNet; leave it out.")
    unet: Any = parts["unet"]
    unet.config = replace(unet.config, causal=causal)
    for layer in unet.modules():
        if isinstance(layer, TemporalAttention):
            layer.causal = causal


def _configure(part: PartName, given: Mapping[str, Any]) -> Any:
    config = CONFIGS[part]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    hints = get_type_hints(config)
    for name, value in values.items():
        if name not in hints:
            raise InputError(
                f"The recipe's {part} has an unknown setting: {name!r}; the settings are {', '.join(hints)}."
            )
        if not is_of(value, hints[name]):
            raise InputError(f"The recipe's {part} has the {name} {value!r}; give {kind_of(hints[name])}.")
        for number in value if isinstance(value, tuple) else [value]:
            if hints[name] is not bool and number is not None:
                check_number(f"the recipe's {part}: {name}", number, 0, _MOST_LAYERS if name in _COUNTS else _MOST)
    try:
        made = config(**values)
        module = build(made, device="meta")  # whether the figures go together, found out before there is memory to fill
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The recipe's {part} cannot be built with these figures ({error}); look at a recipe that comes with the package."
        ) from error
    if (size := sum(each.numel() for each in module.parameters())) > _MOST_NUMBERS:
        raise InputError(
            f"The recipe's {part} has {size:,} numbers; give figures that make fewer than {_MOST_NUMBERS:,}."
        )
    return made


def attend_in_rows(q: Tensor, k: Tensor, v: Tensor, heads: int, **more: Any) -> Tensor:
    """`attend`, in portions where the frames of very many pixels are attended at once, and plainly where that learns faster."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and more.get("mask") is None:
        return _attend_plainly(q, k, v, heads)
    if q.shape[0] <= _ROWS:
        return attend(q, k, v, heads, **more)
    portions = zip(q.split(_ROWS), k.split(_ROWS), v.split(_ROWS), strict=True)
    return torch.cat([attend(*rows, heads=heads, **more) for rows in portions])


def _attend_plainly(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The fused kernel's way back in bf16 takes a CPU ten times as long as its way forth: half of a whole training step."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@torch.no_grad()
def normalise_latents(autoencoder: Autoencoder, pixels: Tensor) -> None:
    """Fold a shift and scale into the autoencoder, so that its scaled latents have mean 0 and variance 1, as diffusion assumes."""
    mean = torch.cat([autoencoder.encode(part)[0].float() for part in pixels.split(64)])
    centre = mean.mean((0, 2, 3))
    factor = 1 / (mean.std((0, 2, 3)) * LATENT_SCALE)
    into: Any = autoencoder.quant_conv
    out: Any = autoencoder.post_quant_conv
    half = len(centre)
    weight, bias = into.weight.float(), into.bias.float()
    weight[:half] *= factor[:, None, None, None]
    bias[:half] = (bias[:half] - centre) * factor
    bias[half:] += 2 * factor.log()
    out_weight = out.weight.float() / factor[None, :, None, None]
    out_bias = out.bias.float() + (out.weight.float()[:, :, 0, 0] @ centre)
    for parameter, value in ((into.weight, weight), (into.bias, bias), (out.weight, out_weight), (out.bias, out_bias)):
        parameter.copy_(value)


@torch.no_grad()
def latents_before(before: Autoencoder, autoencoder: Autoencoder, pixels: Tensor) -> Tensor:
    """What `before` makes of pictures that `autoencoder` is given, in half the size for each level that it has less."""
    smaller = autoencoder.config.size_factor // before.config.size_factor
    return before.encode(F.avg_pool2d(pixels.to(next(before.parameters()).dtype), smaller))[0]


@torch.no_grad()
def align_latents(autoencoder: Autoencoder, before: Autoencoder, pixels: Tensor) -> None:
    """Fold a linear map into the autoencoder, so that its latents are as near as can be to those of the one before it.

    An autoencoder that learns on finds other axes for its latents; a UNet that has learned the old ones needs them back. The
    pictures that come out do not change.
    """
    own, wanted = (
        torch.cat([encode(part).float() for part in pixels.split(64)]).transpose(0, 1).flatten(1).T.double()  # pixels c
        for encode in (
            lambda part: autoencoder.encode(part.to(next(autoencoder.parameters()).dtype))[0],
            lambda part: latents_before(before, autoencoder, part),
        )
    )
    ones = torch.ones_like(own[:, :1])
    solved = torch.linalg.lstsq(torch.cat([own, ones], 1), wanted).solution.float()  # c+1 c
    turn, shift = solved[:-1].T, solved[-1]
    into: Any = autoencoder.quant_conv
    out: Any = autoencoder.post_quant_conv
    half = len(shift)
    weight, bias = into.weight.float()[:, :, 0, 0], into.bias.float()
    spread = (turn**2).sum(1, keepdim=True)
    shares = turn**2 / spread  # of the old axes' variances in each new one's
    weight = torch.cat([turn @ weight[:half], shares @ weight[half:]])
    bias = torch.cat([turn @ bias[:half] + shift, shares @ bias[half:] + spread[:, 0].log()])
    out_weight = out.weight.float()[:, :, 0, 0] @ torch.linalg.inv(turn)
    out_bias = out.bias.float() - out_weight @ shift
    for layer, w, b in ((into, weight, bias), (out, out_weight, out_bias)):
        layer.weight.copy_(w[:, :, None, None])
        layer.bias.copy_(b)


def save_model(
    path: str | os.PathLike[str],
    model: Model,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    notes: Mapping[str, Any],
) -> Path:
    """One safetensors file in the released layout; `tensors` (by Model.state's names) stand in for the model's own."""
    path = Path(path)
    state = {**model.state(), **tensors}
    named = {}
    for part in model.parts:
        for key in model.parts[part].state_dict():
            named[PREFIXES[part] + key] = state[f"{part}.{key}"].detach().to("cpu", dtype).contiguous().clone()
    named |= {name: buffer.contiguous() for name, buffer in model.family.schedule().registered_buffers().items()}
    released = find_family(model.family.name)
    unlike = [each.name for each in fields(Family) if each.name not in PARTS and each.name != "name"]
    figures = {
        name: getattr(model.family, name) for name in unlike if getattr(model.family, name) != getattr(released, name)
    }
    configs: dict[str, Any] = {part: asdict(_config(module)) for part, module in model.parts.items()}
    own = {"family": model.family.name, "figures": figures, **configs}
    metadata = {"format": "pt", "dynamicrafter": json.dumps(own)}
    metadata |= {name: note if isinstance(note, str) else json.dumps(note) for name, note in notes.items()}
    write_tensors(path, named, metadata)
    return path


def _config(module: nn.Module) -> Any:
    return module.config
