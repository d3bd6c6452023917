"""The core's UNet behind the interface the host calls: frames as rows of the batch, wrappers, attention, ControlNets."""

from typing import Any

import comfy.ldm.modules.attention
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ...dynamicrafter_core.diffusion.consistency import motion_scale_at
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.layout import to_frames, to_volume
from ...dynamicrafter_core.models.unet import Control, VideoUNet
from ...dynamicrafter_core.models.unet_config import UNetConfig
from .conditioning import FRAMES, FS, GUIDANCE, IMAGE, MOTION_SCALE, STRENGTH, take_clips
from .patches import hooks_from
from .reuse_hooks import inner_hooks

MOST_FRAMES = 64  # in one pass; the models were trained with 16
BRANCHES = "dynamicrafter_branches"


def host_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, options: dict[str, Any] | None = None
) -> Tensor:
    # Scores overflow half precision in this family, as in Stable Diffusion 2, whose spatial layers these were.
    return comfy.ldm.modules.attention.optimized_attention(
        q, k, v, heads, mask=mask, attn_precision=torch.float32, transformer_options=options
    )


class HostUNet(VideoUNet):
    def __init__(
        self,
        figures: UNetConfig,
        shared_tokens: bool,
        motion_share: float,
        dtype: torch.dtype,
        device: Any,
        operations: Any,
    ) -> None:
        super().__init__(figures, dtype, device, operations, attention=host_attention)
        self.shared_tokens = shared_tokens  # all frames of a clip see the same image tokens
        self.motion_share = motion_share  # of the timesteps, in which the motion scale counts
        self.dtype = dtype
        self.in_channels = figures.out_channels  # the host's nodes mean the channels of the latent

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: dict[str, list] | None = None,
        transformer_options: dict[str, Any] = {},  # noqa: B006 (the host's own convention; never written to)
        **conditions: Any,
    ) -> Tensor:
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, control, transformer_options, **conditions)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: dict[str, list] | None,
        transformer_options: dict[str, Any],
        **conditions: Any,
    ) -> Tensor:
        frames = conditions[FRAMES]
        if frames > MOST_FRAMES:
            raise InputError(
                f"A clip of {frames} frames is more than the {MOST_FRAMES} this model makes in one pass: ask for "
                "fewer, or put DynamiCrafterWindows after the loader."
            )
        clips = x.shape[0] // frames // conditions.get(BRANCHES, 1)
        image = conditions.get(IMAGE)
        if image is not None:
            image = image.unflatten(0, (-1, frames))[:, : 1 if self.shared_tokens else frames]  # b t n d, or b 1 n d
        fs = conditions.get(FS)
        timesteps = take_clips(timesteps, frames)[:clips]
        scales = {}
        if GUIDANCE in conditions:
            scales["guidance"] = torch.full_like(timesteps, conditions[GUIDANCE], dtype=torch.float32)
        if MOTION_SCALE in conditions:
            scales["motion_scale"] = motion_scale_at(timesteps, conditions[MOTION_SCALE], self.motion_share)
        out = super().forward(
            to_volume(x[: clips * frames], frames),
            timesteps,
            take_clips(context, frames),
            image,
            None if fs is None else take_clips(fs, frames)[:clips],
            image_strength=take_clips(conditions[STRENGTH], frames) if STRENGTH in conditions else 1.0,
            control=None if control is None else self.residuals(control, x),
            hooks=hooks_from(transformer_options, self, x.shape, timesteps).then(
                inner_hooks(transformer_options, self, x)
            ),
            options=transformer_options,
            **scales,
        )
        return to_frames(out)

    def residuals(self, control: dict[str, list], x: Tensor) -> Control:
        """A host ControlNet's answer, one residual for each skip and one for the middle; None where it adds nothing."""
        skips, middle = control.get("output", []), control.get("middle", [])
        if any(residual is not None for residual in control.get("input", [])) or len(skips) > len(self.input_blocks):
            raise InputError(
                f"The control network adds to {len(skips)} skips and {len(control.get('input', []))} inputs; this UNet "
                f"takes ControlNets of Stable Diffusion 2 shape, which add to {len(self.input_blocks)} skips."
            )
        nothing = x.new_zeros(x.shape[0], 1, 1, 1)
        given = [*skips, *[None] * (len(self.input_blocks) - len(skips))]
        made = [nothing if residual is None else residual.to(x.dtype) for residual in (*given, *middle[-1:])]
        return made[: len(self.input_blocks)], made[-1] if middle else nothing
