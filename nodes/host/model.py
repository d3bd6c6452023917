"""A variant of the family as a native MODEL: what the host's samplers, LoRAs, merges and memory management work on."""

from typing import Any

import comfy.conds
import comfy.model_base
import comfy.supported_models
import torch
from comfy.model_base import ModelType
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.families import Family
from ...dynamicrafter_core.models.projector import Projector
from ...dynamicrafter_core.part_names import PREFIXES
from . import conditioning
from .conditioning import CONCAT, FRAMES, FS, GUIDANCE, IMAGE, MOTION_SCALE, STRENGTH
from .images import size_in_pixels
from .preview import ClipFormat
from .schedule import model_sampling
from .unet import BRANCHES, HostUNet

TEXT_WIDTHS = {
    768: "Stable Diffusion 1.x's CLIP-L",
    1280: "CLIP-G",
    2048: "SDXL's two CLIPs",
    4096: "T5",
}


class FamilyConfig(comfy.supported_models.SD20):
    """What the host asks of a model's config. It stands in no list of the host: our loader makes it itself.

    Text encoder, autoencoder and latents are Stable Diffusion 2's, and so are the names under which they are saved.
    """

    latent_format = ClipFormat
    unet_extra_config: dict[str, Any] = {}
    memory_usage_factor = 1.15  # measured: see test_memory_required_is_honest
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]

    def __init__(self, family: Family) -> None:
        super().__init__(
            {
                "figures": family.unet,
                "shared_tokens": family.image_tokens == "shared",
                "motion_share": family.motion_share,
            }
        )


