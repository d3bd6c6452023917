"""Which released variant a checkpoint is: by structure first, then the stored schedule, metadata and file name.

DynamiCrafter 512, its interpolation model and DynamiCrafter 1024 have the same keys and shapes, and so have fine-tunes of
them: what only a hint decided, the evidence says; what nothing decided is reported as ambiguous and left to the caller.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..families import FAMILIES, FINE_TUNES, Family
from ..models.unet_config import UNetConfig
from ..part_names import split_names
from .other_models import name_other_model

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Detection:
    name: str  # of the variant; where it is ambiguous, the most usual of the candidates
    candidates: tuple[str, ...]  # released variants that nothing rules out, or the one fine-tune that a hint names
    evidence: tuple[str, ...]  # sentences, in the order of their weight

    @property
    def ambiguous(self) -> bool:
        return len(self.candidates) > 1


_RARE = ("learnable", "guidance", "motion")  # mentioned only where it is so

# What a UNet is made of, as far as released variants differ in it: words where it is so, and where it is not.
_TRAITS: Mapping[str, tuple[str, str]] = {
    "concat": ("reads the image's latent beside the noise", "reads the noise alone"),
    "temporal_conv": ("convolves over time", "does not convolve over time"),
    "relative": ("knows relative frame positions", "knows no frame positions"),
    "image_attention": ("attends to image tokens", "attends to no image tokens"),
    "learnable": ("weights them by a learned factor", "has no learned factor for them"),
    "fs": ("is conditioned on fs", "is not conditioned on fs"),
    "guidance": ("takes the guidance scale as input", "does not take the guidance scale as input"),
    "motion": ("takes a motion scale as input", "does not take a motion scale as input"),
}


def detect(
    keys_and_shapes: Mapping[str, Sequence[int]],
    metadata: Mapping[str, str] | None = None,
    scale_arr: Tensor | Sequence[float] | None = None,
    filename: str | None = None,
) -> Detection:
    """The variant of a checkpoint with these keys (in any naming that `naming` knows), whatever the widths of its layers."""
    shapes = {key: tuple(shape) for key, shape in keys_and_shapes.items()}
    parts = split_names(shapes).parts
    unet = {name: shapes[key] for name, key in parts.get("unet", {}).items()}
    if not is_video_unet(unet):
        raise InputError(
            f"{filename or 'This file'} is {name_other_model(shapes)}, not a checkpoint with the UNet of a DynamiCrafter, "
            f"VideoCrafter or ToonCrafter model; the variants are {', '.join(FAMILIES)}."
        )

    fitting = _by_structure(unet, filename)
    structure = f"Structure: the UNet {_in_words(_traits(unet))}, as in {', '.join(fitting)}."
    if set(_VIEWCRAFTERS_KEYS) & set(fitting):
        structure += " ViewCrafter's is the same: if the file is one and its name does not say so, choose its variant."
    found = _Evidence(fitting, structure)
    if "autoencoder" in parts:
        dual = any(name.startswith("decoder.attn_refinement.") for name in parts["autoencoder"])
        words = "ToonCrafter's dual-reference decoder" if dual else "the plain decoder, without references"
        found.narrow(f"Structure: the autoencoder has {words}.", _where(lambda f: f.autoencoder.dual_reference == dual))
    if scale_arr is not None:
        last = float(scale_arr[-1])
        same = _where(
            lambda f: f.base_scale is not None and abs(f.base_scale - last) < 0.005
        )  # stored in half, perhaps
        found.narrow(f"Schedule: the stored scale_arr shrinks the data to {last:.3g}.", same)
    if told := metadata_family(metadata or {}):
        found.narrow(f"Metadata: the file says it is {told}.", [told])
    if filename:
        _by_filename(filename, found)
    return found.detection()


def is_video_unet(names: Iterable[str]) -> bool:
    """Whether a UNet of these names mixes the frames before all else, as this family alone does."""
    return any(name.startswith("init_attn.") for name in names)


class _Evidence:
    """Candidates, narrowed by one piece of evidence after the other, and the sentence for each."""

    def __init__(self, candidates: list[str], sentence: str) -> None:
        self.candidates = candidates
        self.sentences = [sentence]

    def narrow(self, sentence: str, names: list[str]) -> None:
        """Keep the candidates that are among `names`, or that a fine-tune among `names` comes from."""
        bases = {FINE_TUNES[name].fine_tune_of if name in FINE_TUNES else name: name for name in names}
        kept = [bases[name] for name in self.candidates if name in bases]
        if not kept:
            self.sentences.append(f"{sentence} That fits none of the variants left, so it is ignored.")
        elif kept != self.candidates:
            self.candidates = kept
            self.sentences.append(sentence)

    def detection(self) -> Detection:
        if len(self.candidates) > 1:
            self.sentences.append(
                f"Nothing in the file distinguishes {', '.join(self.candidates)}; name the variant to choose."
            )
        return Detection(self.candidates[0], tuple(self.candidates), tuple(self.sentences))


def metadata_family(metadata: Mapping[str, str]) -> str | None:
    """The variant that a file's metadata names: under this project's own key, or as any entry's whole value."""
    own = read_own_metadata(metadata).get("family")
    named = [value for value in (own, *metadata.values()) if isinstance(value, str)]
    return next((value for value in named if value in FAMILIES or value in FINE_TUNES), None)


