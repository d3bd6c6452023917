"""The 3D denoising UNet of VideoCrafter and DynamiCrafter.

    x (latent + concatenated image latent)                                     prediction
      |                                                                            ^
    conv, temporal attention                                                  norm, conv
      |                                                                            |
    level 0   [res, spatial, temporal] x n  ---- skips ---->  [res, spatial, temporal] x n+1
      down                                                                        up
    ...                                                                           ...
    level -1  [res] x n  ------>  middle: res, spatial, temporal, res  ------>  [res] x n+1

A res block is convolution over space, then over time; a spatial transformer lets the pixels of a frame see each other, the
text and the image tokens; a temporal transformer lets the frames of a pixel see each other. Module names are the released
checkpoints' names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .attention import Attend, attend
from .blocks import Downsample, Signals, Stage, Upsample, scale_sinusoid, sinusoid
from .hooks import NO_HOOKS, Hooks, control_hooks
from .layout import repeat_rows, to_frames, to_volume
from .resblock import ResBlock
from .transformers import SpatialTransformer, TemporalTransformer
from .unet_config import UNetConfig

Control = tuple[Sequence[Tensor], Tensor]
LARGE = 8192  # pixels of all frames; from here on a CPU is no faster with branches in one batch


class VideoUNet(nn.Module):
    def __init__(
        self,
        config: UNetConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
        attention: Attend = attend,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.model_channels
        embedding = 4 * width
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        parts: dict[str, Any] = {**make, "operations": operations}
        attends: dict[str, Any] = {
            **parts,
            "attention": attention,
            "head_channels": config.head_channels,
            "depth": config.depth,
            "groups": config.norm_groups,
        }

        def embed() -> nn.Sequential:
            first, second = operations.Linear(width, embedding, **make), operations.Linear(embedding, embedding, **make)
            return nn.Sequential(first, nn.SiLU(), second)

        def res(channels_in: int, channels_out: int) -> ResBlock:
            return ResBlock(
                channels_in,
                channels_out,
                embedding,
                temporal_conv=config.temporal_conv,
                groups=config.norm_groups,
                dropout=config.dropout,
                **parts,
            )

        def transformers(channels: int) -> list[nn.Module]:
            return [
                SpatialTransformer(
                    channels,
                    config.context_dim,
                    image=config.image_attention,
                    learnable=config.image_scale_learnable,
                    scale=config.image_scale,
                    **attends,
                ),
                temporal(channels, heads=channels // config.head_channels),
            ]

        def temporal(channels: int, heads: int, linear: bool = True) -> TemporalTransformer:
            over_time: dict[str, Any] = {"reach": config.relative_reach, "causal": config.causal}
            return TemporalTransformer(channels, heads=heads, linear=linear, **over_time, **attends)

        self.time_embed = embed()
        if config.fs_condition:
            self.fps_embedding = embed()
        if config.guidance_dim:
            self.time_cond_proj = operations.Linear(config.guidance_dim, width, bias=False, **make)
        if config.motion_dim:
            self.motion_cond_proj = operations.Linear(config.motion_dim, width, bias=False, **make)
            self.combine_proj = operations.Linear(2 * width, width, bias=False, **make)

        self.input_blocks = nn.ModuleList([Stage([operations.Conv2d(config.in_channels, width, 3, padding=1, **make)])])
        if config.init_attention:
            self.init_attn = Stage([temporal(width, heads=8, linear=False)])
        channels, skips = width, [width]
        levels = [width * mult for mult in config.channel_mult]
        for level, out in enumerate(levels):
            for _ in range(config.res_blocks):
                attended = transformers(out) if level in config.attention_levels else []
                self.input_blocks.append(Stage([res(channels, out), *attended]))
                channels = out
                skips.append(out)
            if level + 1 < len(levels):
                self.input_blocks.append(Stage([Downsample(out, **parts)]))
                skips.append(out)

        self.middle_block = Stage([res(channels, channels), *transformers(channels), res(channels, channels)])

        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(levels))):
            for index in range(config.res_blocks + 1):
                attended = transformers(out) if level in config.attention_levels else []
                stage = Stage([res(channels + skips.pop(), out), *attended])
                if level and index == config.res_blocks:
                    stage.append(Upsample(out, **parts))
                self.output_blocks.append(stage)
                channels = out

        self.out = nn.Sequential(
            operations.GroupNorm(config.norm_groups, width, eps=1e-5, **make),
            nn.SiLU(),
            operations.Conv2d(width, config.out_channels, 3, padding=1, **make),
        )
        self.places = frozenset(self._name_places())

    def _name_places(self) -> Iterator[str]:
        """Tells every attention its name, and lists the names that hooks may use."""
        stages: dict[str, Any] = {f"input {index}": stage for index, stage in enumerate(self.input_blocks)}
        stages["middle"] = self.middle_block
        stages.update({f"output {index}": stage for index, stage in enumerate(self.output_blocks)})
        yield from stages
        for name, stage in {**stages, "init": getattr(self, "init_attn", ())}.items():
            for layer in stage:
                if not isinstance(layer, SpatialTransformer | TemporalTransformer):
                    continue
                kind = "spatial" if isinstance(layer, SpatialTransformer) else "temporal"
                for index, block in enumerate(layer.transformer_blocks):
                    for which in ("attn1", "attn2"):
                        place = f"{name} {kind} {index} {which}"
                        getattr(block, which).place = place
                        yield place

    def embed(
        self,
        timesteps: Tensor,
        fs: Tensor | None,
        dtype: torch.dtype,
        guidance: Tensor | None = None,
        motion_scale: Tensor | None = None,
    ) -> Tensor:
        """Timestep, fs and scales as one vector a clip: b -> b e. fs enters as the bare integer the user gave."""
        width = self.config.model_channels
        time = sinusoid(timesteps, width).to(dtype)
        if guidance is not None:
            scales = self.time_cond_proj(scale_sinusoid(guidance, self.config.guidance_dim).to(dtype))
            if motion_scale is not None:
                motion = self.motion_cond_proj(scale_sinusoid(motion_scale, self.config.motion_dim).to(dtype))
                scales = self.combine_proj(torch.cat([scales, motion], dim=1))
            time = time + scales
        embedding = self.time_embed(time)
        if self.config.fs_condition:
            fs = torch.full_like(timesteps, self.config.default_fs) if fs is None else fs
            embedding = embedding + self.fps_embedding(sinusoid(fs, width).to(dtype))
        return embedding

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        image: Tensor | None = None,
        fs: Tensor | None = None,
        *,
        image_strength: float | Tensor = 1.0,
        guidance: Tensor | None = None,
        motion_scale: Tensor | None = None,
        control: Control | None = None,
        hooks: Hooks = NO_HOOKS,
        options: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """x [B,C,T,h,w], timesteps [B], text [K*B,L,D], image [K*B,T or 1,N,D], fs [B] -> [K*B,C,T,h,w].

        With K > 1, text and image hold K guidance branches of the same clips, branch after branch; what comes before the
        first look at the text is then computed once. `image_strength` multiplies lambda, the weight of the image tokens: one
        number, or [K*B]. `guidance` and `motion_scale` [B] are the scales that a distilled network (T2V-Turbo) is told.
        `control` holds residuals from a control network: one for each skip, and one for the middle. `hooks` are called
        while the network runs; with hooks that would see what the branches share, nothing is shared.
        """
        self._check(x, text, image)
        _check_scale("guidance", guidance, self.config.guidance_dim, x.shape[0])
        _check_scale("motion_scale", motion_scale, self.config.motion_dim, x.shape[0])
        hooks.check(self.places)
        if hooks.before_branches_part:
            x, timesteps = repeat_rows(x, text.shape[0]), repeat_rows(timesteps, text.shape[0])
            fs, guidance, motion_scale = (
                None if value is None else repeat_rows(value, text.shape[0]) for value in (fs, guidance, motion_scale)
            )
        if control is not None:
            hooks = control_hooks(*control).then(hooks)
        frames = x.shape[2]
        if isinstance(image_strength, Tensor):
            image_strength = image_strength.to(x).repeat_interleave(frames)[:, None, None]  # (k b t) 1 1
        signals = Signals(
            frames=frames,
            embedding=self.embed(timesteps, fs, x.dtype, guidance, motion_scale),
            text=text.to(x.dtype),
            image=None if image is None else image.to(x.dtype),
            image_strength=image_strength,
            hooks=hooks,
            options={} if options is None else options,
        )
        h = to_frames(x)
        if h.device.type == "cpu":  # its convolutions are fastest so, and every change of layout becomes a view
            h = h.contiguous(memory_format=torch.channels_last)
            if h.shape[0] * h.shape[2] * h.shape[3] >= LARGE and signals.rows > x.shape[0] and not (hooks or options):
                return torch.cat([self._run(h, branch) for branch in signals.split_branches()])
        return self._run(h, signals)

    def _run(self, h: Tensor, signals: Signals) -> Tensor:
        frames, hooks, levels = signals.frames, signals.hooks, len(self.input_blocks)
        inner = (
            0 if hooks.inner is None else int(hooks.inner.place.split()[1])
        )  # output blocks that a hook may leave out
        h, skips = self._down(h, [], signals, range(levels - inner))

        def deeper() -> Tensor:
            lowest, _ = self._down(h, skips, signals, range(levels - inner, levels))
            middle = hooks.after("middle", self.middle_block(lowest, signals), frames)
            return self._up(middle, skips, signals, range(inner))

        entering = hooks.around_inner(deeper, h.shape, frames)
        return to_volume(self.out(self._up(entering, skips, signals, range(inner, levels))), frames)

    def _down(self, h: Tensor, skips: list[Tensor], signals: Signals, indices: range) -> tuple[Tensor, list[Tensor]]:
        """What leaves these input blocks, and the skips with theirs."""
        frames, hooks = signals.frames, signals.hooks
        for index in indices:
            h = self.input_blocks[index](h, signals)
            if index == 0 and self.config.init_attention:
                h = self.init_attn(h, signals)
            h = hooks.after(f"input {index}", h, frames)
            skips.append(h)
            h = hooks.after_skip(f"input {index}", h, frames)
        return h, skips

    def _up(self, h: Tensor, skips: list[Tensor], signals: Signals, indices: range) -> Tensor:
        """What leaves these output blocks, each of which takes a skip off the list."""
        frames, hooks = signals.frames, signals.hooks
        for index in indices:
            skip = repeat_rows(skips.pop(), signals.rows * frames)
            h, skip = hooks.change_skip(f"output {index}", h, skip, frames)
            if hooks and skips:
                signals = replace(signals, upsampled=tuple(skips[-1].shape[2:]))
            h = hooks.after(f"output {index}", self.output_blocks[index](torch.cat([h, skip], dim=1), signals), frames)
        return h

    def _check(self, x: Tensor, text: Tensor, image: Tensor | None) -> None:
        config, factor = self.config, self.config.size_factor
        if x.ndim != 5 or x.shape[1] != config.in_channels:
            raise InputError(
                f"The UNet takes [batch, {config.in_channels}, frames, height, width], not {list(x.shape)}."
            )
        if x.shape[3] % factor or x.shape[4] % factor:
            raise InputError(f"A latent of {x.shape[4]}x{x.shape[3]} is not divisible by {factor} in width and height.")
        if text.ndim != 3 or text.shape[2] != config.context_dim or text.shape[0] % x.shape[0]:
            raise InputError(
                f"Text of shape {list(text.shape)} does not fit {x.shape[0]} clips of a UNet that reads [rows, tokens, "
                f"{config.context_dim}]: was it made by another text encoder?"
            )
        if image is not None and (image.shape[0] != text.shape[0] or image.shape[1] not in (1, x.shape[2])):
            raise InputError(
                f"Image tokens of shape {list(image.shape)} do not fit: {text.shape[0]} rows and {x.shape[2]} frames "
                "(or one set for all frames) are needed."
            )


def _check_scale(name: str, value: Tensor | None, dim: int, clips: int) -> None:
    if value is None and dim:
        raise InputError(f"This UNet takes {name} as an input, and it is missing; give {clips} numbers.")
    if value is not None and not dim:
        raise InputError(f"This UNet takes no {name}, unlike distilled ones (T2V-Turbo); leave it out.")
    if value is not None and (value.shape != (clips,) or not value.is_floating_point()):
        raise InputError(
            f"{name} is a {value.dtype} tensor of shape {list(value.shape)}; give a floating-point number for each of "
            f"the {clips} clips."
        )
