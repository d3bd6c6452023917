"""What one run is asked for: keywords in, every figure checked and filled in from the model's family.

A bad figure is refused here, before anything is loaded; what is merely unwise gets a warning.
"""

import difflib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..checks import check_integer, check_number
from ..diffusion.consistency import DISTILLED
from ..diffusion.curves import Curve
from ..diffusion.guidance_plan import GuidancePlan, Limits
from ..diffusion.noise import NoisePrior, check_signal, read_noise
from ..diffusion.reuse import EXACT, ReusePlan, Speed
from ..diffusion.sampling import executed_timesteps
from ..diffusion.schedule import SPACINGS, TIMESTEPS, Spacing
from ..diffusion.windows import Windows
from ..errors import InputError
from ..families import FAMILIES, FINE_TUNES, Family, Mode
from ..media.images import FITS, Fit, check_size
from ..models.motion import Motion
from ..strokes.asked import read_asked
from ..strokes.drawing import Strokes
from .conditions import stretch_of
from .options import Options
from .picture_settings import read_lock, read_picture_strengths, read_references
from .sketches import SketchPlan, check_sketches

MOST_FRAMES = 256
MOST_IN_WINDOWS = 100_000
DEFAULT_SEED = 123
# Options a distilled model does not take: guidance is one of its inputs, and it has its own timesteps.
_NOT_DISTILLED = (
    "negative",
    "eta",
    "spacing",
    "guidance_rescale",
    "guidance_limits",
    "start_step",
    "strength",
    "original",
    "mask",
    "lock",
    "freeinit",
    "strokes",
    "brush",
    "brush_to",
    "flow",
)


_TEXTS = ("negative", "noise", "noise_path", "motion", "guidance_limits", "strokes", "sketch_plan", "speed")


@dataclass(frozen=True)
class Settings:
    """One run's figures, complete. They travel inside the saved file."""

    mode: Mode
    prompt: str
    negative: str
    seed: int
    steps: int
    text_scale: Curve
    image_scale: Curve | None
    context_strength: float
    eta: float
    spacing: Spacing
    guidance_rescale: float
    fs: int | None
    motion_scale: float | None
    frames: int
    width: int
    height: int
    fit: Fit
    fps: float
    start_step: int
    strength: float
    noise: NoisePrior
    freeinit: int
    windows: Windows | None
    motion: Motion
    guidance_limits: Limits
    speed: Speed = EXACT
    then: tuple[str, ...] = ()
    lock: int | None = None
    paste: bool = False
    picture_strengths: tuple[float, ...] = (1.0,)
    reference_weights: tuple[float, ...] = ()
    sketched: tuple[int, ...] = ()  # frames with a drawing
    sketch_encoder: str | None = None
    sketch_plan: SketchPlan = SketchPlan()
    strokes: Strokes = Strokes()

    @property
    def guidance(self) -> GuidancePlan:
        return GuidancePlan(self.text_scale, self.image_scale, self.guidance_rescale, self.guidance_limits)

    @property
    def reuse(self) -> ReusePlan:
        """Of the steps of DDIM."""
        timesteps = executed_timesteps(self.steps, self.spacing, self.start_step, self.strength)
        return ReusePlan.of(self.speed, timesteps[::-1])

    def as_dict(self) -> dict[str, Any]:
        """As a saved file gives it back: tuples are lists."""
        image_scale = None if self.image_scale is None else self.image_scale.told()
        scales = {"text_scale": self.text_scale.told(), "image_scale": image_scale}
        return json.loads(json.dumps(asdict(self) | scales))


