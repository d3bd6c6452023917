"""What the subcommands do, once their arguments are read."""

import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .terminal import Bars, in_bytes, notes

if TYPE_CHECKING:
    from ..media.colour import Match
    from ..pipeline.clip import Clip
    from ..pipeline.keyframes import Keyframe
    from ..pipeline.pipeline import Pipeline


def make_clip(arguments: Namespace) -> int:
    """animate, interpolate, loop, fly, extend and generate: every target is known to be writable before the model is opened."""
    from ..media.saving import check_target
    from ..pipeline.pipeline import Pipeline

    targets = [check_target(target) for target in arguments.out or [_default_target(arguments)]]
    bars = Bars(arguments.quiet)
    with notes(arguments.quiet):
        pipeline = Pipeline(
            arguments.model,
            arguments.variant,
            arguments.device,
            arguments.dtype,
            extra=arguments.extra,
            initial_noise=arguments.initial_noise,
        )
        options = {**_options(arguments), "on_progress": bars}
        try:
            clip = _MAKERS.get(arguments.command, _made)(pipeline, arguments, options)
        finally:
            bars.close()
    for target in targets:
        clip.save(target)
        if not arguments.quiet:
            count, height, width, _ = clip.frames.shape
            sys.stdout.write(f"{target}: {count} frames of {width}x{height}, seed {clip.settings['seed']}\n")
    if not arguments.quiet:
        seconds = sum(clip.seconds.values())
        sys.stdout.write(f"made in {seconds:.1f} s on {pipeline.device}, peak memory {in_bytes(clip.peak_memory)}\n")
    return 0


def _made(pipeline: "Pipeline", arguments: Namespace, options: dict[str, Any]) -> "Clip":
    images: list[Any] = [getattr(arguments, name) for name in ("image", "last") if hasattr(arguments, name)]
    if arguments.command == "fly":
        images.append(arguments.guide or _camera(arguments))
    return getattr(pipeline, arguments.command)(*images, prompt=arguments.prompt, **options)


def _extended(pipeline: "Pipeline", arguments: Namespace, options: dict[str, Any]) -> "Clip":
    """The video and a clip for each prompt, as one."""
    import torch

    from ..media.frames import read_clip, read_rate
    from ..pipeline.clip import Clip
    from ..pipeline.decoding import to_pictures
    from ..pipeline.source_frames import read_frames

    video = read_clip(arguments.video)
    image = video[0] if arguments.image is None else arguments.image
    if options["fps"] is None:
        options["fps"] = read_rate(arguments.video)
    match: Match = "first" if arguments.hold_colours else "off" if arguments.no_match else "joint"
    before: Any = video
    clips = []
    for number, prompt in enumerate(arguments.prompt):
        seed = arguments.seed + number
        before = pipeline.extend(
            before, prompt, keep=arguments.keep, image=image, match=match, **{**options, "seed": seed}
        )
        clips.append(before)
    parts = [clip.frames for clip in clips]
    if not arguments.only_new:
        height, width = parts[0].shape[1:3]
        parts.insert(0, to_pictures(read_frames("video", video, len(video), width, height, arguments.fit)))
    about = {**clips[-1].settings, "seed": arguments.seed, "prompt": " | ".join(arguments.prompt)}
    seconds = {stage: sum(clip.seconds.get(stage, 0.0) for clip in clips) for stage in clips[-1].seconds}
    return Clip(torch.cat(parts), clips[-1].fps, about, seconds, peak_memory=max(clip.peak_memory for clip in clips))


def _through(pipeline: "Pipeline", arguments: Namespace, options: dict[str, Any]) -> "Clip":
    keyframes: list[Keyframe] = []
    for text in arguments.pictures:
        keyframes.append(_keyframe(text, keyframes[-1].frame + 15 if keyframes else 0))
    return pipeline.keyframes(keyframes, arguments.prompt or "", **options)


def _keyframe(text: str, usual: int) -> "Keyframe":
    """ "a.png@24:0.5": the picture, its frame, and its strength."""
    from ..pipeline.keyframes import Keyframe

    if os.path.exists(text):  # a file may be called anything
        return Keyframe(text, usual)
    match = re.fullmatch(r"(.+)@(\d+)(?::([\d.]+))?", text)
    if match is None:
        return Keyframe(text, usual)
    try:
        return Keyframe(match[1], int(match[2]), float(match[3] or 1))
    except ValueError as error:
        raise InputError(f"keyframe {text!r} has strength {match[3]}; give a number from 0 to 1.") from error


