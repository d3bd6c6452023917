"""A film by the host's own parts: planned from its script, and its takes kept on the disk and joined.

Takes lie in the output folder, under names made from all that they come from, so that a film that was cancelled, or whose server was
stopped, goes on, and a changed script makes only what changed.
"""

import hashlib
import json
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.film.film import Before, film_frames, mode_of
from ...dynamicrafter_core.film.script import Script, parse_script
from ...dynamicrafter_core.film.store import Store
from ...dynamicrafter_core.film.takes import Means, Take, plan
from ...dynamicrafter_core.media.images import read_image
from ...dynamicrafter_core.media.saving import save_frames
from ...dynamicrafter_core.pipeline.settings import Settings, settle
from .loading import family_of
from .shooting import NODE, Parts, shoot_take
from .vae import check_vae

TAKES = "dynamicrafter_takes"
SIDE = 64  # pixels that the sides of a frame are multiples of
# What a script may set here; the rest has nodes of its own, on the MODEL.
SETTABLE = {
    *("negative", "seed", "steps", "text_scale", "image_scale", "context_strength", "eta", "spacing"),
    *("guidance_rescale", "fs", "motion_scale", "frames", "width", "height", "fit", "fps", "start_step"),
}


@dataclass(frozen=True)
class Planned:
    script: Script
    takes: list[Take]
    settings: list[Settings]
    pictures: Mapping[str, Tensor]  # name in the script -> [1,H,W,3]
    fps: float


def plan_film(parts: Parts, text: str, images: Tensor | None, defaults: Mapping[str, Any]) -> Planned:
    """Everything that can be refused is refused here, before anything is sampled."""
    check_vae(parts.vae, NODE)
    script = parse_script(text, defaults=defaults)
    family = family_of(parts.model, NODE)
    for where, options in (("the script", script.options), *((shot.where, shot.options) for shot in script.shots)):
        if foreign := sorted(set(options) - SETTABLE):
            raise InputError(
                f"{where}: {foreign[0]} is not a setting of DynamiCrafter Film: use its own node on the MODEL, or the command line."
            )
    script = in_windows(parts.model, script)
    fps = script.options.get("fps", family.save_fps)
    morphs = parts.morph or (parts.model if "interpolate" in family.modes else None)
    length = script.options.get("frames", family.frames)
    means = Means(family.title, family.modes, length, float(fps), morphs is not None)
    takes, settings, sized = [], [], {}
    pictures: dict[str, Tensor] = {}
    for take in plan(script, means):
        size = None
        if take.image is not None:
            if take.image not in pictures:
                pictures[take.image] = find_picture(take.where, take.image, images)
            height, width = pictures[take.image].shape[1:3]
            size = (width, height)
        of_pictures = take.kind in ("morph", "still") and morphs is not None
        maker = family_of(morphs, NODE) if of_pictures else family
        options = {key: value for key, value in {**take.options, **sized}.items() if key != "window"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the nodes tell what is unwise in their own words
                settled = settle(maker, mode_of(take, maker), take.prompt, options, size, SIDE)
        except InputError as error:
            raise InputError(f"{take.where}: {error}") from error
        scales = (settled.text_scale, settled.image_scale)
        if not all(scale is None or scale.constant for scale in scales):
            raise InputError(
                f"{take.where}: cfg is a curve: give a number, or put DynamiCrafter Guidance on the MODEL."
            )
        sized = {"width": settled.width, "height": settled.height}
        takes.append(replace(take, options={**take.options, **sized}))
        settings.append(settled)
    return Planned(script, takes, settings, pictures, settings[0].fps)


def in_windows(model: ModelPatcher, script: Script) -> Script:
    """With windows on the MODEL a shot is one take of any length."""
    handler = model.model_options.get("context_handler")
    return script if handler is None else replace(script, options={**script.options, "window": handler.context_length})


def find_picture(where: str, name: str, images: Tensor | None) -> Tensor:
    """A number of the connected images, counted from 1, or a file in the input folder."""
    if name.isdigit():
        count = 0 if images is None else len(images)
        if images is None or not 1 <= int(name) <= count:
            raise InputError(
                f"{where}: image is {name}, and {count} images are connected: give a number up to {count}."
            )
        return images[int(name) - 1 : int(name), ..., :3]
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(
            f"{where}: image {name!r} is not in ComfyUI's input folder: put it there, or give the number of a connected image."
        )
    return ((read_image(folder_paths.get_annotated_filepath(name)) + 1) / 2).movedim(0, -1)[None]


def files_changed(text: str) -> str:
    """Something that differs when a picture file of the script does, for the host's cache."""
    try:
        names = {shot.image for shot in parse_script(text).shots if shot.image}
    except InputError:
        return ""
    files = [folder_paths.get_annotated_filepath(name) for name in sorted(names) if not name.isdigit()]
    return json.dumps([[file, Path(file).stat().st_mtime_ns] for file in files if Path(file).is_file()])


def make_film(
    parts: Parts, planned: Planned, origins: Any, keep: bool, tell: Callable[[str], None]
) -> tuple[Tensor, Path]:
    """The frames as IMAGE, and the video in the temporary folder.

    `origins`: the graph that the parts come from; None: not known, so that no take is used again.
    """
    base = folder_paths.get_output_directory() if keep else folder_paths.get_temp_directory()
    script = planned.script
    store = Store(
        Path(base) / TAKES, {"from": origins or secrets.token_hex(), "keep": script.keep, "match": script.match}
    )
    store.folder.parent.mkdir(exist_ok=True)
    store.prepare()
    names = store.names(planned.takes, {name: content_of(picture) for name, picture in planned.pictures.items()})

    def shoot(number: int, before: Before) -> tuple[Tensor, Tensor | None]:
        tell(f"take {number + 1} of {len(names)}")
        take = planned.takes[number]
        picture = None if take.image is None else planned.pictures[take.image]
        return shoot_take(parts, take, planned.settings[number], picture, before, script.keep, script.match)

    shown: list[Tensor] = []

    def kept() -> Iterator[Tensor]:
        for frame in film_frames(planned.takes, names, store, shoot):
            shown.append(frame)
            yield frame

    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(exist_ok=True)
    path = folder / f"dynamicrafter_film_{hashlib.sha256(''.join(names).encode()).hexdigest()[:16]}.mp4"
    count = save_frames(kept(), path, planned.fps, {"shots": [shot.prompt for shot in script.shots]})
    tell(f"{count} frames, {count / planned.fps:.1f} s, of {len(names)} takes")
    return torch.stack(shown).float() / 255, path


def origins_of(prompt: Mapping[str, Any] | None, node: str | None, inputs: tuple[str, ...]) -> Any:
    """The part of the graph that these inputs of a node come from, without the ids of its nodes; None: not known."""
    if not prompt or node not in prompt:
        return None

    def of(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2 and str(value[0]) in prompt:
            source = prompt[str(value[0])]
            return [source["class_type"], {key: of(each) for key, each in source["inputs"].items()}, value[1]]
        return value

    given = prompt[node]["inputs"]
    return {name: of(given[name]) for name in inputs if name in given}


def content_of(picture: Tensor) -> bytes:
    told = json.dumps(list(picture.shape)).encode()
    return hashlib.sha256(told + picture.float().cpu().contiguous().numpy().tobytes()).digest()
