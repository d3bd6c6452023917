"""Several shots in one video: made from a script, or joined from clips."""

from typing import Any

from comfy_api.latest import InputImpl, io, ui

from ..dynamicrafter_core.errors import InputError
from ..dynamicrafter_core.film.script import parse_script
from ..dynamicrafter_core.media.colour import MATCHES
from .host import film, joining
from .host.feedback import refuse, show
from .host.shooting import Parts

EXAMPLE = """1 | the camera zooms in | 2 s | dissolve
2 | it gets dark | 2 s"""


class DynamiCrafterFilm(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterFilm",
            display_name="DynamiCrafter Film",
            category="DynamiCrafter/film",
            description="Makes a video of several shots from a script: one line per shot, with its picture, what "
            "happens, its length, and its transition to the next (cut, dissolve, continue, morph). Finished takes "
            "are kept: a cancelled film resumes where it stopped, and after a change only the affected takes are "
            "made again.",
            search_aliases=["storyboard", "story", "long video", "script", "shots", "chain", "extend video"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", display_name="model", tooltip="From Load DynamiCrafter, with or without LoRAs."
                ),
                io.Clip.Input("clip", display_name="clip", tooltip="From Load DynamiCrafter: reads the prompts."),
                io.ClipVision.Input(
                    "clip_vision", display_name="clip vision", tooltip="From Load DynamiCrafter: sees the pictures."
                ),
                io.Vae.Input("vae", display_name="vae", tooltip="From Load DynamiCrafter, or Stable Diffusion's."),
                io.String.Input(
                    "script",
                    display_name="script",
                    multiline=True,
                    default=EXAMPLE,
                    tooltip="One line per shot: picture | what happens | 2 s | transition. The picture is the number "
                    "of a connected image, a file in the input folder, or empty to continue from the previous shot. "
                    "JSON works too.",
                ),
                io.Image.Input(
                    "images",
                    display_name="images",
                    optional=True,
                    tooltip="The pictures 1, 2, 3, ... of the script, as one batch.",
                ),
                io.Int.Input(
                    "seed",
                    display_name="seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="For shots whose line gives no seed. Set it to fixed to keep the finished takes.",
                ),
                io.Int.Input(
                    "steps",
                    display_name="steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="For shots whose line gives no steps. 0: the model's published number (50; T2V-Turbo 4; "
                    "the embedded model 15).",
                ),
                io.Int.Input(
                    "width",
                    display_name="width",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Width of the video. 0 for width and height: the model's own size, portrait for a "
                    "portrait first picture.",
                ),
                io.Int.Input(
                    "height",
                    display_name="height",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Height of the video. 0 for width and height: the model's own size.",
                ),
                io.Boolean.Input(
                    "keep_takes",
                    display_name="keep takes",
                    default=True,
                    tooltip="Keeps finished takes in the folder dynamicrafter_takes in the output folder, even when "
                    "ComfyUI restarts. Delete that folder when the film is done. Off: takes are kept only until "
                    "ComfyUI restarts.",
                ),
                io.Model.Input(
                    "morph_model",
                    display_name="morph model",
                    optional=True,
                    tooltip="An interpolation model for the morph transition, if the main model is not one.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="IMAGE", tooltip="All frames of the film."),
                io.Video.Output("VIDEO", display_name="VIDEO", tooltip="The film, for Save Video."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, script: str | None = None) -> bool | str:
        """None: the script comes from another node, and is not known yet."""
        try:
            parse_script(EXAMPLE if script is None else script)
        except InputError as error:
            return refuse(cls, str(error))
        return True

    @classmethod
    def fingerprint_inputs(cls, script: str | None = None, **others: Any) -> str:
        return film.files_changed(script or "")

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        clip_vision: Any,
        vae: Any,
        script: str,
        seed: int,
        steps: int,
        width: int,
        height: int,
        keep_takes: bool,
        images: Any = None,
        morph_model: Any = None,
    ) -> io.NodeOutput:
        parts = Parts(model, clip, clip_vision, vae, morph_model)
        defaults = {"seed": seed, "steps": steps or None, "width": width or None, "height": height or None}
        planned = film.plan_film(parts, script, images, defaults)
        made_from = ("model", "clip", "clip_vision", "vae", "morph_model")
        hidden = getattr(cls, "hidden", None)
        origins = film.origins_of(getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None), made_from)
        frames, path = film.make_film(parts, planned, origins, keep_takes, lambda text: show(cls, text))
        preview = ui.PreviewVideo([ui.SavedResult(path.name, "", io.FolderType.temp)])
        return io.NodeOutput(frames, InputImpl.VideoFromFile(str(path)), ui=preview)


class DynamiCrafterJoin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterJoin",
            display_name="DynamiCrafter Join",
            category="DynamiCrafter/film",
            description="Joins clips into one, with a cut or a dissolve. Leaves out a frame that both sides of a "
            "join show, and can match the colours across it.",
            search_aliases=["concatenate", "append", "crossfade", "combine videos", "batch images"],
            inputs=[
                io.Image.Input("clip_1", display_name="first clip", tooltip="The first clip."),
                io.Image.Input("clip_2", display_name="second clip", tooltip="The next clip, of the same size."),
                io.Combo.Input(
                    "transition",
                    display_name="transition",
                    options=list(joining.TRANSITIONS),
                    default="cut",
                    tooltip="cut: one clip after the other. dissolve: one clip fades into the next.",
                ),
                io.Int.Input(
                    "dissolve_frames",
                    display_name="dissolve frames",
                    default=4,
                    min=1,
                    max=256,
                    tooltip="How many frames the two clips overlap in a dissolve.",
                ),
                io.Combo.Input(
                    "double_frame",
                    display_name="double frame",
                    options=list(joining.DOUBLES),
                    default="auto",
                    tooltip="Whether to leave out the first frame of a clip, because the previous clip ended with "
                    "it. auto: if both show the same moment; drop: always; keep: never.",
                ),
                io.Combo.Input(
                    "match",
                    display_name="match colours",
                    options=list(MATCHES),
                    default="off",
                    tooltip="joint: a clip starts with the brightness and contrast of the frame before it, and this "
                    "correction fades out over the clip. first: each clip is brought back to the colours of the very "
                    "first frame. off: no change.",
                ),
                *(
                    io.Image.Input(
                        f"clip_{number}",
                        display_name=f"{word} clip",
                        optional=True,
                        tooltip="Another clip, in order.",
                    )
                    for number, word in enumerate(("third", "fourth", "fifth", "sixth", "seventh", "eighth"), 3)
                ),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="IMAGE", tooltip="The joined clip.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip_1: Any,
        clip_2: Any,
        transition: str,
        dissolve_frames: int,
        double_frame: str,
        match: str,
        **further: Any,
    ) -> io.NodeOutput:
        clips = [clip_1, clip_2, *(further[name] for name in sorted(further) if further[name] is not None)]
        frames, said = joining.join(clips, dissolve_frames if transition == "dissolve" else 0, double_frame, match)
        show(cls, said)
        return io.NodeOutput(frames)