_MAKERS: Mapping[str, "Callable[[Pipeline, Namespace, dict[str, Any]], Clip]"] = {
    "extend": _extended,
    "keyframes": _through,
}


def convert(arguments: Namespace) -> int:
    from ..checkpoints.conversion import convert

    return _write_checkpoint(convert, arguments, arguments.source, arguments.target, extra=arguments.extra)


def merge(arguments: Namespace) -> int:
    from ..checkpoints.merging import merge

    shares = {part: getattr(arguments, part) for part in ("spatial", "temporal", "projector")}
    return _write_checkpoint(merge, arguments, arguments.first, arguments.second, arguments.target, **shares)


def _write_checkpoint(write: Callable[..., tuple[Path, ...]], arguments: Namespace, *files: str, **more: Any) -> int:
    bars = Bars(arguments.quiet, unit="B")
    with notes(arguments.quiet):
        try:
            written = write(
                *files,
                dtype=arguments.dtype,
                layout=arguments.layout,
                variant=arguments.variant,
                on_progress=lambda done, total: bars("convert", done, total),
                overwrite=arguments.overwrite,
                **more,
            )
        finally:
            bars.close()
    if not arguments.quiet:
        sys.stdout.writelines(f"{path}: {in_bytes(path.stat().st_size)}\n" for path in written)
    return 0


def inspect(arguments: Namespace) -> int:
    from ..checkpoints.inspection import describe

    described = describe(arguments.file, arguments.variant)
    if arguments.json:
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _in_lines(described))
    if described["problem"]:
        sys.stderr.write(f"dynamicrafter: {described['problem']}\n")
    return 2 if described["problem"] else 0


def _in_lines(described: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{described['path']}: {described['container']}, {in_bytes(described['bytes'])}, {described['tensors']} tensors"
    ]
    if described["family"]:
        lines += [f"{described['title']} ({described['family']}), published as {described['published']}"]
    lines += [f"  {sentence}" for sentence in described["evidence"]]
    for part, sizes in described["parts"].items():
        dtypes = ", ".join(sizes["dtypes"])
        lines.append(f"  {part:<12}{sizes['parameters']:>15,} numbers  {in_bytes(sizes['bytes']):>9}  {dtypes}")
    if described["schedule"]:
        lines.append(f"  schedule    {', '.join(described['schedule'])}")
    return lines + [f"  {key} = {value[:200]}" for key, value in described["metadata"].items()]


def _default_target(arguments: Namespace) -> str:
    source = getattr(arguments, "video", None) or getattr(arguments, "image", "clip")
    if arguments.command == "keyframes":
        source = _keyframe(arguments.pictures[0], 0).image
    return f"{Path(str(source)).stem}-{arguments.command}.mp4"


def _camera(arguments: Namespace) -> Any:
    from ..camera.camera import Camera

    settings = ("depth", "depth_kind", "depth_range", "field_of_view", "easing", "amount")
    return Camera(arguments.camera, **{name: getattr(arguments, name) for name in settings})


def _options(arguments: Namespace) -> dict[str, Any]:
    """The pipeline's keywords; what is None is the family's to fill in."""
    from ..pipeline.options import SHORT_NAMES
    from ..pipeline.sketches import read_places

    same = (
        "negative",
        "negative_image",
        "references",
        "reference_weights",
        "seed",
        "steps",
        "context_strength",
        "eta",
        "spacing",
        "fs",
        "motion_scale",
        "frames",
        "window",
        "overlap",
        "fuse",
        "closed_loop",
        "stride",
        "freenoise",
        "then",
        "fit",
        "fps",
        "start_step",
        "strength",
        "original",
        "mask",
        "strokes",
        "brush",
        "brush_to",
        "flow",
        "lock",
        "paste",
        "noise",
        "noise_path",
        "freeinit",
        "motion",
        "guidance_limits",
        "sketch_encoder",
        "sketch_plan",
        "speed",
    )
    width, height = arguments.size or (None, None)
    given = {SHORT_NAMES.get(name, name): getattr(arguments, name, None) for name in (*SHORT_NAMES, *same)}
    sketches = None if arguments.sketch is None else read_places(arguments.sketch)
    return {**given, "width": width, "height": height, "sketches": sketches}


COMMANDS: Mapping[str, Callable[[Namespace], int]] = {
    "animate": make_clip,
    "interpolate": make_clip,
    "keyframes": make_clip,
    "loop": make_clip,
    "extend": make_clip,
    "fly": make_clip,
    "generate": make_clip,
    "convert": convert,
    "merge": merge,
    "inspect": inspect,
}
