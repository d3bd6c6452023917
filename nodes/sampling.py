"""Noise to video: in one node, or in the pieces that SamplerCustomAdvanced takes."""

from typing import Any

from comfy_api.latest import io

from .host import files, sampler_settings, sampling_run
from .host.feedback import refuse, show
from .host.sampling_run import published_sampler

CFG_TEXT = {
    "default": -1.0,
    "min": -1.0,
    "max": 30.0,
    "step": 0.1,
    "tooltip": "How strictly the video follows the prompt. -1: the model's own value (7.5 for DynamiCrafter, ToonCrafter and T2V-Turbo, "
    "12 for VideoCrafter, 2 for the embedded model).",
}
CFG_IMAGE = {
    "default": -1.0,
    "min": -1.0,
    "max": 30.0,
    "step": 0.1,
    "tooltip": "How strictly the video follows the image. -1: the same as text guidance, which is the usual single "
    "guidance and needs one pass fewer. Higher values stay closer to the image and move less.",
}
RESCALE = {
    "default": -1.0,
    "min": -1.0,
    "max": 1.0,
    "step": 0.05,
    "tooltip": "Reduces the excess contrast that guidance causes. -1: the model's own value (0.7 for the 512 and 1024 "
    "models, 0 for the 256 model and VideoCrafter).",
}
ETA = {
    "default": 1.0,
    "min": 0.0,
    "max": 1.0,
    "step": 0.05,
    "tooltip": "How much fresh noise each step adds: 1 as in the published models, 0 for none.",
}
STEPS = {
    "default": 0,
    "min": 0,
    "max": 1000,
    "tooltip": "More steps take longer and give finer detail; 25 is often enough. 0: the model's published number "
    "(50; T2V-Turbo 4; the embedded model 15).",
}
SPACING = {
    "options": list(sampler_settings.SPACINGS),
    "default": "auto",
    "tooltip": "Which timesteps are used. 'auto': the model's own, uniform_trailing for the 512 and 1024 models, "
    "uniform for the others (which may take one step more than asked for; the node shows the actual count).",
}
DENOISE = {
    "default": 1.0,
    "min": 0.0,
    "max": 1.0,
    "step": 0.01,
    "tooltip": "Below 1, sampling starts from the given latent with this much noise added, instead of from noise alone.",
}
START_STEP = {
    "default": 0,
    "min": 0,
    "max": 1000,
    "optional": True,
    "tooltip": "A value below 1000 skips the noisiest timesteps, in which these models stick too closely to the image: 940 gives more "
    "motion in DynamiCrafter 512 and 1024. 0: the model's own (940 for VideoCrafter1's CIL fine-tune, 1000 for the others).",
}


MOTION_SCALE = {
    "default": -1.0,
    "min": -1.0,
    "max": 10.0,
    "step": 0.01,
    "optional": True,
    "tooltip": "Only for T2V-Turbo-v2: how much the video moves; it applies in the first half of the steps. -1: the "
    "model's own value, 0.05.",
}


class DynamiCrafterSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterSampler",
            display_name="DynamiCrafter Sampler",
            category="DynamiCrafter/sampling",
            description="The sampler the models were published with: DDIM, guided by text and image separately. It "
            "builds the third branch this needs (the image without the text) itself. T2V-Turbo gets its consistency "
            "sampler: a few steps of one pass each.",
            search_aliases=["dual cfg", "ddim", "dynamicrafter ksampler", "multi condition guidance"],
            inputs=[
                io.Model.Input(
                    "model", display_name="model", tooltip="From Load DynamiCrafter, with or without LoRAs."
                ),
                io.Conditioning.Input(
                    "positive", display_name="positive", tooltip="Text, image and detail of what should happen."
                ),
                io.Conditioning.Input("negative", display_name="negative", tooltip="Text of what should not happen."),
                io.Latent.Input(
                    "latent",
                    display_name="latent",
                    tooltip="From DynamiCrafter Visual Guidance, or Empty Latent Image for text alone.",
                ),
                io.Int.Input(
                    "seed",
                    display_name="seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same frames.",
                ),
                io.Int.Input("steps", display_name="steps", **STEPS),
                io.Float.Input("cfg_text", display_name="text guidance", **CFG_TEXT),
                io.Float.Input("cfg_image", display_name="image guidance", **CFG_IMAGE),
                io.Float.Input("eta", display_name="fresh noise (eta)", **ETA),
                io.Combo.Input("spacing", display_name="timestep spacing", **SPACING),
                io.Float.Input("guidance_rescale", display_name="guidance rescale", **RESCALE),
                io.Float.Input("denoise", display_name="denoise", **DENOISE),
                io.Mask.Input(
                    "mask",
                    display_name="mask",
                    optional=True,
                    tooltip="White areas are generated, black areas keep the latent. One mask for all frames, or one "
                    "per frame.",
                ),
                io.Int.Input("start_step", display_name="start step", **START_STEP),
                io.Combo.Input(
                    "initial_noise",
                    display_name="initial noise",
                    options=files.noises(),
                    default=files.NONE,
                    optional=True,
                    tooltip="A file in models/checkpoints or models/diffusion_models with the mean and variance of "
                    "the training videos (Analytic-Init), for runs from a start step below 1000; made for one size "
                    "and 16 frames.",
                ),
                io.Float.Input("motion_scale", display_name="motion guidance", **MOTION_SCALE),
                io.Noise.Input(
                    "noise",
                    display_name="noise",
                    optional=True,
                    tooltip="From DynamiCrafter Noise or DynamiCrafter FreeInit: the noise the clip starts from, in "
                    "place of the seed's own. Frames share the fresh noise of each step in the same way.",
                ),
            ],
            outputs=[
                io.Latent.Output("out_latent", display_name="LATENT", tooltip="The video, for DynamiCrafter Decode.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, initial_noise: str = files.NONE) -> bool | str:
        return True if initial_noise in files.noises() else refuse(cls, files.missing_noise(initial_noise))

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg_text: float,
        cfg_image: float,
        eta: float,
        spacing: str,
        guidance_rescale: float,
        denoise: float,
        mask: Any = None,
        start_step: int = 0,
        initial_noise: str = files.NONE,
        motion_scale: float = -1.0,
        noise: Any = None,
    ) -> io.NodeOutput:
        guider = sampler_settings.make_guider(
            model, positive, negative, cfg_text, cfg_image, guidance_rescale, motion_scale
        )
        sigmas = sampler_settings.make_sigmas(model, steps, spacing, denoise, start_step)
        drawn = sampler_settings.make_noise(
            model, positive, latent, seed, sigmas, denoise, start_step, initial_noise, mask, noise
        )
        show(cls, sampler_settings.describe(model, guider, sigmas, start_step, initial_noise))
        sampler = published_sampler(eta, getattr(noise, "share", None))
        return io.NodeOutput(sampling_run.sample(guider, sampler, sigmas, latent, drawn, seed, mask))


class DynamiCrafterGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterGuider",
            display_name="DynamiCrafter Guider",
            category="DynamiCrafter/sampling",
            description="Guidance by text and by image, for Sampler Custom Advanced and any ComfyUI sampler.",
            search_aliases=["dual cfg guider", "image guidance"],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Conditioning.Input(
                    "positive", display_name="positive", tooltip="Text, image and detail of what should happen."
                ),
                io.Conditioning.Input("negative", display_name="negative", tooltip="Text of what should not happen."),
                io.Float.Input("cfg_text", display_name="text guidance", **CFG_TEXT),
                io.Float.Input("cfg_image", display_name="image guidance", **CFG_IMAGE),
                io.Float.Input("guidance_rescale", display_name="guidance rescale", **RESCALE),
                io.Float.Input("motion_scale", display_name="motion guidance", **MOTION_SCALE),
            ],
            outputs=[io.Guider.Output("GUIDER", display_name="GUIDER", tooltip="For Sampler Custom Advanced.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        cfg_text: float,
        cfg_image: float,
        guidance_rescale: float,
        motion_scale: float = -1.0,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            sampler_settings.make_guider(model, positive, negative, cfg_text, cfg_image, guidance_rescale, motion_scale)
        )


class DynamiCrafterDDIM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterDDIM",
            display_name="DynamiCrafter DDIM",
            category="DynamiCrafter/sampling",
            description="The DDIM sampler the models were published with, exact to the last step, for Sampler Custom "
            "Advanced. With T2V-Turbo it is the consistency sampler.",
            search_aliases=["ddim sampler", "eta"],
            inputs=[io.Float.Input("eta", display_name="fresh noise (eta)", **ETA)],
            outputs=[io.Sampler.Output("SAMPLER", display_name="SAMPLER", tooltip="For Sampler Custom Advanced.")],
        )

    @classmethod
    def execute(cls, eta: float) -> io.NodeOutput:
        return io.NodeOutput(published_sampler(eta))


class DynamiCrafterSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterSchedule",
            display_name="DynamiCrafter Schedule",
            category="DynamiCrafter/sampling",
            description="The timesteps of the published models as sigmas, for Sampler Custom Advanced.",
            search_aliases=["sigmas", "uniform trailing", "timesteps"],
            inputs=[
                io.Model.Input(
                    "model",
                    display_name="model",
                    tooltip="From Load DynamiCrafter: its noise schedule gives the sigmas.",
                ),
                io.Int.Input("steps", display_name="steps", **STEPS),
                io.Combo.Input("spacing", display_name="timestep spacing", **SPACING),
                io.Float.Input("denoise", display_name="denoise", **DENOISE),
                io.Int.Input("start_step", display_name="start step", **START_STEP),
            ],
            outputs=[io.Sigmas.Output("SIGMAS", display_name="SIGMAS", tooltip="For Sampler Custom Advanced.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, steps: int, spacing: str, denoise: float, start_step: int = 0) -> io.NodeOutput:
        sigmas = sampler_settings.make_sigmas(model, steps, spacing, denoise, start_step)
        show(cls, f"{max(0, len(sigmas) - 1)} steps")
        return io.NodeOutput(sigmas)
