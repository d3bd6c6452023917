"""Does what a file holds make the parts of a variant, and if not, what exactly is wrong.

Widths and depths come from the shapes, so a smaller model fits its variant too; what a part consists of comes from the variant,
so a file of another variant does not. Only names and shapes are looked at: a file is refused before any tensor is read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from ..families import FAMILIES, Family
from ..models.parts import CONFIGS, PartConfig, Shapes, shapes_of
from ..models.unet_config import UNetConfig
from ..part_names import PREFIXES, PartName

# Beside the vision tower, released files keep the rest of its CLIP, which nothing uses.
UNUSED_IN_VISION = (
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.weight",
    "ln_final.bias",
    "text_projection",
    "logit_scale",
)

# What a state dict's shapes do not show.
_UNTOLD: Mapping[PartName, tuple[str, ...]] = {
    "unet": ("norm_groups", "default_fs", "causal", "dropout", "image_scale"),
    "autoencoder": ("norm_groups",),
    "projector": ("head_channels", "queries"),
}
_STRUCTURE = (
    "temporal_conv",
    "init_attention",
    "image_attention",
    "image_scale_learnable",
    "fs_condition",
    "guidance_dim",
    "motion_dim",
)


@dataclass(frozen=True)
class Difference:
    expected: int  # tensors
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    misshapen: tuple[str, ...]  # "key [is] instead of [should be]"

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.misshapen)

    def in_words(self) -> str:
        clauses = []
        if self.missing:
            clauses.append(f"{len(self.missing)} of {self.expected} tensors missing ({_first(self.missing)})")
        if self.unknown:
            clauses.append(f"{len(self.unknown)} unknown ({_first(self.unknown)})")
        if self.misshapen:
            clauses.append(f"{len(self.misshapen)} of another shape ({_first(self.misshapen)})")
        return ", ".join(clauses)


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def compare(expected: Shapes, actual: Shapes) -> Difference:
    return Difference(
        expected=len(expected),
        missing=tuple(key for key in expected if key not in actual),
        unknown=tuple(key for key in actual if key not in expected),
        misshapen=tuple(
            f"{key} {list(actual[key])} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in actual and tuple(actual[key]) != tuple(shape)
        ),
    )


def fit(part: PartName, shapes: Shapes, family: Family, known: Mapping[str, Any]) -> tuple[PartConfig, Difference]:
    """The config of `family`'s part with these widths, and how the state dict differs from it (best: in nothing)."""
    try:
        config = _configure(part, shapes, family, known)
        expected = shapes_of(config)
    except (LookupError, ArithmeticError, ValueError, TypeError, StopIteration):
        config = getattr(
            family, part
        )  # a key that shows the widths is missing or has a wrong shape: compare with the released
        expected = shapes_of(config)
    if part == "vision":
        shapes = {key: shape for key, shape in shapes.items() if key in expected or key not in UNUSED_IN_VISION}
    return config, compare(expected, shapes)


def _configure(part: PartName, shapes: Shapes, family: Family, known: Mapping[str, Any]) -> PartConfig:
    released = getattr(family, part)
    untold = {name: getattr(released, name) for name in _UNTOLD.get(part, ())}
    if part == "projector" and family.image_tokens == "shared":
        untold["frames"] = None
    config = CONFIGS[part].from_shapes(shapes, **{**untold, **known})
    if isinstance(config, UNetConfig):
        structure = {name: getattr(released, name) for name in _STRUCTURE if name not in known}
        reach = (config.relative_reach or released.relative_reach) if released.relative_reach else 0
        channels = config.out_channels * released.in_channels // released.out_channels
        return replace(config, **{"relative_reach": reach, "in_channels": channels, **structure, **known})
    if part == "autoencoder":
        return replace(config, dual_reference=released.dual_reference)
    if part == "projector" and config.frames is None:
        return replace(config, frames=released.frames)
    return config


def check_fit(
    where: str, parts: Mapping[PartName, Shapes], family: Family, known: Mapping[PartName, Mapping[str, Any]]
) -> dict[PartName, PartConfig]:
    """Configs of all parts, or an error that names what is missing, unknown or misshapen, and the nearest variant."""
    absent = [part for part in parts if getattr(family, part) is None]
    if absent:
        raise InputError(
            f"{where} holds what {family.name} does not have ({', '.join(absent)}); name the variant it belongs to, or "
            "leave that file out."
        )
    fits = {part: fit(part, shapes, family, known.get(part, {})) for part, shapes in parts.items()}
    problems = [
        f"{part} ({PREFIXES[part]}*): {difference.in_words()}"
        for part, (_, difference) in fits.items()
        if difference.count
    ]
    if problems:
        nearest = _nearest(parts, known)
        advice = (
            "this variant is the nearest, so the file is incomplete or altered: get it again"
            if nearest == (family.fine_tune_of or family.name)
            else f"it is nearest to {nearest}: is that the variant?"
        )
        raise InputError(f"{where} does not fit {family.name}: {'; '.join(problems)}; {advice.rstrip('?')}.")
    return {part: config for part, (config, _) in fits.items()}


def _nearest(parts: Mapping[PartName, Shapes], known: Mapping[PartName, Mapping[str, Any]]) -> str:
    def distance(family: Family) -> int:
        count = 0
        for part, shapes in parts.items():
            if getattr(family, part) is None:
                count += len(shapes)
            else:
                count += fit(part, shapes, family, known.get(part, {}))[1].count
        return count

    return min(FAMILIES, key=lambda name: distance(FAMILIES[name]))
