"""Checkpoint files in, parts of a model out: opened, recognised, checked to the last key, and loaded without a second copy.

    load_checkpoint("model.ckpt").load("unet", dtype=torch.float16, device="cuda")

Every part may come from the one released file or from a file of its own. Where several files hold a part, a file of that part
alone goes before a file of many, and a later file before an earlier one.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from ..checks import is_of
from ..errors import InputError
from ..families import FAMILIES, Family, find_family
from ..models.parts import CONFIGS, PartConfig, Shapes, build
from ..part_names import PARTS, PREFIXES, Naming, PartName, split_names
from .detection import Detection, detect, is_video_unet, metadata_family, read_own_metadata
from .fitting import check_fit
from .other_models import name_other_model
from .reading import Opened, open_file

RELEASE_EVERY = 256 * 2**20  # bytes of a file gone through before their memory is given back


@dataclass(frozen=True)
class Source:
    """Where a part's tensors are: its key -> the file's key."""

    opened: Opened
    names: Mapping[str, str]
    scales: Mapping[str, str] = field(default_factory=dict)  # of ComfyUI's quantised files; empty in all others

    @property
    def shapes(self) -> Shapes:
        return {key: self.opened.shapes[name] for key, name in self.names.items()}

    def tensor(self, key: str) -> Tensor:
        return self.opened.tensors[self.names[key]]

    def dtype(self, key: str) -> torch.dtype:
        return self.opened.dtypes[self.names[key]]

    def release(self) -> None:
        """Give back the memory of the tensors read so far."""
        self.opened.tensors.release()


@dataclass(frozen=True)
class Checkpoint:
    family: Family  # with this file's own figures, where it has such
    detection: Detection
    sources: Mapping[PartName, Source]
    configs: Mapping[PartName, PartConfig]
    buffers: Source  # the stored schedule, perhaps empty

    @property
    def parts(self) -> tuple[PartName, ...]:
        return tuple(self.sources)

    def source(self, part: PartName) -> Source:
        if part not in PARTS:
            raise InputError(f"There is no part {part!r}; the parts are {', '.join(PARTS)}.")
        if part not in self.sources:
            where = next(iter(self.sources.values())).opened.path
            raise InputError(
                f"{where} holds no {part} part, only {', '.join(self.parts)}; give an extra file that does."
            )
        return self.sources[part]

    def shapes(self, part: PartName) -> Shapes:
        return self.source(part).shapes

    def state_dict(self, part: PartName) -> dict[str, Tensor]:
        """Released key (without the part's prefix) -> view of the file."""
        source = self.source(part)
        return {key: source.tensor(key) for key in source.names}

    def scales(self, part: PartName) -> dict[str, Tensor]:
        """What a quantised file holds beside the part's weights, which mean nothing without it; mostly empty."""
        source = self.source(part)
        return {key: source.opened.tensors[name] for key, name in source.scales.items()}

    def load(
        self,
        part: PartName,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        operations: Any = nn,
    ) -> nn.Module:
        """The part as a module for inference. Without a dtype it keeps the file's, and on the CPU it is the mapped file."""
        source = self.source(part)
        if source.scales:
            raise InputError(
                f"{source.opened.path} is quantised ({len(source.scales)} scales beside the {part}'s weights), which "
                "ComfyUI loads and this library does not; give a float16, bfloat16 or float32 file."
            )
        module = build(self.configs[part], dtype, "meta", operations).requires_grad_(False)
        state, passed = {}, 0
        for key in module.state_dict():
            stored = source.tensor(key)
            state[key] = stored.to(device=device, dtype=dtype or stored.dtype)
            passed += stored.nbytes if state[key] is not stored else 0
            if passed > RELEASE_EVERY:
                del stored
                source.release()
                passed = 0
        module.load_state_dict(state, assign=True)
        return module.eval()


def load_checkpoint(
    path: str | os.PathLike[str],
    variant: str | Family = "auto",
    extra: Iterable[str | os.PathLike[str]] = (),
) -> Checkpoint:
    """Open `path` and files with further parts; nothing but their tables of contents is read until a part is loaded."""
    files = [open_file(path), *(open_file(other) for other in extra)]
    namings = [split_names(opened.shapes) for opened in files]
    for opened, naming in zip(files, namings, strict=True):
        _check_known(opened, naming)
    where = " with ".join(str(opened.path) for opened in files)
    by_weight = sorted(zip(files, namings, strict=True), key=lambda file: len(file[1].parts) == 1)
    sources = {
        part: Source(opened, naming.parts[part], naming.scales.get(part, {}))
        for opened, naming in by_weight
        for part in naming.parts
    }
    sources = {part: sources[part] for part in PARTS if part in sources}
    buffers = _schedule(files, namings, sources)
    metadata = sources["unet"].opened.metadata if "unet" in sources else files[0].metadata

    scale_arr = buffers.tensor("scale_arr") if "scale_arr" in buffers.names else None
    detection = _detect(where, sources, metadata, scale_arr, variant, str(path))
    family = variant if isinstance(variant, Family) else find_family(detection.name)
    figures = _stated("figures", Family, metadata, where)
    known = {part: _stated(part, CONFIGS[part], source.opened.metadata, where) for part, source in sources.items()}
    configs = check_fit(where, {part: source.shapes for part, source in sources.items()}, family, known)
    return Checkpoint(_adjust(family, figures, scale_arr), detection, sources, configs, buffers)


def _schedule(files: list[Opened], namings: list[Naming], sources: Mapping[PartName, Source]) -> Source:
    """The stored schedule: the UNet's file's own, for that of a file given for another part is another model's perhaps."""
    candidates = [
        Source(opened, naming.buffers)
        for opened, naming in zip(files, namings, strict=True)
        if "unet" not in sources or opened is sources["unet"].opened
    ]
    return next((source for source in candidates if source.names), candidates[0])


def _check_known(opened: Opened, naming: Naming) -> None:
    others = "unet" in naming.parts and not is_video_unet(naming.parts["unet"])  # a whole SDXL file has such parts, too
    if others or not naming.parts:
        raise InputError(
            f"{opened.path} is {name_other_model(opened.shapes)}, not a checkpoint of this family or a part of one; "
            f"the variants are {', '.join(FAMILIES)}."
        )
    if naming.unknown:
        first = ", ".join(naming.unknown[:3])
        raise InputError(
            f"{opened.path} holds {len(naming.unknown)} tensors that belong to no part ({first}); the parts' names begin "
            f"with {', '.join(PREFIXES.values())}."
        )


def _detect(
    where: str,
    sources: Mapping[PartName, Source],
    metadata: Mapping[str, str],
    scale_arr: Tensor | None,
    variant: str | Family,
    filename: str,
) -> Detection:
    named = variant.name if isinstance(variant, Family) else None if variant == "auto" else find_family(variant).name
    if "unet" not in sources:  # a split file: only its name can show the variant
        told = named or metadata_family(metadata)
        if told:
            return Detection(
                told, (told,), ("The variant was named." if named else f"Metadata: the file says {told}.",)
            )
    if named:
        return Detection(named, (named,), ("The variant was named.",))
    shapes = {PREFIXES[part] + key: shape for part, source in sources.items() for key, shape in source.shapes.items()}
    return detect(shapes, metadata, scale_arr, filename)


def _stated(name: str, record: Any, metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """What a file states of itself where shapes show nothing: figures of its family record, or of a part's config."""
    values = read_own_metadata(metadata).get(name)
    values = values if isinstance(values, dict) else {}
    unknown = set(values) - ({field.name for field in fields(record)} - {*PARTS, "name"})
    if unknown:
        raise InputError(
            f"{where} has metadata of its {name} that this version does not know ({', '.join(sorted(unknown))}); it "
            "was made by a later version of this project, or by another program."
        )
    stated = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    hints = get_type_hints(record)
    for key, value in stated.items():
        if not is_of(value, hints[key]):
            raise InputError(f"{where} has metadata that says {key} of its {name} is {value!r}; get the file again.")
    return stated


def _adjust(family: Family, figures: Mapping[str, Any], scale_arr: Tensor | None) -> Family:
    """The released record, but for what the file states, or its stored schedule shows, as a fine-tune's may."""
    if scale_arr is not None and family.base_scale is not None:
        stored = float(scale_arr[-1])
        if abs(stored - family.base_scale) > 0.005:  # more than half precision explains
            figures = {"base_scale": stored, **figures}
    return replace(family, **figures)