class FamilyModel(comfy.model_base.BaseModel):
    def __init__(self, config: FamilyConfig, family: Family, projector: Projector | None, device: Any = None) -> None:
        kind = ModelType.V_PREDICTION if family.parameterization == "v" else ModelType.EPS
        super().__init__(config, kind, device=device, unet_model=HostUNet)
        self.family = family
        self.model_config.unet_config["model_channels"] = family.unet.model_channels  # the host's FreeU reads it
        self.model_sampling = model_sampling(family.schedule())
        # Only to be saved with the model: in a tuple it is no submodule, and its own patcher moves it.
        self.saved_beside = (projector,)

    def extra_conds(self, **kwargs: Any) -> dict[str, comfy.conds.CONDRegular]:
        """Conditions of one entry of CONDITIONING, checked: here a wrong wiring becomes a sentence."""
        noise, text = kwargs["noise"], kwargs.get("cross_attn")
        self.check_latent(noise)
        clips = conditioning.count_clips(noise.shape[0], kwargs.get(FRAMES))
        out: dict[str, comfy.conds.CONDRegular] = {FRAMES: conditioning.Frames(clips)}
        if text is not None:
            out["c_crossattn"] = conditioning.Text(self.check_text(text, clips), clips)
        tokens = self.check_image(kwargs.get(IMAGE), clips, kwargs.get("prompt_type", "positive"))
        if tokens is not None:
            out[IMAGE] = conditioning.ImageTokens(tokens, clips)
            out[STRENGTH] = conditioning.PerClip(torch.tensor([kwargs.get(STRENGTH, 1.0)]), clips)
        concat = self.check_concat(kwargs.get(CONCAT), noise, clips)
        if concat is not None:
            out["c_concat"] = comfy.conds.CONDNoiseShape(self.process_latent_in(concat).flatten(0, 1))
        if self.family.fs_default is not None:
            fs = kwargs.get(FS) or self.family.fs_default
            out[FS] = conditioning.PerClip(torch.tensor([fs], dtype=torch.long), clips)
        # As numbers: the host would round a tensor to the UNet's precision, and angles of thousands are made of them.
        if self.family.consistency:
            out[GUIDANCE] = comfy.conds.CONDConstant(float(kwargs.get(GUIDANCE, self.family.cfg)))
        if self.family.motion_scale is not None:
            out[MOTION_SCALE] = comfy.conds.CONDConstant(float(kwargs.get(MOTION_SCALE, self.family.motion_scale)))
        return out

    def check_latent(self, latent: Tensor) -> None:
        if latent.ndim != 4:
            raise InputError(
                f"The latent has {latent.ndim} dimensions {list(latent.shape)}; this model takes a video as a batch of "
                "frames, [frames, 4, height, width]: use DynamiCrafterVisualGuidance, or EmptyLatentImage with the "
                "frames as its batch_size."
            )
        factor, cell = self.family.unet.size_factor, self.family.autoencoder.size_factor
        height, width = latent.shape[2:]
        if height % factor or width % factor:
            raise InputError(
                f"A latent of {size_in_pixels(latent, cell)} pixels does not fit this model, whose sides must be "
                f"multiples of {cell * factor} pixels: DynamiCrafterVisualGuidance rounds them."
            )

    def check_text(self, text: Tensor, clips: int) -> Tensor:
        wanted = self.family.unet.context_dim
        if text.shape[-1] != wanted:
            made_by = f" ({TEXT_WIDTHS[text.shape[-1]]})" if text.shape[-1] in TEXT_WIDTHS else ""
            raise InputError(
                f"The prompt was encoded with {text.shape[-1]} values a token{made_by}, and {self.family.title} reads "
                f"{wanted}: use the CLIP of DynamiCrafterLoad, or CLIPLoader with Stable Diffusion 2.1's text encoder "
                "and type stable_diffusion."
            )
        return conditioning.rows_for_clips(text, clips, "prompts")

    def check_image(self, tokens: Tensor | None, clips: int, which: str) -> Tensor | None:
        if self.family.projector is None:
            if tokens is not None:
                raise InputError(
                    f"{self.family.title} makes videos from text alone and sees no image: remove "
                    "DynamiCrafterImageContext, or load an image-to-video variant."
                )
            return None
        if tokens is None:
            raise InputError(
                f"The {which} conditioning holds no image for {self.family.title}: pass it through "
                "DynamiCrafterImageContext before the sampler."
            )
        if tokens.shape[-1] != self.family.unet.context_dim:
            raise InputError(
                f"The image context has {tokens.shape[-1]} values a token, and {self.family.title} reads "
                f"{self.family.unet.context_dim}: give DynamiCrafterImageContext the same MODEL as the sampler."
            )
        return conditioning.rows_for_clips(tokens, clips, "images")

    def check_concat(self, concat: Tensor | None, noise: Tensor, clips: int) -> Tensor | None:
        if not self.family.concat:
            if concat is not None:
                raise InputError(
                    f"{self.family.title} has no channels for visual detail guidance: remove "
                    "DynamiCrafterVisualGuidance and connect EmptyLatentImage with the frames as its batch_size."
                )
            return None
        if concat is None:
            raise InputError(
                f"The conditioning holds no visual detail guidance for {self.family.title}: pass it through "
                "DynamiCrafterVisualGuidance before the sampler."
            )
        if concat.shape[-2:] != noise.shape[-2:]:
            sizes = [size_in_pixels(latent, self.family.autoencoder.size_factor) for latent in (noise, concat)]
            raise InputError(
                f"The latent is of {sizes[0]} pixels and the visual detail guidance of {sizes[1]}: connect the LATENT "
                "of the same DynamiCrafterVisualGuidance, or give both the same size."
            )
        return conditioning.rows_for_clips(concat, clips, "guiding images")

    def resize_cond_for_context_window(
        self, cond_key: str, cond_value: Any, window: Any, x_in: Tensor, device: Any, **kwargs: Any
    ) -> Any:
        """What belongs to the clip stays whole and is spread over the window's frames; frames are cut by the host."""
        if isinstance(cond_value, conditioning.Frames) and cond_value.cond > 1:
            raise InputError(
                f"Context windows run over one clip, and the latent holds {cond_value.cond}: sample the clips one by "
                "one, or remove the context windows."
            )
        return cond_value if isinstance(cond_value, conditioning.PerClip | conditioning.Frames) else None

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] = {},  # noqa: B006 (the host's signature)
        **kwargs: Any,
    ) -> Tensor:
        # Guidance branches begin with the same latent: what comes before the first text attention is computed once.
        branches = len(transformer_options.get("cond_or_uncond", [0]))
        fits = x.shape[0] % (branches * kwargs[FRAMES]) == 0
        if branches > 1 and fits and conditioning.same_rows(branches, x, t, c_concat, kwargs.get(FS)):
            kwargs[BRANCHES] = branches
        return super()._apply_model(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def state_dict_for_saving(self, unet_state_dict: dict[str, Tensor], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """A released file's keys: with the projector, and with the schedule by which variants are recognised."""
        saved = super().state_dict_for_saving(unet_state_dict, *args, **kwargs)
        saved.pop("v_pred", None)  # the host's mark for checkpoints it detects itself
        (projector,) = self.saved_beside
        if projector is not None:
            saved.update({PREFIXES["projector"] + key: value for key, value in projector.state_dict().items()})
        saved.update(self.family.schedule().registered_buffers())
        return saved
