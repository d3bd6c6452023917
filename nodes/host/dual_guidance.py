"""Guidance by image and by text as a GUIDER: what the paper calls multi-condition classifier-free guidance.

The third branch, the image without the text, is made of the other two: image of the positive, text of the negative. That works
because image tokens have their own key in the conditioning.
"""

from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...dynamicrafter_core.diffusion.curves import Curve
from ...dynamicrafter_core.diffusion.guidance import Guidance
from ...dynamicrafter_core.diffusion.guidance_plan import UNGUIDED, GuidancePlan
from ...dynamicrafter_core.diffusion.projection import Memory
from ...dynamicrafter_core.errors import InputError
from .conditioning import FRAMES
from .guidance_plan import share_of_run
from .images import size_in_pixels
from .schedule import family_sampling

# The host tells patches of attention a branch by its position: 0 is the conditional, 1 the unconditional.
ORDER = ("cond", "uncond", "image_only")


class FamilyGuider(comfy.samplers.CFGGuider):
    guidance = GuidancePlan(Curve.flat(1.0))
    memory: Memory = {}

    def set_guidance(self, guidance: GuidancePlan) -> None:
        self.guidance = guidance
        self.set_cfg(guidance.text.at(0))

    def guidance_at(self, sigma: Tensor) -> Guidance:
        """Where all steps have the same, no timestep is asked for, which a foreign noise schedule might not have."""
        return self.guidance.at(0 if self.guidance.constant else share_of_run(self.inner_model, sigma))

    def sample(self, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.memory = {}  # of this run
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
        finally:
            self.memory = {}

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        model_options, now = model_options or {}, self.guidance_at(timestep)
        conds = self.branches(now, model_options)
        denoised = self.run(now, conds, x, timestep, model_options)
        if replaced(now, model_options):
            out = self.apply_foreign_guidance(now, conds, denoised, x, timestep, model_options)
        else:
            out = self.combine(now, denoised, x, timestep)
        return self.after(now, out, conds, denoised, x, timestep, model_options)

    def branches(self, now: Guidance, model_options: dict[str, Any]) -> dict[str, list[dict]]:
        """The conditions of each branch that the guidance uses."""
        positive, negative = self.conds["positive"], self.conds["negative"]
        image_only = [
            with_text_of(entry, negative[min(index, len(negative) - 1)]) for index, entry in enumerate(positive)
        ]
        conds = {"uncond": negative, "image_only": image_only, "cond": positive}
        wanted = set(now.branches)
        if model_options.get("disable_cfg1_optimization") or replaced(now, model_options):
            wanted |= {"uncond", "cond"}
        return {name: conds[name] for name in ORDER if name in wanted}

    def run(
        self, now: Guidance, conds: dict[str, list[dict]], x: Tensor, timestep: Tensor, model_options: dict[str, Any]
    ) -> dict[str, Tensor]:
        listed = list(conds.values())
        if "sampler_calc_cond_batch_function" in model_options:
            given = {"conds": listed, "input": x, "sigma": timestep, "model": self.inner_model}
            out = model_options["sampler_calc_cond_batch_function"]({**given, "model_options": model_options})
        else:
            out = comfy.samplers.calc_cond_batch(self.inner_model, listed, x, timestep, model_options)
        denoised = dict(zip(conds, out, strict=True))
        for change in model_options.get("sampler_pre_cfg_function", []) if "cond" in denoised else []:
            # These expect the branches of single guidance, the conditional first, and know a step of it alone by the length.
            names = [name for name in ("cond", "uncond") if name in denoised]
            changed = change(
                {
                    "conds": [conds.get("cond"), conds.get("uncond")],
                    "conds_out": [denoised[name] for name in names],
                    "cond_scale": now.text_scale,
                    "timestep": timestep,
                    "input": x,
                    "sigma": timestep,
                    "model": self.inner_model,
                    "model_options": model_options,
                }
            )
            denoised.update(zip(names, changed, strict=False))
        return denoised

    def combine(self, now: Guidance, denoised: dict[str, Tensor], x: Tensor, timestep: Tensor) -> Tensor:
        if not (now.rescale or now.projection):  # linear, so the same in x0 as in what the network answers
            return now.combine(**branches_of(denoised))
        clips = self.conds["positive"][0]["model_conds"][FRAMES].cond

        def to_clips(rows: Tensor) -> Tensor:  # (b t) c h w -> b t c h w: both measure a whole clip
            return rows.unflatten(0, (clips, -1))

        projected = None
        if now.projection and len(denoised) > 1:
            clean = {name: to_clips(value) for name, value in branches_of(denoised).items()}
            projected = now.project(clean, self.memory).flatten(0, 1)
            if not now.rescale:
                return projected
        sampling = family_sampling(self.inner_model, "guidance_rescale")

        def output(value: Tensor) -> Tensor:
            return to_clips(sampling.network_output(timestep, value, x))

        if projected is not None:
            out = now.rescaled(output(projected), output(denoised["cond"]))
        else:
            out = now.combine(**branches_of({name: output(value) for name, value in denoised.items()}))
        return sampling.calculate_denoised(timestep, out.flatten(0, 1), x)

    def apply_foreign_guidance(
        self,
        now: Guidance,
        conds: dict,
        denoised: dict[str, Tensor],
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> Tensor:
        if now.rescale:
            raise InputError(
                "guidance_rescale is set, and a node on the MODEL (RescaleCFG or the like) replaces the guidance too: "
                "remove that node, or set guidance_rescale to 0."
            )
        if now.projection:
            raise InputError(
                "DynamiCrafterGuidance projects the guidance, and a node on the MODEL (RescaleCFG or the like) replaces it: remove "
                "that node, or set parallel part to 1, norm limit and momentum to 0."
            )
        base = "image_only" if "image_only" in denoised else "uncond"
        without_after = {**model_options, "sampler_post_cfg_function": []}
        out = comfy.samplers.cfg_function(
            self.inner_model,
            denoised["cond"],
            denoised[base],
            now.text_scale,
            x,
            timestep,
            model_options=without_after,
            cond=conds["cond"],
            uncond=conds[base],
        )
        if base == "uncond":
            return out
        image_scale = now.text_scale if now.image_scale is None else now.image_scale
        return out + (image_scale - 1) * (denoised["image_only"] - denoised["uncond"])

    def after(
        self,
        now: Guidance,
        out: Tensor,
        conds: dict,
        denoised: dict[str, Tensor],
        x: Tensor,
        timestep: Tensor,
        model_options: dict,
    ) -> Tensor:
        nothing = torch.zeros_like(x)  # what the host gives for a branch that it does not run
        for change in model_options.get("sampler_post_cfg_function", []):
            out = change(
                {
                    "denoised": out,
                    "cond": conds.get("cond"),
                    "uncond": conds.get("uncond"),
                    "cond_scale": now.text_scale,
                    "model": self.inner_model,
                    "uncond_denoised": denoised.get("uncond", nothing),
                    "cond_denoised": denoised.get("cond", nothing),
                    "sigma": timestep,
                    "model_options": model_options,
                    "input": x,
                }
            )
        return out


def replaced(now: Guidance, model_options: dict[str, Any]) -> bool:
    """Somebody else's guidance takes the text's part of ours, but in steps that are to have none."""
    return "sampler_cfg_function" in model_options and now is not UNGUIDED


def with_text_of(entry: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    text = other["model_conds"]["c_crossattn"]
    return {**entry, "model_conds": {**entry["model_conds"], "c_crossattn": text}}


def branches_of(branches: dict[str, Tensor]) -> dict[str, torch.Tensor]:
    return {name: branches[name] for name in ORDER if name in branches}