def read_own_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """This project's entry: {"family": name, "figures": {field: value}, part name: {config field: value}}."""
    try:
        own = json.loads(metadata.get("dynamicrafter", "{}"))
    except (ValueError, RecursionError):
        own = {}
    return own if isinstance(own, dict) else {}


# ViewCrafter has the keys of these, so that only a name shows it.
_VIEWCRAFTERS_KEYS = ("dynamicrafter_512", "dynamicrafter_1024")


def _where(holds: Callable[[Family], bool]) -> list[str]:
    return [name for name, family in FAMILIES.items() if holds(family)]


def _traits(unet: Shapes) -> dict[str, bool]:
    return {
        "concat": unet["input_blocks.0.0.weight"][1] > unet["out.2.weight"][0],
        "temporal_conv": any(".temopral_conv." in name for name in unet),
        "relative": any(".relative_position_k." in name for name in unet),
        "image_attention": any(name.endswith(".attn2.to_k_ip.weight") for name in unet),
        "learnable": any(name.endswith(".attn2.alpha") for name in unet),
        "fs": any(name.startswith("fps_embedding.") for name in unet),
        "guidance": any(name.startswith("time_cond_proj.") for name in unet),
        "motion": any(name.startswith("motion_cond_proj.") for name in unet),
    }


def _traits_of(config: UNetConfig) -> dict[str, bool]:
    return {
        "concat": config.in_channels > config.out_channels,
        "temporal_conv": config.temporal_conv,
        "relative": config.relative_reach > 0,
        "image_attention": config.image_attention,
        "learnable": config.image_scale_learnable,
        "fs": config.fs_condition,
        "guidance": config.guidance_dim > 0,
        "motion": config.motion_dim > 0,
    }


def _in_words(traits: Mapping[str, bool]) -> str:
    words = [_TRAITS[trait][not value] for trait, value in traits.items() if trait not in _RARE or value]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _by_structure(unet: Shapes, filename: str | None) -> list[str]:
    try:
        traits = _traits(unet)
    except KeyError as error:
        raise InputError(f"{filename or 'This file'} lacks the UNet's {error}; it may be cut short.") from error
    differing = {
        name: [trait for trait, value in _traits_of(family.unet).items() if traits[trait] != value]
        for name, family in FAMILIES.items()
    }
    # Most common first: the variant assumed when the file does not show which one it is.
    order = sorted(differing, key=lambda name: (name != "dynamicrafter_512", name == "tooncrafter_512"))
    same = [name for name in order if not differing[name]]
    if not same:
        nearest = min(order, key=lambda name: len(differing[name]))
        wrong = " and ".join(_TRAITS[trait][not traits[trait]] for trait in differing[nearest])
        raise InputError(
            f"{filename or 'This file'} has a video UNet of no released variant: it is nearest to {nearest}, but it "
            f"{wrong}; it may be cut short, or made by other code."
        )
    return same


def _by_filename(filename: str, found: _Evidence) -> None:
    """The file's name shows it, or its folder's (released files are all called model.ckpt)."""
    path = PurePath(filename)
    folders = [folder for folder in reversed(path.parts[:-1][-4:]) if "crafter" in folder.lower()]
    for text in (path.name, *folders):
        plain = re.sub(r"[^a-z0-9]+", "_", text.lower())
        if "viewcrafter" in plain and set(_VIEWCRAFTERS_KEYS) & set(found.candidates):
            # Whatever its schedule: a fine-tune at 512 may have kept that of 1024.
            found.candidates = [viewcrafter_named(plain)]
            found.sentences.append(f"File name: {text!r} suggests {found.candidates[0]}.")
            return
        named = [name for word, name in _WORDS.items() if word in plain and name in found.candidates]
        if named and len(found.candidates) > 1:
            found.narrow(f"File name: {text!r} suggests {named[0]}.", named[:1])
        base = FINE_TUNES.get(f"{found.candidates[0]}_cil")
        if base and len(found.candidates) == 1 and re.search(r"(^|_)cil(_|$)", plain):
            found.narrow(f"File name: {text!r} suggests a CIL fine-tune.", [base.name])


def viewcrafter_named(text: str) -> str:
    """The variant that a file name with "viewcrafter" in it means."""
    if re.search(r"viewcrafter\W?_?16(\D|$)", text.lower()):
        return "viewcrafter_16"
    return "viewcrafter_25_512" if "512" in text else "viewcrafter_25"


# A variant's name holds the words of those below it: the first that fits counts.
_WORDS: Mapping[str, str] = {
    "toon": "tooncrafter_512",
    "interp": "dynamicrafter_512_interp",
    "1024": "dynamicrafter_1024",
    "512": "dynamicrafter_512",
}
