"""Guidance by image and by text as a GUIDER: what the paper calls multi-condition classifier-free guidance.

The third branch, the image without the text, is made of the other two: image of the positive, text of the negative. That works
because image tokens have their own key in the conditioning.
"""

from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...dynamicrafter_core.diffusion.guidance import Guidance
from ...dynamicrafter_core.errors import InputError
from .conditioning import FRAMES
from .images import size_in_pixels
from .schedule import family_sampling

# The host tells patches of attention a branch by its position: 0 is the conditional, 1 the unconditional.
ORDER = ("cond", "uncond", "image_only")


class FamilyGuider(comfy.samplers.CFGGuider):
    guidance = Guidance(1.0)

    def set_guidance(self, guidance: Guidance) -> None:
        self.guidance = guidance
        self.set_cfg(guidance.text_scale)

    def sample(self, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return super().sample(noise, latent_image, *args, **kwargs)
        except Exception as error:
            if not comfy.model_management.is_oom(error):
                raise
            size = size_in_pixels(latent_image, self.model_patcher.model.family.autoencoder.size_factor)
            # The host frees its models on this type of error, so it stays what it is.
            raise comfy.model_management.OOM_EXCEPTION(
                f"There is not enough memory to sample {len(latent_image)} frames of {size} pixels: lower the width "
                "and height or the frames, choose an fp8 weight_dtype in the loader, or start ComfyUI with --lowvram."
            ) from error

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        model_options = model_options or {}
        conds = self.branches(model_options)
        denoised = self.run(conds, x, timestep, model_options)
        if "sampler_cfg_function" in model_options:  # somebody else's guidance takes the text's part of ours
            out = self.apply_foreign_guidance(conds, denoised, x, timestep, model_options)
        else:
            out = self.combine(denoised, x, timestep)
        return self.after(out, conds, denoised, x, timestep, model_options)

    def branches(self, model_options: dict[str, Any]) -> dict[str, list[dict]]:
        """The conditions of each branch that the guidance uses."""
        positive, negative = self.conds["positive"], self.conds["negative"]
        image_only = [
            with_text_of(entry, negative[min(index, len(negative) - 1)]) for index, entry in enumerate(positive)
        ]
        conds = {"uncond": negative, "image_only": image_only, "cond": positive}
        wanted = set(self.guidance.branches)
        if model_options.get("disable_cfg1_optimization") or "sampler_cfg_function" in model_options:
            wanted |= {"uncond", "cond"}
        return {name: conds[name] for name in ORDER if name in wanted}

    def run(
        self, conds: dict[str, list[dict]], x: Tensor, timestep: Tensor, model_options: dict[str, Any]
    ) -> dict[str, Tensor]:
        listed = list(conds.values())
        if "sampler_calc_cond_batch_function" in model_options:
            given = {"conds": listed, "input": x, "sigma": timestep, "model": self.inner_model}
            out = model_options["sampler_calc_cond_batch_function"]({**given, "model_options": model_options})
        else:
            out = comfy.samplers.calc_cond_batch(self.inner_model, listed, x, timestep, model_options)
        denoised = dict(zip(conds, out, strict=True))
        for change in model_options.get("sampler_pre_cfg_function", []):
            # These expect the branches of single guidance, the conditional first.
            pair = [denoised.get("cond"), denoised.get("uncond")]
            changed = change(
                {
                    "conds": [conds.get("cond"), conds.get("uncond")],
                    "conds_out": pair,
                    "cond_scale": self.guidance.text_scale,
                    "timestep": timestep,
                    "input": x,
                    "sigma": timestep,
                    "model": self.inner_model,
                    "model_options": model_options,
                }
            )
            denoised.update(
                {name: value for name, value in zip(("cond", "uncond"), changed, strict=False) if name in conds}
            )
        return denoised

    def combine(self, denoised: dict[str, Tensor], x: Tensor, timestep: Tensor) -> Tensor:
        if not self.guidance.rescale:  # linear, so the same in x0 as in what the network answers
            return self.guidance.combine(**branches_of(denoised))
        sampling = family_sampling(self.inner_model, "guidance_rescale")
        clips = self.conds["positive"][0]["model_conds"][FRAMES].cond

        def to_clips(rows: Tensor) -> Tensor:  # (b t) c h w -> b t c h w: the spread is measured over a whole clip
            return rows.unflatten(0, (clips, -1))

        outputs = {name: to_clips(sampling.network_output(timestep, value, x)) for name, value in denoised.items()}
        out = self.guidance.combine(**branches_of(outputs)).flatten(0, 1)
        return sampling.calculate_denoised(timestep, out, x)

    def apply_foreign_guidance(
        self, conds: dict, denoised: dict[str, Tensor], x: Tensor, timestep: Tensor, model_options: dict[str, Any]
    ) -> Tensor:
        if self.guidance.rescale:
            raise InputError(
                "guidance_rescale is set, and a node on the MODEL (RescaleCFG or the like) replaces the guidance too: "
                "remove that node, or set guidance_rescale to 0."
            )
        base = "image_only" if "image_only" in denoised else "uncond"
        without_after = {**model_options, "sampler_post_cfg_function": []}
        out = comfy.samplers.cfg_function(
            self.inner_model,
            denoised["cond"],
            denoised[base],
            self.guidance.text_scale,
            x,
            timestep,
            model_options=without_after,
            cond=conds["cond"],
            uncond=conds[base],
        )
        if base == "uncond":
            return out
        image_scale = self.guidance.image_scale if self.guidance.image_scale is not None else self.guidance.text_scale
        return out + (image_scale - 1) * (denoised["image_only"] - denoised["uncond"])

    def after(
        self, out: Tensor, conds: dict, denoised: dict[str, Tensor], x: Tensor, timestep: Tensor, model_options: dict
    ) -> Tensor:
        for change in model_options.get("sampler_post_cfg_function", []):
            out = change(
                {
                    "denoised": out,
                    "cond": conds.get("cond"),
                    "uncond": conds.get("uncond"),
                    "cond_scale": self.guidance.text_scale,
                    "model": self.inner_model,
                    "uncond_denoised": denoised.get("uncond"),
                    "cond_denoised": denoised.get("cond"),
                    "sigma": timestep,
                    "model_options": model_options,
                    "input": x,
                }
            )
        return out


def with_text_of(entry: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    text = other["model_conds"]["c_crossattn"]
    return {**entry, "model_conds": {**entry["model_conds"], "c_crossattn": text}}


def branches_of(branches: dict[str, Tensor]) -> dict[str, torch.Tensor]:
    return {name: branches[name] for name in ORDER if name in branches}
