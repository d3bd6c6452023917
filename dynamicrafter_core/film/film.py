"""A script becomes a film: takes made one after the other, kept on the disk, joined and written as they come.

    film = make_film(Pipeline("dynamicrafter_512.ckpt"), read_script("story.json"), "film.mp4")

One take is in memory at a time. A film that was stopped goes on from the takes that are there; one whose script has changed makes
only the takes that the change touches.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checks import check_number
from ..errors import InputError
from ..families import Family, Mode
from ..media.images import fit_image, in_bytes, read_image
from ..media.saving import check_target, save_frames
from ..pipeline.clip import Clip
from ..pipeline.keyframes import Keyframe, fill
from ..pipeline.keywords import content_of
from ..pipeline.pipeline import Pipeline
from ..pipeline.progress import Progress
from ..pipeline.settings import settle
from .joining import joined
from .script import Script
from .store import Store
from .takes import Means, Take, plan

_MODES: dict[str, Mode] = {
    "animate": "animate",
    "generate": "generate",
    "extend": "animate",
    "morph": "interpolate",
}
Before = tuple[Tensor, Tensor | None] | None  # the last frames of the take before, and their latents
Shoot = Callable[[int, Before], tuple[Tensor, Tensor | None]]  # the number of a take -> its frames and latents


@dataclass(frozen=True)
class Film:
    path: Path
    frames: int
    fps: float
    takes: int
    made: int  # takes that were not there already


def open_models(script: Script, device: str = "auto") -> "tuple[Pipeline, Pipeline | None]":
    """The script's model, and the one it morphs with: another file, or the same if it can."""
    model = script.model
    pipeline = Pipeline(
        model.model, model.variant, device, model.dtype, extra=model.extra, initial_noise=model.initial_noise
    )
    if script.morph_model is None:
        return pipeline, pipeline if "interpolate" in pipeline.family.modes else None
    return pipeline, Pipeline(script.morph_model, device=device, dtype=model.dtype, extra=model.extra)


def make_film(
    pipeline: Pipeline,
    script: Script,
    target: str | os.PathLike[str],
    *,
    morph: Pipeline | None = None,
    takes: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
) -> Film:
    """Write the film to `target` (.mp4, .gif, .png, or a folder of frames), and its takes into the folder `takes`.

    morph     a model that leads from one picture to another; None: `pipeline`, if it can
    takes     kept for the next time; None: "film.takes" beside "film.mp4"
    """
    path = check_target(target)
    if morph is None and "interpolate" in pipeline.family.modes:
        morph = pipeline
    planned, fps = plan_film(pipeline, script, morph)
    store = Store(
        Path(takes) if takes is not None else path.with_suffix(".takes"),
        {
            "models": [_identity(each) for each in (pipeline, morph) if each is not None],
            "keep": script.keep,
            "match": script.match,
        },
    )
    store.prepare()
    names = store.names(planned, {take.image: content_of(Path(take.image)) for take in planned if take.image})
    missing = [name for name in names if not store.has(name)]

    def shoot(number: int, before: Before) -> tuple[Tensor, Tensor | None]:
        def tell(stage: str, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(f"take {number + 1} of {len(planned)}, {stage}", done, total)

        return _shoot(pipeline, morph, script, planned[number], before, tell)

    frames = film_frames(planned, names, store, shoot)
    count = save_frames(frames, path, fps, _about(pipeline, script))
    return Film(path, count, fps, len(planned), len(missing))


def film_frames(planned: Sequence[Take], names: Sequence[str], store: Store, shoot: Shoot) -> Iterator[Tensor]:
    """uint8 frames [H,W,3] of the joined film; takes that the store lacks are shot when their turn comes."""

    def clips() -> Iterator[tuple[Tensor, int]]:
        for number, (take, name) in enumerate(zip(planned, names, strict=True)):
            if not store.has(name):
                frames, latents = shoot(number, store.end(names[number - 1]) if take.goes_on else None)
                store.save(name, frames, latents)
            yield store.frames(name), take.dissolve

    return joined(clips(), max(take.dissolve for take in planned))


def plan_film(pipeline: Pipeline, script: Script, morph: Pipeline | None) -> tuple[list[Take], float]:
    """Takes of one size with every setting accepted by the model that makes them, and the frames a second."""
    family = pipeline.family
    fps = check_number("fps", script.options.get("fps", family.save_fps), 0.1, 240)
    length = script.options.get("frames", family.frames)
    means = Means(family.title, family.modes, length, fps, morph is not None)
    planned = plan(script, means)
    sized: dict[str, int] | None = None
    takes = []
    for take in planned:
        maker = morph if take.kind in ("morph", "still") and morph is not None else pipeline
        size = None
        if take.image is not None:
            picture = read_image(take.image)
            size = (picture.shape[2], picture.shape[1])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is merely unwise is told when the take is made
                options = {**take.options, **(sized or {})}
                settings = settle(maker.family, mode_of(take, maker.family), take.prompt, options, size, maker.multiple)
        except InputError as error:
            raise InputError(f"{take.where}: {error}") from error
        sized = {"width": settings.width, "height": settings.height}
        takes.append(replace(take, options={**take.options, **sized}))
    return takes, fps


def mode_of(take: Take, family: Family) -> Mode:
    """A picture by itself can stand in a film of any model."""
    return _MODES.get(take.kind, family.modes[0])


def _shoot(
    pipeline: Pipeline,
    morph: Pipeline | None,
    script: Script,
    take: Take,
    before: Before,
    tell: Progress,
) -> tuple[Tensor, Tensor | None]:
    options: Any = {**take.options, "on_progress": tell}
    if take.kind == "still":
        fitted = fit_image(read_image(take.image), options["width"], options["height"], options.get("fit", "crop"))  # type: ignore[arg-type]
        return in_bytes(fitted[None]), None
    if take.kind == "generate":
        clip = pipeline.generate(take.prompt, **options)
    elif before is None:
        clip = pipeline.animate(take.image, take.prompt, **options)  # type: ignore[arg-type]
    elif take.kind == "morph" and morph is not None:
        ends = [Keyframe(before[0][-1].numpy(), 0), Keyframe(take.image, take.frames + 1)]
        way = fill(morph.interpolate, ends, take.prompt, take.made, options.pop("seed"), options)
        return way.frames[1:-1], None
    else:
        given = Clip(before[0], 1, {}, latents=before[1])
        clip = pipeline.extend(
            given, take.prompt, keep=min(script.keep, len(before[0])), image=take.image, match=script.match, **options
        )
    latents = None if clip.latents is None else clip.latents[:, : take.frames]
    return clip.frames[: take.frames], latents


def _identity(pipeline: Pipeline) -> list[str]:
    return [pipeline.path.name, str(pipeline.path.stat().st_size), pipeline.family.name, str(pipeline.dtype)]


def _about(pipeline: Pipeline, script: Script) -> Mapping[str, Any]:
    """How the film was made, for the saved file."""
    shots = [
        {key: value for key, value in vars(shot).items() if key != "where" and value is not None}
        for shot in script.shots
    ]
    model = pipeline.path.name
    told = {"keep": script.keep, "match": script.match, **script.options}
    return {"model": model, "variant": pipeline.family.name, **told, "shots": shots}
