"""How the model sees the image: as context with the text, and as detail with the noise."""

from typing import Any

from comfy_api.latest import io

from .host import image_context, visual_guidance
from .host.feedback import show


class DynamiCrafterImageContext(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterImageContext",
            display_name="DynamiCrafter Image Context",
            category="DynamiCrafter/conditioning",
            description="Tells the model what the image shows. CLIP sees the whole image, without cropping, and the "
            "model's projector turns it into tokens that go in beside the text. The negative gets the tokens of a "
            "mid-grey image, which stands for no image.",
            search_aliases=[
                "clip vision",
                "image prompt",
                "dynamicrafter image",
                "negative image",
                "reference images",
                "ip-adapter",
            ],
            inputs=[
                io.Model.Input(
                    "model", display_name="model", tooltip="From Load DynamiCrafter; its image projector is used."
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    display_name="clip vision",
                    tooltip="CLIP ViT-H: from Load DynamiCrafter or Load CLIP Vision.",
                ),
                io.Image.Input(
                    "image",
                    display_name="image",
                    tooltip="The image to animate. Each image in a batch becomes a clip.",
                ),
                io.Conditioning.Input(
                    "positive", display_name="positive", tooltip="What should happen, from CLIP Text Encode."
                ),
                io.Conditioning.Input(
                    "negative",
                    display_name="negative",
                    tooltip="What should not happen, or an empty prompt, from CLIP Text Encode.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    tooltip="The weight of the image relative to the text (lambda in the paper). Higher values keep "
                    "closer to the picture and move less; lower values move more and lose shape. The models were "
                    "trained with 1.",
                ),
                io.Image.Input(
                    "negative_image",
                    display_name="negative image",
                    optional=True,
                    tooltip="A picture of what the video should not look like: guidance steers away from it instead "
                    "of from mid-grey. One for all clips, or one per clip.",
                ),
                io.Image.Input(
                    "references",
                    display_name="references",
                    optional=True,
                    tooltip="More pictures for the context, one per image in the batch. Their tokens are mixed with "
                    "the image's. The detail in DynamiCrafter Visual Guidance still comes from the image alone.",
                ),
                io.String.Input(
                    "reference_weights",
                    display_name="reference weights",
                    default="1",
                    optional=True,
                    tooltip="The weight of each reference, relative to the image's weight of 1: one number for all, "
                    "or one per reference, such as 1, 0.5.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("out_positive", display_name="positive", tooltip="Text and image."),
                io.Conditioning.Output("out_negative", display_name="negative", tooltip="Text without the image."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip_vision: Any,
        image: Any,
        positive: list,
        negative: list,
        strength: float = 1.0,
        negative_image: Any = None,
        references: Any = None,
        reference_weights: str = "1",
    ) -> io.NodeOutput:
        more = negative_image, references, reference_weights
        return io.NodeOutput(*image_context.add_image(model, clip_vision, image, positive, negative, strength, *more))


class DynamiCrafterVisualGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterVisualGuidance",
            display_name="DynamiCrafter Visual Guidance",
            category="DynamiCrafter/conditioning",
            description="Gives the model the image in full detail (its latent goes in beside the noise of each "
            "frame) and creates the empty latent for the video. Animates one image, interpolates between two, or "
            "makes a loop.",
            search_aliases=["image to video", "interpolate", "loop", "keyframes", "dynamicrafter latent"],
            inputs=[
                io.Conditioning.Input("positive", display_name="positive", tooltip="From DynamiCrafter Image Context."),
                io.Conditioning.Input("negative", display_name="negative", tooltip="From DynamiCrafter Image Context."),
                io.Vae.Input("vae", display_name="vae", tooltip="From Load DynamiCrafter, or Stable Diffusion's."),
                io.Image.Input(
                    "image", display_name="image", tooltip="The first image. Each image in a batch becomes a clip."
                ),
                io.Combo.Input(
                    "mode",
                    display_name="mode",
                    options=list(visual_guidance.MODES),
                    default="animate",
                    tooltip="animate: the image guides every frame. interpolate: the image is the first frame, the "
                    "end image the last. loop: the image is both, and decoding drops the last frame. The last two "
                    "need an interpolation model.",
                ),
                io.Int.Input(
                    "width",
                    display_name="width",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Width of the video, rounded to a multiple of 64. 0: the model's own size, portrait for "
                    "a portrait image.",
                ),
                io.Int.Input(
                    "height",
                    display_name="height",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Height of the video, rounded to a multiple of 64. 0: the model's own size, or the one that matches the width.",
                ),
                io.Int.Input(
                    "frames",
                    display_name="frames",
                    default=16,
                    min=1,
                    max=1024,
                    tooltip="Frames per clip. The models were trained on 16; for more than 64, put DynamiCrafter "
                    "Windows after the loader.",
                ),
                io.Int.Input(
                    "fs",
                    display_name="motion (fs)",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="How fast things move. 0: the value in the loader, or the model's default. For the 512, "
                    "1024 and interpolation models it is frames per second, and smaller values move more; for the "
                    "256 model it is a frame stride, and larger values move more. The node shows what it means for "
                    "the loaded model.",
                ),
                io.Combo.Input(
                    "fit",
                    display_name="image fit",
                    options=list(visual_guidance.FITS),
                    default="crop",
                    tooltip="How an image of another shape is fitted to the video: crop its sides, pad it with grey, "
                    "or stretch it.",
                ),
                io.Image.Input(
                    "end_image",
                    display_name="end image",
                    optional=True,
                    tooltip="The last image, for mode interpolate: one for all clips, or one per clip.",
                ),
                io.Image.Input(
                    "keyframes",
                    display_name="keyframes",
                    optional=True,
                    tooltip="More images at chosen frames, for interpolation models: one image for each keyframe position.",
                ),
                io.String.Input(
                    "keyframe_positions",
                    display_name="keyframe positions",
                    default="",
                    optional=True,
                    tooltip="The frame number of each keyframe, counted from 0, such as 5, 10. Negative numbers "
                    "count from the end.",
                ),
                io.Image.Input(
                    "guide_video",
                    display_name="guide video",
                    optional=True,
                    tooltip="For ViewCrafter: what each frame should show, black where unknown, from DynamiCrafter "
                    "Camera Path or a point renderer. One image per frame; the first is replaced by the image.",
                ),
                io.Combo.Input(
                    "lock",
                    display_name="lock",
                    options=list(visual_guidance.LOCKS),
                    default="off",
                    optional=True,
                    tooltip="Fixes the image at one frame of the clip. off: the image only guides. latent: the frame "
                    "keeps the image's latent. picture: the same, and DynamiCrafter Decode puts the image itself "
                    "there, without the VAE's losses.",
                ),
                io.Int.Input(
                    "lock_frame",
                    display_name="lock frame",
                    default=0,
                    min=0,
                    max=1023,
                    optional=True,
                    tooltip="The frame to lock: 0 is the first. With a later one, the frames before it lead up to it.",
                ),
                io.String.Input(
                    "keyframe_strengths",
                    display_name="keyframe strengths",
                    default="",
                    optional=True,
                    tooltip="For what share of the run the model sees each keyframe, such as 1, 0.5. A single number "
                    "applies to all. Empty: the whole run.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("out_positive", display_name="positive", tooltip="With the image's detail."),
                io.Conditioning.Output("out_negative", display_name="negative", tooltip="With the image's detail."),
                io.Latent.Output(
                    "latent", display_name="LATENT", tooltip="Empty, with a row per frame, for the sampler."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        vae: Any,
        image: Any,
        mode: str,
        width: int,
        height: int,
        frames: int,
        fs: int,
        fit: str,
        end_image: Any = None,
        keyframes: Any = None,
        keyframe_positions: str = "",
        guide_video: Any = None,
        lock: str = "off",
        lock_frame: int = 0,
        keyframe_strengths: str = "",
    ) -> io.NodeOutput:
        plan = visual_guidance.Plan(mode, width, height, frames, fs, fit, lock, lock_frame)
        positions = visual_guidance.read_positions(keyframe_positions, frames)
        made = visual_guidance.add_detail(
            plan,
            positive,
            negative,
            vae,
            image,
            end_image,
            keyframes,
            positions,
            guide_video,
            visual_guidance.read_strengths(keyframe_strengths, len(positions)),
        )
        show(cls, "\n".join(made.notes))
        return io.NodeOutput(made.positive, made.negative, made.latent)
