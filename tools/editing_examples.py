"""The example workflows of editing: a clip made over, a small one made large, drawings between two pictures, and two models in one."""

from __future__ import annotations

from example_parts import (
    ANIMATE,
    DUSK_NOTE,
    EMBEDDED_SIDE,
    IMAGE_NOTE,
    INTERPOLATE,
    SEED,
    SKETCH,
    TOON,
    download,
    dusk,
    embedded_note,
    file_note,
    guide,
    load,
    picture,
    prompts,
    sample,
    save,
    stitch,
    write,
)
from graph import Graph, Node, Output


def first_frame(graph: Graph, clip: Output, column: int) -> Output:
    return graph.add("ImageFromBatch", column, title="First frame", image=clip)["IMAGE"]


def make_over(
    graph: Graph, loaded: Node, clip: Output, guided: Node, denoise: float, column: int, title: str = "Make over"
) -> Output:
    """The clip's own latents, noised to a part of the run, and denoised again."""
    latent = graph.add("VAEEncode", column, title="The clip as latents", pixels=clip, vae=loaded["VAE"])["LATENT"]
    sampler = graph.add(
        "DynamiCrafterSampler",
        column,
        title=title,
        model=loaded["MODEL"],
        positive=guided["positive"],
        negative=guided["negative"],
        latent=latent,
        seed=SEED + 1,
        denoise=denoise,
    )
    return graph.add("DynamiCrafterDecode", column, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"]


def video_to_video(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera pans left")
    clip = sample(graph, loaded, guide(graph, loaded, image, texts, "animate"))
    again = write(graph, loaded["CLIP"], "it gets dark", "Prompt of the new clip", 4)
    guided = guide(graph, loaded, first_frame(graph, clip, 4), (again, texts[1]), "animate", 5)
    new = make_over(graph, loaded, clip, guided, 0.8, 6)
    save(graph, stitch(graph, clip, new, "right", "Before and after", 7), "video_to_video", 7)
    graph.note(
        f"""
One video in, another out: it is encoded, noised according to the *denoise* of the second sampler, and denoised with a
new prompt. The original clip is on the left, the new one on the right.

- **Your own video:** replace the first sampler with **Load Video** and **Get Video Components**: 16 frames, at the size
  in **DynamiCrafter Visual Guidance** (multiples of 64 pixels).
- **denoise:** 0.3 keeps motion and picture and changes the surface; 0.8 keeps the rough motion; 1 is a new clip.
- **Another look:** change the first frame (with another image model, or by hand) before it goes to both conditioning
  nodes: its detail goes into every frame.

Limits: a 16-frame model sees 16 frames at once (for more, **DynamiCrafter Windows**). Guidance cannot hold what the
first frame does not show. *fs* should be the video's own frame rate, or motion is redrawn at another speed.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "Video to video",
        420,
    )


def refine_large(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera zooms in")
    small = sample(graph, loaded, guide(graph, loaded, image, texts, "animate"))
    large = graph.add("ImageScaleBy", 4, title="Twice the size", image=small, upscale_method="bicubic", scale_by=2.0)[
        "IMAGE"
    ]
    guided = guide(graph, loaded, image, texts, "animate", 5, width=2 * EMBEDDED_SIDE, height=2 * EMBEDDED_SIDE)
    save(graph, make_over(graph, loaded, large, guided, 0.4, 6, "Refine"), "refine_large", 7)
    graph.note(
        f"""
Small first, then large: the first sampler makes the motion at the model's own size, where it works best and costs a
quarter. The clip is scaled up, noised for a *denoise* of 0.4, and denoised at the large size, which adds the detail a
scaled picture lacks.

- **For real videos:** use a second **Load DynamiCrafter** with the 1024 model for the second half, and set *width* and
  *height* of the second **DynamiCrafter Visual Guidance** to 1024 and 576. The scaled clip must have that size:
  **Upscale Image** makes it exact.
- **denoise:** 0.2 to 0.5. More makes new motion, which falls apart at a size the model was not trained on.

Limits: at twice the side, a pass takes four times the work, and more than that in attention. Above its own size a model
repeats shapes, so the denoise stays low. The `embedded` model ({EMBEDDED_SIDE}x{EMBEDDED_SIDE}) at {2 * EMBEDDED_SIDE} shows only the principle.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "Refine at a larger size",
        420,
    )


def sketch_inbetween(graph: Graph) -> None:
    loaded = load(graph, TOON)
    first = picture(graph, "First image")
    last = dusk(graph, first, "Last image (the first, darkened)")
    edges = graph.add("Canny", 1, title="A drawing (edges of the first image)", image=first)["IMAGE"]
    texts = prompts(graph, loaded["CLIP"], "an anime scene")
    guided = guide(graph, loaded, first, texts, "interpolate", end_image=last)
    drawn = graph.add(
        "DynamiCrafterSketch",
        3,
        positive=guided["positive"],
        negative=guided["negative"],
        sketch_encoder=SKETCH,
        drawings=edges,
        frames="8",
        lines="light",
        models=[download(SKETCH)],
    )
    sampler = graph.add(
        "DynamiCrafterSampler",
        4,
        model=loaded["MODEL"],
        positive=drawn["positive"],
        negative=drawn["negative"],
        latent=guided["LATENT"],
        seed=SEED,
    )
    frames = graph.add("DynamiCrafterDecode", 4, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"]
    save(graph, frames, "sketch_inbetween", 5)
    graph.note(
        f"""
Two pictures, and a drawing of a frame between them: ToonCrafter draws the other frames and follows the lines at frame
8.

It needs {file_note(TOON)}, and the sketch encoder, {file_note(SKETCH)}.

- **Your own drawings:** replace **Canny** with **Load Image** and set *lines* to `dark` (dark lines on light paper).
  Batch several drawings, and write a frame for each in *frames*: `4, 8, 12`.
- **Closer or freer:** change *strength* (published: 0.6), or set *end* below 1 to leave the details to the model.
- {DUSK_NOTE}

Limits: 16 frames between two pictures, decoded as a whole. Lines must fit both pictures in size and style; a drawing
that contradicts them breaks the clip.
""",
        1,
        "In-between by a drawing",
        380,
    )


def merge_parts(graph: Graph) -> None:
    loaded = load(graph, INTERPOLATE)
    toon = graph.add("DynamiCrafterLoad", 0, title="Load ToonCrafter", checkpoint=TOON, models=[download(TOON)])
    merged = graph.add(
        "DynamiCrafterMergeParts", 1, first=loaded["MODEL"], second=toon["MODEL"], spatial=0.5, projector=0.5
    )["MODEL"]
    first = picture(graph, "First image")
    last = dusk(graph, first, "Last image (the first, darkened)")
    texts = prompts(graph, loaded["CLIP"], "evening falls")
    guided = guide(graph, loaded, first, texts, "interpolate", end_image=last)
    save(graph, sample(graph, loaded, guided, model=merged), "merge_parts", 4)
    graph.note(
        f"""
Half of ToonCrafter's spatial layers mixed into the interpolation model: a look between film and cartoon, with the
motion of the interpolation model. ToonCrafter was made from that model by training these layers and the projector, so
the two mix well.

It needs {file_note(INTERPOLATE)}, and {file_note(TOON)}.

- **spatial**: single frames, that is, style and content. **temporal**: motion. **projector**: how the image enters
  beside the prompt. 0 is the first model, 1 the second.
- **A style from elsewhere:** *second* may be a fine-tune of Stable Diffusion 2.1, from **Load Checkpoint** (*spatial*
  only).
- **Keep it:** **ModelSave** after the node writes the mixed model.

Limits: shares work between models with a common ancestor; half and half of two models that were trained separately may
work as neither. The VAE is the first model's, without ToonCrafter's decoder.

{DUSK_NOTE}
""",
        2,
        "Merge parts of two models",
        380,
    )
