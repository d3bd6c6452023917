"""ToonCrafter's sketch encoder as a control of the host: it travels in CONDITIONING, and the host loads it beside the model."""

from collections.abc import Callable
from copy import copy
from typing import Any

import comfy.controlnet
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor

from ...dynamicrafter_core.checkpoints.sketch_file import SketchFile, open_sketch_encoder
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.media.images import Fit
from ...dynamicrafter_core.models.layout import repeat_rows, to_volume
from ...dynamicrafter_core.pipeline.sketches import Drawings, SketchPlan, check_frames
from .conditioning import FAMILY, FRAMES, read, same_rows, take_clips
from .images import on_paper
from .model import FamilyModel
from .unet import host_attention

NODE = "DynamiCrafterSketch"


class SketchControl(comfy.controlnet.ControlBase):
    """Strength and span are the plan's, so that the library's numbers are the same; those of the base stay as they are."""

    def __init__(self, file: SketchFile, pictures: dict[int, Tensor], plan: SketchPlan, fit: Fit) -> None:
        super().__init__()
        self.file, self.pictures, self.plan, self.fit = file, pictures, plan, fit
        self.device = comfy.model_management.get_torch_device()
        offload_device = comfy.model_management.unet_offload_device()
        encoder = file.load(None, offload_device, comfy.ops.manual_cast, host_attention)
        self.encoder = comfy.model_patcher.CoreModelPatcher(encoder, self.device, offload_device)
        self.dtype = comfy.model_management.unet_manual_cast(file.dtype, self.device) or file.dtype
        self.sampling: Any = None
        self.known: Drawings | None = None  # of the size at hand

    def beside(self) -> "SketchControl":
        """The same drawings and encoder, to stand behind another control."""
        other = copy(self)
        other.multigpu_clones = {}
        return other

    def get_models(self) -> list[Any]:
        return [*super().get_models(), self.encoder]

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        super().pre_run(model, percent_to_timestep_function)
        if not isinstance(model, FamilyModel):
            raise InputError(
                f"{NODE} needs a MODEL of this pack at the sampler, and this one is a {type(model).__name__}: connect DynamiCrafterLoad "
                "or DynamiCrafterLoadParts, or remove the node."
            )
        self.file.check_fits(model.family.unet, model.family.autoencoder.size_factor)
        self.sampling = model.model_sampling

    def cleanup(self) -> None:
        super().cleanup()
        self.sampling, self.known = None, None

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, transformer_options: dict[str, Any]
    ) -> dict[str, list[Tensor]] | None:
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        frames, rows = cond[FRAMES], len(x_noisy)
        shared = rows % (batched_number * frames) == 0 and same_rows(batched_number, x_noisy, t)
        clips = rows // frames // (batched_number if shared else 1)
        x = to_volume(self.sampling.calculate_input(t, x_noisy)[: clips * frames].to(self.dtype), frames)
        made = self.drawings(x, transformer_options.get("context_window")).residuals(
            self.encoder.model,
            x,
            take_clips(self.sampling.timestep(t), frames)[:clips],
            take_clips(cond["c_crossattn"], frames),
            transformer_options,
        )
        if made is None:
            return before
        skips, middle = made
        control = {
            "input": [],
            "middle": [repeat_rows(middle, rows)],
            "output": [repeat_rows(skip, rows) for skip in skips],
        }
        return control if before is None else self.control_merge(control, before, output_dtype=None)

    def drawings(self, x: Tensor, window: Any) -> Drawings:
        """Those of the frames that x holds, which may be a context window of the host's."""
        total, factor = window.total_frames if window else x.shape[2], self.file.config.hint_factor
        height, width = (factor * side for side in x.shape[3:])
        if self.known is None or self.known.hint.shape[2:] != (total, height, width):
            places = check_frames(tuple(self.pictures), total)
            pictures = dict(zip(places, self.pictures.values(), strict=True))
            self.known = Drawings.of_frames(pictures, total, (width, height), self.fit, self.plan)
        return self.known.of(window.get_tensor(torch.arange(total)).tolist()) if window else self.known


def add_drawings(
    positive: list, negative: list, path: str, drawings: Tensor, frames: str, plan: SketchPlan, fit: Fit
) -> tuple[list, list, str]:
    """Both conditionings with the drawings, and what was made of the frames."""
    places = read_frames(frames, len(drawings))
    total = read(positive, FRAMES)
    if total is not None:
        places = check_frames(places, total)
    told = f"drawings at {', '.join(map(str, places))}" + ("" if total is None else f", of frames 0 to {total - 1}")
    if not plan.strength:
        return positive, negative, f"{told}; strength 0: not used"
    file = open_sketch_encoder(path)
    if family := read(positive, FAMILY):
        file.check_fits(family.unet, family.autoencoder.size_factor)
    control = SketchControl(file, dict(zip(places, on_paper(drawings, plan.paper), strict=True)), plan, fit)
    controls: dict[Any, SketchControl] = {}  # branches of the same control are computed in one batch
    return *(with_control(conditioning, control, controls) for conditioning in (positive, negative)), told


def with_control(conditioning: list, control: SketchControl, controls: dict[Any, SketchControl]) -> list:
    written = []
    for text, options in conditioning:
        before = options.get("control")
        if before not in controls:
            controls[before] = control if not controls else control.beside()
            controls[before].set_previous_controlnet(before)
        written.append([text, {**options, "control": controls[before], "control_apply_to_uncond": False}])
    return written


def read_frames(text: str, drawings: int) -> tuple[int, ...]:
    """ "5, 10" -> a frame for each drawing; no text: the first frames, one after another."""
    if not text.strip():
        return tuple(range(drawings))
    try:
        listed = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"frames is {text!r}; give whole numbers, such as 5, 10, one for each drawing.") from None
    if len(listed) != drawings:
        raise InputError(f"There are {drawings} drawings and {len(listed)} frames {list(listed)}: give one for each.")
    if len(set(listed)) < drawings:
        raise InputError(f"frames is {text!r} and names a frame twice: give each drawing a frame of its own.")
    return listed
