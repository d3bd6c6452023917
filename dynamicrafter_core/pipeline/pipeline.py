"""Image and prompt in, frames out: the whole way through a model, without ComfyUI.

    pipeline = Pipeline("dynamicrafter_512.ckpt")
    clip = pipeline.animate("photo.jpg", "a boat on the sea, waves")
    clip.save("boat.mp4")

    prompt -> text tower ----------------------.
    image  -> image tower -> projector ------- UNet, DDIM, guidance -> autoencoder -> frames
           `> autoencoder (encoder) -> latent -'

Random numbers come from one CPU generator, in this order: the posterior of the image's latent, the first noise, the
noise of every step. So a seed means the same on every device.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..camera.camera import Camera
from ..checkpoints.checkpoint import Checkpoint, load_checkpoint
from ..checkpoints.initial_noise import read_initial_noise
from ..checkpoints.sketch_file import open_sketch_encoder
from ..checks import check_integer
from ..devices import pick_device, pick_dtype, reused_memory
from ..diffusion.consistency import sample_consistency
from ..diffusion.guidance import guided
from ..diffusion.noise import reinitialise
from ..diffusion.reuse import keep_clip
from ..diffusion.sampling import analytic_noise, sample_ddim
from ..diffusion.schedule import TIMESTEPS
from ..diffusion.windows import shuffle_noise
from ..errors import InputError
from ..families import Family, Mode
from ..media.colour import Match, check_match, continue_colour
from ..media.images import fit_image, in_bytes, read_image
from ..models.sketch import SketchEncoder
from ..models.unet import VideoUNet
from .clip import Clip, about_run
from .conditions import Conditions, concat_latents, in_windows, run_branches, run_told, spread_strengths
from .decoding import check_latents, decode_clip
from .encoding import encode_given, encode_image, encode_original, encode_texts
from .given import Given, Kept, read_given
from .keyframes import Keyframe, fill
from .options import Options
from .progress import Stages
from .residency import Residency
from .settings import DEFAULT_SEED, MOST_FRAMES, MOST_IN_WINDOWS, Settings, check_mode, settle
from .source_frames import list_frames

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..media.images import ImageSource
    from .source_frames import FramesSource

MOST_KEPT = 4  # frames that a clip which goes on has from the one before
EMBEDDED = Path(__file__).parent.parent / "embedded"  # the folder of the model that comes with the package


def _embedded() -> Path:
    found = min(EMBEDDED.glob("*.safetensors"), default=None)
    if found is None:
        raise InputError("the embedded model is not part of this installation; give a checkpoint file instead.")
    return found


class Pipeline:
    def __init__(
        self,
        model: str | os.PathLike[str],
        variant: str | Family = "auto",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        extra: Sequence[str | os.PathLike[str]] = (),
        keep_loaded: bool | None = None,
        initial_noise: str | os.PathLike[str] | None = None,
    ) -> None:
        """Opens the files; nothing is loaded yet.

        model           a checkpoint file, or "embedded" for the small model that comes with this package
        variant         for files that do not tell what they are, or tell wrongly
        dtype           "fp32", "fp16" or "bf16" for the weights; "auto": fp32 on the CPU, half precision elsewhere
        extra           files with parts that the first lacks (pruned releases have no CLIP towers)
        keep_loaded     keep all parts on the device between stages and calls; None: if there is room
        initial_noise   an Analytic-Init file, for runs from a start step
        """
        self.device = pick_device(device)
        self.path = _embedded() if model == "embedded" else Path(model)
        self.checkpoint: Checkpoint = load_checkpoint(self.path, variant, extra)
        self.family: Family = self.checkpoint.family
        if missing := [part for part in self.family.configs if part not in self.checkpoint.parts]:
            raise InputError(
                f"{self.path} has no {' and no '.join(missing)} part, which {self.family.name} needs; give extra "
                "files that hold what is missing."
            )
        if self.checkpoint.detection.ambiguous:
            warnings.warn(
                f"{self.path.name} may be any of {', '.join(self.checkpoint.detection.candidates)}, and is loaded as "
                f"{self.family.name}; name the variant to choose.",
                stacklevel=2,
            )
        stored = self.checkpoint.sources["unet"].dtype("input_blocks.0.0.weight")
        self.dtype = pick_dtype(dtype, self.device, stored)
        self.parts = Residency(self.checkpoint, self.device, self.dtype, keep_loaded)
        if initial_noise is not None and self.family.consistency:
            raise InputError(f"{self.family.name} is distilled and starts from plain noise; leave initial_noise out.")
        self.initial_noise = None if initial_noise is None else read_initial_noise(initial_noise)

    def animate(self, image: "ImageSource", prompt: str = "", **options: "Unpack[Options]") -> Clip:
        """The image comes to life."""
        return self._run("animate", prompt, [image], options)

    def interpolate(
        self, first: "ImageSource", last: "ImageSource", prompt: str = "", **options: "Unpack[Options]"
    ) -> Clip:
        """From one image to the other."""
        return self._run("interpolate", prompt, [first, last], options)

    def loop(self, image: "ImageSource", prompt: str = "", **options: "Unpack[Options]") -> Clip:
        """From the image back to it: one frame fewer than asked for, so that the repetition does not stutter."""
        return self._run("loop", prompt, [image, image], options)

    def keyframes(
        self, keyframes: Sequence[Keyframe], prompts: str | Sequence[str] = "", **options: "Unpack[Options]"
    ) -> Clip:
        """Through pictures, each at its own frame: one prompt for all, or one for each way between two of them.

        `frames` is how many the model makes at once: 16, if nothing is said. The seed counts on from clip to clip.
        """
        if options.get("sketches") is not None:
            raise InputError(
                "sketches is given, and its frames belong to one clip; use interpolate to make the clip between two "
                "pictures."
            )
        most = check_integer("frames", options.pop("frames", None) or self.family.frames, 3, MOST_FRAMES)
        seed = options.pop("seed", None)
        seed = DEFAULT_SEED if seed is None else seed
        return fill(self.interpolate, keyframes, prompts, most, seed, dict(options))

    def fly(
        self,
        image: "ImageSource",
        guide: "Camera | FramesSource",
        prompt: str = "Rotating view of a scene",
        **options: "Unpack[Options]",
    ) -> Clip:
        """Through the image, along a guide (ViewCrafter): a view for each frame, black where nothing is known.

        The guide is a Camera, whose views of the image are drawn, or frames from elsewhere. Its first frame is the image.
        """
        if isinstance(guide, Camera):
            return self._run("fly", prompt, [image], options, guide)
        views = list_frames("guide", guide)
        frames = options.get("frames")
        return self._run("fly", prompt, [image], {**options, "frames": len(views) if frames is None else frames}, views)

    def extend(
        self,
        before: "Clip | FramesSource",
        prompt: str = "",
        *,
        keep: int = 1,
        image: "ImageSource | None" = None,
        match: Match | bool = "joint",
        **options: "Unpack[Options]",
    ) -> Clip:
        """What comes after a clip, without the frames that it had already: `frames - keep` of them.

        keep    frames of `before` that the network's clip begins with: 1, as the models were trained, or up to 4, which
                hand on more of the motion
        image   what the context shows, against drift over many clips; else the first frame of `before`
        match   colours: "joint" begins with the brightness and contrast of the frame before; "first" leads back to
                those of `image`, where the light is to stay as it is; "off" leaves them
        """
        match = check_match(match)
        given = list_frames("before", before.frames if isinstance(before, Clip) else before)
        keep = check_integer("keep", keep, 1, min(MOST_KEPT, len(given)))
        if taken := [name for name in ("original", "mask", "strength") if options.get(name) is not None]:
            raise InputError(f"{taken[0]} is given, but extending a clip sets its own; leave it out.")
        frames = options.get("frames") or self.family.frames
        check_integer("frames", frames, keep + 1, MOST_IN_WINDOWS)
        latents = None
        if isinstance(before, Clip):
            # Where colours are held, the frames as they are shown are what goes on.
            latents, (height, width) = None if match == "first" else before.latents, before.frames.shape[1:3]
            if options.get("width") is None and options.get("height") is None:
                options = {**options, "width": width, "height": height}
        kept = given[-keep:]
        asked = {**options, "frames": frames, "mask": [1.0] * keep + [0.0] * (frames - keep), "original": kept}
        shown = given[0] if image is None else image
        clip = self._run("animate", prompt, [shown], asked, kept=Kept(kept, latents))
        height, width = clip.frames.shape[1:3]
        last, picture = (
            in_bytes(fit_image(read_image(each), width, height, clip.settings["fit"])[None])[0]
            for each in (given[-1], shown)
        )
        new = continue_colour(clip.frames[keep:], match, last, picture)
        return replace(
            clip,
            frames=new,
            settings={**clip.settings, "keep": keep},
            latents=None if clip.latents is None else clip.latents[:, keep:],
        )

    def generate(self, prompt: str, **options: "Unpack[Options]") -> Clip:
        """From the prompt alone."""
        return self._run("generate", prompt, [], options)

    def __call__(
        self,
        image: "ImageSource | None" = None,
        prompt: str = "",
        *,
        last: "ImageSource | None" = None,
        **options: "Unpack[Options]",
    ) -> Clip:
        """Without an image generate; with a `last` one interpolate; else animate, or (interpolation models) loop."""
        if image is None:
            return self.generate(prompt, **options)
        if last is not None:
            return self.interpolate(image, last, prompt, **options)
        if "animate" not in self.family.modes and "loop" in self.family.modes:
            return self.loop(image, prompt, **options)
        return self.animate(image, prompt, **options)

    def release(self) -> None:
        """Take the model off the device; the next call loads it again."""
        self.parts.release()

    def _run(
        self,
        mode: Mode,
        prompt: str,
        sources: "Sequence[ImageSource]",
        options: Mapping[str, Any],
        guide: "Camera | Sequence[ImageSource] | None" = None,
        kept: Kept | None = None,
    ) -> Clip:
        check_mode(self.family, mode)
        options = {name: value for name, value in options.items() if value is not None}
        images = [read_image(source) for source in sources]
        size = (images[0].shape[2], images[0].shape[1]) if images else None
        settings = settle(self.family, mode, prompt, options, size, self.multiple)
        if settings.sketch_encoder is not None:
            config: Any = self.checkpoint.configs["unet"]
            open_sketch_encoder(settings.sketch_encoder).check_fits(config, self._latent_factor)
        given = read_given(settings, images, options, self._latent_factor, guide, kept)
        stages = Stages(self.device, options.get("on_progress"))
        try:
            with torch.inference_mode():
                frames, latents = self._make(settings, given, stages)
        finally:
            if not self.parts.keep:
                self.parts.release()
        # Cloned, for a tensor made in inference mode stays one, and may not be worked on.
        about = about_run(self.path, self.family.name, self.device, self.dtype, settings.as_dict())
        about |= {"camera": guide.motion} if isinstance(guide, Camera) else {}
        known = latents.float().cpu().clone()
        return Clip(frames.clone(), settings.fps, about, stages.seconds, known, stages.peak.highest)

    def _make(self, settings: Settings, given: Given, stages: Stages) -> tuple[Tensor, Tensor]:
        parts, family, frames = self.parts, self.family, settings.frames
        generator = torch.Generator().manual_seed(settings.seed)
        with stages("text"):
            text = encode_texts(parts, [settings.prompt, settings.negative, *settings.then])

        tokens = None
        if family.image_tokens:
            with stages("image"):
                more = given.negative, given.references, settings.reference_weights
                tokens = encode_image(parts, given.images[0], *more)

        start_from_image = given.original is None and (given.mask is not None or settings.strength < 1)
        concat, references, original = None, None, None if given.kept is None else given.kept.to(self.device)
        if original is not None:
            concat = concat_latents("animate", original[0, :, :1].transpose(0, 1), frames) if family.concat else None
        elif family.concat or start_from_image:
            with stages("encode"):
                latents, references = encode_given(parts, torch.stack(given.fitted), generator)
                concat = concat_latents(settings.mode, latents, frames) if family.concat else None
                original = concat_latents("animate", latents, frames) if start_from_image else None
        if given.original is not None and original is None:
            with stages("encode"):
                original = encode_original(parts, given.original)
        if original is not None and original.shape[2] < frames:
            original = torch.cat([original, original[:, :, -1:].expand(-1, -1, frames - original.shape[2], -1, -1)], 2)
        concat, original = given.follow(concat, original)
        later = text[2:] if settings.then else None
        shown_until = spread_strengths(settings.picture_strengths, frames)
        conditions = Conditions(
            text[:2], tokens, concat, settings.fs, settings.context_strength, later, shown_until, given.drawings
        ).to(parts.dtype)
        with stages("denoise", settings.steps) as report:
            latents = self._denoise(settings, conditions, generator, original, given, report)
        with stages("decode", frames) as report:
            pictures = parts.use("autoencoder", lambda coder: decode_clip(coder, latents, references, report))
        if settings.lock is not None and settings.paste:
            pictures[settings.lock] = in_bytes(given.fitted[0][None])[0]
        shown = len(pictures) - (settings.mode == "loop")
        return pictures[:shown], latents[0, :, :shown]

    def _denoise(
        self,
        settings: Settings,
        conditions: Conditions,
        generator: torch.Generator,
        original: Tensor | None,
        given: Given,
        report: Callable[[int, int], None],
    ) -> Tensor:
        schedule = self.family.schedule()
        config: Any = self.checkpoint.configs["unet"]
        factor = self._latent_factor
        shape = (1, config.out_channels, settings.frames, settings.height // factor, settings.width // factor)
        prior = given.prior(settings.noise)
        x = prior.apply(torch.randn(shape, generator=generator), generator).to(self.device)
        if settings.windows is not None and settings.windows.freenoise:
            x = shuffle_noise(x, settings.windows, settings.seed)
        noise = x
        if self.initial_noise is not None:
            x = analytic_noise(x, schedule, settings.start_step, *self.initial_noise)
        elif self.family.analytic_noise and settings.start_step < TIMESTEPS:
            warnings.warn(
                f"{self.family.name} was trained to start from analytic noise ({self.family.noise_published}); without "
                "such a file, given as initial_noise, it starts from plain noise.",
                stacklevel=2,
            )
        clip = settings.windows, conditions, settings.frames
        runs, step_noise = 1 + settings.freeinit, prior.of_steps(generator)

        def sample(unet: VideoUNet, x: Tensor, run: int, encoder: SketchEncoder | None) -> Tensor:
            def on_step(k: int, total: int, *_: Tensor) -> None:
                report(run * total + k + 1, runs * total)

            with reused_memory(self.device):
                if self.family.consistency:
                    told = in_windows(*clip, lambda part: run_told(unet, part, settings.motion, encoder))
                    return sample_consistency(
                        lambda *given: told(*given)[0],
                        x,
                        schedule,
                        settings.steps,
                        settings.text_scale.at(0),
                        settings.motion_scale,
                        self.family.motion_share,
                        step_noise,
                        on_step=on_step,
                        generator=generator,
                    )
                plan = settings.reuse
                branches = in_windows(*clip, lambda part: run_branches(unet, part, settings.motion, encoder, plan))
                return sample_ddim(
                    keep_clip(guided(branches, settings.guidance, schedule), schedule, plan),
                    x,
                    schedule,
                    settings.steps,
                    settings.spacing,
                    settings.eta,
                    step_noise,
                    start=settings.start_step,
                    strength=settings.strength,
                    original=original,
                    mask=given.mask,
                    **given.led,
                    generator=generator,
                    on_step=on_step,
                )

        def sample_all(unet: VideoUNet) -> Tensor:
            encoder = self.parts.sketch_encoder(settings.sketch_encoder) if settings.sketch_encoder else None
            latents = sample(unet, x, 0, encoder)
            for run in range(1, runs):
                fresh = torch.randn(shape, generator=generator).to(self.device)
                again = reinitialise(latents, noise, fresh, schedule, settings.start_step)
                latents = sample(unet, again, run, encoder)
            return latents

        latents = self.parts.use("unet", sample_all)
        check_latents(latents, self.dtype)
        return latents

    @property
    def _latent_factor(self) -> int:
        """Pixels along a side that one latent pixel covers."""
        config: Any = self.checkpoint.configs["autoencoder"]
        return config.size_factor

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a frame must be multiples of."""
        config: Any = self.checkpoint.configs["unet"]
        return config.size_factor * self._latent_factor