def settle(
    family: Family, mode: Mode, prompt: str, given: Mapping[str, Any], image_size: tuple[int, int] | None, multiple: int
) -> Settings:
    """The given figures (Options) over the family's, whose frame turns upright for an upright image (w, h)."""
    if unknown := set(given) - set(Options.__annotations__):
        name = min(unknown)
        close = difflib.get_close_matches(name, Options.__annotations__, n=1, cutoff=0.4)
        raise InputError(f"there is no option {name!r}{f'; the nearest is {close[0]}' if close else ''}.")
    check_mode(family, mode)
    for name, text in (
        ("prompt", prompt),
        *((name, given.get(name, "")) for name in _TEXTS),
    ):
        check_text(name, text)
    if family.consistency:
        _check_distilled(family, given)
    if "original" not in given and mode != "animate" and ("mask" in given or given.get("strength", 1) != 1):
        raise InputError(f"original is missing; to {mode} with a mask or a strength below 1, give frames to work on.")
    width, height = _size(family, given, image_size, multiple)
    windows = _windows(family, given)
    frames = _frames(family, mode, given, windows)
    return Settings(
        mode=mode,
        prompt=prompt,
        negative=given.get("negative", ""),
        seed=check_integer("seed", given.get("seed", DEFAULT_SEED), 0, 2**64 - 1),
        steps=check_integer(
            "steps", given.get("steps", family.steps), 1, DISTILLED if family.consistency else TIMESTEPS
        ),
        text_scale=_text_scale(family, given),
        image_scale=_image_scale(mode, given),
        context_strength=_context_strength(family, given),
        eta=check_number("eta", given.get("eta", family.eta), 0, 1),
        spacing=_choice("spacing", given.get("spacing", family.spacing), SPACINGS),
        guidance_rescale=check_number("guidance rescale", given.get("guidance_rescale", family.guidance_rescale), 0, 1),
        fs=_fs(family, given),
        motion_scale=_motion_scale(family, given),
        frames=frames,
        width=width,
        height=height,
        fit=_choice("fit", given.get("fit", "crop"), FITS),
        fps=check_number("fps", given.get("fps", family.save_fps), 0.1, 240),
        start_step=_start_step(family, given),
        strength=check_number("strength", given.get("strength", 1.0), 0, 1),
        noise=read_noise(given.get("noise", ""), given.get("noise_path", "")),
        freeinit=_freeinit(family, given),
        windows=windows,
        motion=_motion(family, given),
        guidance_limits=Limits.read(given.get("guidance_limits", "")),
        speed=_speed(family, given),
        then=_then(given, frames, windows),
        lock=read_lock(mode, given, frames),
        paste=bool(given.get("paste")),
        picture_strengths=read_picture_strengths(mode, given),
        reference_weights=read_references(family, given),
        sketched=check_sketches(given, frames),
        sketch_encoder=str(given["sketch_encoder"]) if "sketch_encoder" in given else None,
        sketch_plan=SketchPlan.read(given.get("sketch_plan", "")),
        strokes=read_asked(mode, given),
    )


