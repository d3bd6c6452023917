"""Latents to frames."""

from typing import Any

from comfy_api.latest import io

from .host import decode


class DynamiCrafterDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterDecode",
            display_name="DynamiCrafter Decode",
            category="DynamiCrafter/latent",
            description="Decodes the frames in chunks that fit into memory. The last frame of a loop, which repeats "
            "the first, is dropped. ToonCrafter's VAE decodes the frames together, guided by the first and the last "
            "image. ComfyUI's own VAE Decode works too, without these two features.",
            search_aliases=["vae decode video", "tooncrafter decode"],
            inputs=[
                io.Vae.Input(
                    "vae",
                    display_name="vae",
                    tooltip="The one that encoded the images: from Load DynamiCrafter or Load VAE.",
                ),
                io.Latent.Input("latent", display_name="latent", tooltip="From a sampler."),
                io.Image.Input(
                    "references",
                    display_name="reference images",
                    optional=True,
                    tooltip="For ToonCrafter: the first and the last image. Not needed when the latent comes from "
                    "DynamiCrafter Visual Guidance, which passes them on.",
                ),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="IMAGE", tooltip="The frames, for Create Video.")],
        )

    @classmethod
    def execute(cls, vae: Any, latent: dict, references: Any = None) -> io.NodeOutput:
        return io.NodeOutput(decode.decode_latent(vae, latent, references))
