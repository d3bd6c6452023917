"""What a training run does, as a JSON file says it: the model, the data, and the stages one after another.

The schedule of the papers is three stages of `diffusion`: the projector with single frames, the projector with the video model's
spatial layers, and both with visual detail guidance. A small model made from nothing has an `autoencoder` stage and a
`towers` stage before them, for it has no released weights to stand on.
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from ..checks import check_integer, check_number, is_of, kind_of
from ..errors import InputError
from ..text_files import read_text

Objective = Literal["autoencoder", "towers", "diffusion", "distillation"]
OBJECTIVES = ("autoencoder", "towers", "diffusion", "distillation")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Timesteps:
    """Which noise levels are trained: `high_share` of the clips at `high_from` or above, for motion is decided there."""

    low: int = 0
    high: int = 999
    high_share: float = 0.0
    high_from: int = 850


@dataclass(frozen=True)
class Distillation:
    """What a LoRA learns of the model without it: to need fewer steps, and no guidance."""

    steps: int = 4  # of the student
    substeps: int = 4  # of the teacher, for each of these
    text_scale: float | None = None  # of the teacher; None: the model's own
    image_scale: float | None = None
    rescale: float = 0.7


@dataclass(frozen=True)
class Stage:
    name: str
    objective: Objective
    train: tuple[str, ...]  # parts or groups: unet, unet.spatial, unet.temporal, unet.vdg, projector, ..., or patterns
    steps: int
    batch: int  # clips a step, of all processes together
    micro: int = 0  # clips at once; the rest is accumulated. 0: all
    reuse: int = 1  # steps that a batch's latents serve, each with new noise

    optimiser: Literal["adamw", "muon"] = "adamw"  # muon: of convolutions and linear layers; the rest learns by AdamW
    lr: float = 1e-4
    warmup: int = 100
    decay: Literal["cosine", "constant"] = "cosine"
    last_lr: float = 0.1  # of a cosine's end, as a share of lr
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip_norm: float = 1.0
    ema: float = 0.999
    checkpointing: bool = False  # less memory for more time

    grow: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # part -> figures that change as it begins
    figures: Mapping[str, Any] = field(default_factory=dict)  # of the family record, from here on
    data: Mapping[str, Any] = field(default_factory=dict)  # instead of what the recipe says of its data
    frames: int = 0  # 1: single frames, as a text-to-image model; 0: whole clips
    vdg: float = 1.0  # share of clips with the image's latent in the UNet's input; the others have its tokens alone
    random_frame: float = 1.0  # share of clips whose condition is any frame, not the first
    interpolate: float = 0.0  # share of clips with first and last frame given
    loop: float = 0.0  # share of the interpolated clips that are played forth and back, to end where they began
    dropout: float = 0.05  # p: the text alone is dropped with p, both with p, and the image alone with p
    drop_both: bool = True  # False: where both would be dropped, the text alone is
    align: bool = (
        False  # True: an autoencoder's latents end as near to those before the stage as a linear map brings them
    )
    anchor: float = 0.0  # weight of an autoencoder's latents' distance from those before the stage, while it learns
    still: bool = False  # True: where the text alone is dropped, the clip is its image, which image guidance then holds
    timesteps: Timesteps = Timesteps()
    distillation: Distillation = Distillation()

    kl: float = 1e-6  # autoencoder
    perceptual: float = 1.0
    adversarial: float = 0.0  # weight of what a critic misses, which learns beside the autoencoder; 0: no critic
    answers: float = 0.0  # share of clips whose latents are not encoded, but made by the UNet from their first frame
    answer_steps: int = 4  # of sampling them
    equivariance: float = 0.0  # share of pictures whose latents are moved a little before they are decoded


@dataclass(frozen=True)
class Recipe:
    name: str
    seed: int
    family: str
    stages: tuple[Stage, ...]
    data: Mapping[str, Any]
    model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # part -> its config's figures
    grow: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # part -> figures of a loaded part that change before the first stage, see growth.py
    figures: Mapping[str, Any] = field(default_factory=dict)  # of the family record, for this model
    initial: tuple[str, ...] = ()  # checkpoint files to start from; "embedded" is the model that comes with the package
    lora: Mapping[str, Any] | None = None  # train this small addition instead of the weights
    causal: bool | None = None  # whether frames see only earlier ones in temporal attention; None: as the model is
    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # auto: bf16 where the device calculates in it
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"  # of the file at the end
    log_every: int = 20  # steps
    evaluate_every: int = 500
    evaluate_clips: int = 16
    sample_steps: int = 10
    save_seconds: float = 120.0
    source: str = ""  # the JSON text itself, which travels into the trained file

    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def growth_before(self, stage: Stage) -> dict[str, dict[str, Any]]:
        """Part -> figures that change as the stage begins; before the first, those of the recipe too."""
        given = [self.grow if stage is self.stages[0] else {}, stage.grow]
        return {part: {**given[0].get(part, {}), **given[1].get(part, {})} for part in {**given[0], **given[1]}}


def recipes_folder() -> Path:
    return Path(__file__).parent.parent / "embedded"


def read_recipe(given: str | os.PathLike[str]) -> Recipe:
    """A JSON file, or the name of a recipe that comes with the package (embedded, few_steps, pictures, tiny)."""
    path = Path(given)
    if not path.suffix and not os.path.exists(path):
        path = recipes_folder() / f"{path.name}.json"
    if not os.path.isfile(path):
        known = ", ".join(sorted(entry.stem for entry in recipes_folder().glob("*.json")))
        raise InputError(f"There is no recipe {os.fspath(given)!r}; give a JSON file, or one of {known}.")
    text = read_text(path)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds a {type(raw).__name__}; a recipe is an object of settings.")
    return parse_recipe(raw, str(path), text)


def parse_recipe(raw: Mapping[str, Any], where: str = "The recipe", source: str = "") -> Recipe:
    if not isinstance(raw.get("stages"), list) or not raw["stages"]:
        raise InputError(f"{where} has no stages; give a list of at least one.")
    stages = tuple(_stage(each, f"{where}, stage {number}") for number, each in enumerate(raw["stages"], 1))
    names: list[str] = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise InputError(f"{where} has stages of the same name ({', '.join(names)}); give each its own.")
    recipe = _fill(Recipe, {**raw, "stages": stages, "source": source or json.dumps(dict(raw))}, where)
    if recipe.lora is None and any(stage.objective == "distillation" for stage in stages):
        raise InputError(
            f'{where} distils without a LoRA, and the teacher is the model without its LoRA; add "lora": {{"rank": 8}}.'
        )
    if recipe.lora is not None and (growing := [stage.name for stage in stages if stage.grow]):
        raise InputError(
            f"{where} trains a LoRA, and the model under it grows in stage {growing[0]}; leave that grow out."
        )
    check_integer("seed", recipe.seed, 0, 2**63 - 1)
    return recipe


def _stage(raw: Any, where: str) -> Stage:
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} is {raw!r}; give an object with name, objective, train, steps and batch.")
    timesteps = _fill(Timesteps, raw.get("timesteps", {}), f"{where}, timesteps")
    distillation = _fill(Distillation, raw.get("distillation", {}), f"{where}, distillation")
    stage = _fill(Stage, {**raw, "timesteps": timesteps, "distillation": distillation}, where)
    check_integer(f"{where}: steps", stage.steps, 1, 10**9)
    check_integer(f"{where}: batch", stage.batch, 1, 10**6)
    check_integer(f"{where}: reuse", stage.reuse, 1, 10**6)
    check_integer(f"{where}: answer_steps", stage.answer_steps, 1, 1000)
    check_integer(f"{where}: timesteps.high", timesteps.high, timesteps.low, 999)
    check_integer(f"{where}: distillation.steps", distillation.steps, 1, 1000)
    check_integer(f"{where}: distillation.substeps", distillation.substeps, 1, 1000)
    for name in ("vdg", "random_frame", "interpolate", "loop", "dropout", "last_lr", "equivariance", "answers"):
        check_number(f"{where}: {name}", getattr(stage, name), 0, 1)
    for name in ("lr", "anchor", "adversarial"):
        check_number(f"{where}: {name}", getattr(stage, name), 0)
    return stage


_Record = TypeVar("_Record", Recipe, Stage, Timesteps, Distillation)


def _fill(record: type[_Record], raw: Mapping[str, Any], where: str) -> _Record:
    """The record with these values; comments ("//...") are passed over, unknown names refused with the nearest known."""
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} is {raw!r}; give an object of settings.")
    known = get_type_hints(record)
    values = {name: value for name, value in raw.items() if not name.startswith("//")}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise InputError(
                f"{where} has an unknown setting {name!r}{f'; the nearest is {close[0]}' if close else ''}."
            )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, value in values.items():
        if not is_of(value, known[name]):
            raise InputError(f"{where} has the {name} {value!r}; give {kind_of(known[name])}.")
    try:
        return record(**values)
    except TypeError as error:
        raise InputError(f"{where} is incomplete: {str(error).split('__init__() ')[-1]}.") from error