def check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InputError(f"{name} is a {type(text).__name__}; give text, which may be empty.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start : error.end]
        raise InputError(
            f"{name} holds {half!r}, half of a character or a byte that is not UTF-8; give whole characters."
        ) from None


def check_mode(family: Family, mode: Mode) -> None:
    if mode in family.modes:
        return
    if mode == "fly" and family.concat and not family.autoencoder.dual_reference:
        _warn(
            f"{family.name} was not trained to follow a guide, as ViewCrafter was: what the guide leaves black may be "
            "lost."
        )
        return
    able = [name for name, other in (FINE_TUNES if mode == "fly" else FAMILIES).items() if mode in other.modes]
    raise InputError(
        f"{family.name} cannot {mode}: it was trained to {' and '.join(family.modes)}; the variants that can are "
        f"{', '.join(able)} (if the file is one of these, name its variant)."
    )


def _size(
    family: Family, given: Mapping[str, Any], image_size: tuple[int, int] | None, multiple: int
) -> tuple[int, int]:
    if ("width" in given) != ("height" in given):
        missing, there = ("height", "width") if "width" in given else ("width", "height")
        raise InputError(f"{there} is {given[there]!r} and {missing} is missing; give both, or neither.")
    if "width" in given:
        width, height = given["width"], given["height"]
    else:
        width, height = family.width, family.height
        if image_size is not None and (image_size[0] - image_size[1]) * (width - height) < 0:
            width, height = height, width
    check_size(width, height, multiple)
    return width, height


def _text_scale(family: Family, given: Mapping[str, Any]) -> Curve:
    scale = Curve.read("cfg (text scale)", given.get("text_scale", family.cfg), 0, 100)
    if family.consistency and not scale.constant:
        raise InputError(
            f"cfg (text scale) is the curve {scale.told()!r}, but {family.name} is distilled for one scale in all its steps; give a number."
        )
    return scale


def _image_scale(mode: Mode, given: Mapping[str, Any]) -> Curve | None:
    if "image_scale" not in given:
        return None
    if mode == "generate":
        raise InputError(
            f"cfg-image (image scale) is {given['image_scale']!r}, but this run has no image; leave it out."
        )
    return Curve.read("cfg-image (image scale)", given["image_scale"], 0, 100)


def _context_strength(family: Family, given: Mapping[str, Any]) -> float:
    if "context_strength" in given and not family.image_tokens:
        raise InputError(
            f"context strength is {given['context_strength']!r}, but {family.name} sees no image; leave it out."
        )
    return check_number("context strength", given.get("context_strength", 1.0), 0, 10)


def _fs(family: Family, given: Mapping[str, Any]) -> int | None:
    if family.fs_range is None:
        if "fs" in given:
            raise InputError(f"fs is {given['fs']!r}, but {family.name} is not conditioned on it; leave it out.")
        return None
    fs = check_integer("fs", given.get("fs", family.fs_default), 0, 1000)
    low, high = family.fs_range
    if not low <= fs <= high:
        _warn(
            f"fs {fs} is outside the {low} to {high} ({family.fs_meaning}) that {family.name} was made for; "
            f"{'larger' if family.fs_larger_moves_more else 'smaller'} values move more."
        )
    return fs


def _motion_scale(family: Family, given: Mapping[str, Any]) -> float | None:
    if family.motion_scale is None:
        if "motion_scale" in given:
            raise InputError(f"motion scale is {given['motion_scale']!r}, but {family.name} has none; leave it out.")
        return None
    return check_number("motion scale", given.get("motion_scale", family.motion_scale), 0, 100)


def _motion(family: Family, given: Mapping[str, Any]) -> Motion:
    motion = Motion.read(given.get("motion", ""))
    if not family.image_tokens and (motion.ends, motion.middle) != (1, 1):
        raise InputError(
            f"motion weights the image by part, but {family.name} sees no image; leave ends and middle out."
        )
    return motion


def _speed(family: Family, given: Mapping[str, Any]) -> Speed:
    speed = Speed.read(given.get("speed", ""))
    if family.consistency and speed != EXACT:
        raise InputError(
            f"speed is {given['speed']!r}, but {family.name} is distilled: each of its few steps changes a lot, and "
            "none can be reused; leave it out."
        )
    return speed


def _windows(family: Family, given: Mapping[str, Any]) -> Windows | None:
    if "window" not in given:
        for name in ("overlap", "fuse", "closed_loop", "stride", "freenoise", "then"):
            if name in given:
                raise InputError(
                    f"{name.replace('_', ' ')} is {given[name]!r} and window is missing; give both, or neither."
                )
        return None
    if family.autoencoder.dual_reference:
        raise InputError(
            f"window is given, but {family.name} decodes a clip as a whole, between its two ends; leave it out."
        )
    length = check_integer("window", given["window"], 2, 1024)
    return Windows(
        length,
        given.get("overlap", length // 4),
        given.get("fuse", "pyramid"),
        bool(given.get("closed_loop")),
        given.get("stride", 1),
        bool(given.get("freenoise")),
    )


def _then(given: Mapping[str, Any], frames: int, windows: Windows | None) -> tuple[str, ...]:
    prompts = given.get("then", ())
    several = isinstance(prompts, Sequence) and not isinstance(prompts, str)
    if not several or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError(f"then is {prompts!r}; give a list of prompts.")
    for prompt in prompts:
        check_text("then", prompt)
    if prompts and windows is not None:
        count = len(prompts) + 1
        if len({stretch_of(window, frames, count) for window in windows.places(frames)}) < count:
            raise InputError(
                f"{count} prompts share a clip of {frames} frames, and some of their stretches have no window of "
                f"{windows.length} frames; ask for more frames, fewer prompts, or a larger overlap."
            )
    return tuple(prompts)


def _freeinit(family: Family, given: Mapping[str, Any]) -> int:
    times = check_integer("freeinit", given.get("freeinit", 0), 0, 10)
    if times and ("original" in given or "mask" in given or given.get("strength", 1) != 1):
        raise InputError("freeinit makes a whole clip again; leave out original, mask and a strength below 1.")
    if times:
        check_signal(family.schedule(), _start_step(family, given))
    return times


def _start_step(family: Family, given: Mapping[str, Any]) -> int:
    return check_integer("start step", given.get("start_step", family.start_step), 1, TIMESTEPS)


def _check_distilled(family: Family, given: Mapping[str, Any]) -> None:
    for name in _NOT_DISTILLED:
        if name in given and not (name == "negative" and given[name] == ""):
            raise InputError(
                f"{name.replace('_', ' ')} is given, but {family.name} is distilled: in each of its few steps it sees the "
                "prompt alone, and it starts from noise; leave it out."
            )


def _frames(family: Family, mode: Mode, given: Mapping[str, Any], windows: Windows | None) -> int:
    fewest = {"interpolate": 2, "loop": 3}.get(mode, 1)  # a loop gives its last frame away
    most = MOST_FRAMES if windows is None else MOST_IN_WINDOWS
    frames = check_integer("frames", given.get("frames", family.frames), fewest, most)
    at_once = frames if windows is None else min(frames, windows.length)
    if at_once != family.frames:
        _warn(
            f"{at_once} frames are asked for, but {family.name} was trained at {family.frames} only: it does better "
            f"at {family.frames}, with surplus frames removed afterwards."
        )
    return frames


def _choice(name: str, value: Any, accepted: tuple[Any, ...]) -> Any:
    if value not in accepted:
        raise InputError(f"{name} is {value!r}; give {' or '.join(map(repr, accepted))}.")
    return value


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
