"""What the example workflows are put together from: files, notes, and groups of nodes that many of them share."""

from __future__ import annotations

import json
from typing import Any

import hosts
from graph import Graph, Node, Output

EXAMPLE = "example.png"  # every ComfyUI has it in its input folder
HUB = "https://huggingface.co"
EMBEDDED = "embedded"
EMBEDDED_RECIPE = hosts.ROOT / "dynamicrafter_core" / "embedded" / "embedded.json"
EMBEDDED_FIGURES = json.loads(EMBEDDED_RECIPE.read_text(encoding="utf-8"))["figures"]
EMBEDDED_SIDE = EMBEDDED_FIGURES["width"]  # of its videos, which are square
FILES = {  # released files that the notes speak of -> where they are published
    "dynamicrafter_512.ckpt": "Doubiiu/DynamiCrafter_512",
    "dynamicrafter_512_interp.ckpt": "Doubiiu/DynamiCrafter_512_Interp",
    "videocrafter2_t2v_512.ckpt": "VideoCrafter/VideoCrafter2",
    "t2v_turbo_v2_mg.pt": "jiachenli-ucsb/T2V-Turbo-v2",
    "viewcrafter_25.ckpt": "Drexubery/ViewCrafter_25",
    "tooncrafter_512.ckpt": "Doubiiu/ToonCrafter",
    "sketch_encoder.ckpt": "Doubiiu/ToonCrafter",
}
ANIMATE, INTERPOLATE, GENERATE, TURBO, FLY, TOON, SKETCH = FILES
PUBLISHED = {
    TURBO: ("unet_mg.pt", "diffusion_models"),
    SKETCH: (SKETCH, "controlnet"),
}  # file name and folder, where not model.ckpt in checkpoints
LORA = "my_lora.safetensors"
SEED = 123

IMAGE_NOTE = "The picture is ComfyUI's own example; choose yours in **Load Image**."
DUSK_NOTE = "So that no other file is needed, the second picture is the first one, darkened: replace it with your own **Load Image**."
FLIP_NOTE = (
    "So that no other file is needed, the other pictures are the first one, flipped: replace each flip with your own "
    "**Load Image**."
)


def published(file: str) -> tuple[str, str]:
    """The file's name at its publisher, and the folder of models where it belongs."""
    return PUBLISHED.get(file, ("model.ckpt", "checkpoints"))


def file_note(file: str) -> str:
    name, folder = published(file)
    return f"`{name}` from [{FILES[file]}]({HUB}/{FILES[file]}), saved as `models/{folder}/{file}`"


def download(file: str) -> dict[str, str]:
    """What the page offers where the file is missing."""
    name, folder = published(file)
    return {"name": file, "url": f"{HUB}/{FILES[file]}/resolve/main/{name}", "directory": folder}


def embedded_note(checkpoint: str) -> str:
    return (
        f"It runs as it is: `embedded` is the small model that comes with the pack ({EMBEDDED_SIDE}x{EMBEDDED_SIDE} pixels; it pans, zooms, "
        f"darkens and brightens, and knows no other words). For real videos, use {file_note(checkpoint)}: choose it in **checkpoint** "
        "and describe in the prompt what should happen. Steps of 0 and guidance of -1 mean the chosen model's published values."
    )


def load(graph: Graph, checkpoint: str = EMBEDDED) -> Node:
    if checkpoint == EMBEDDED:
        return graph.add("DynamiCrafterLoad", 0, checkpoint=checkpoint)
    return graph.add("DynamiCrafterLoad", 0, checkpoint=checkpoint, models=[download(checkpoint)])


def write(graph: Graph, clip: Output, text: str, title: str, column: int = 1) -> Output:
    return graph.add("CLIPTextEncode", column, title=title, clip=clip, text=text)["CONDITIONING"]


def prompts(graph: Graph, clip: Output, text: str) -> tuple[Output, Output]:
    return write(graph, clip, text, "Prompt"), write(graph, clip, "", "Negative prompt")


def guide(
    graph: Graph, loaded: Node, image: Output, texts: tuple[Output, Output], mode: str, column: int = 2, **more: Any
) -> Node:
    """Image context and visual guidance, one below the other."""
    context = graph.add(
        "DynamiCrafterImageContext",
        column,
        model=loaded["MODEL"],
        clip_vision=loaded["CLIP_VISION"],
        image=image,
        positive=texts[0],
        negative=texts[1],
    )
    return graph.add(
        "DynamiCrafterVisualGuidance",
        column,
        positive=context["positive"],
        negative=context["negative"],
        vae=loaded["VAE"],
        image=image,
        mode=mode,
        **more,
    )


def draw(graph: Graph, loaded: Node, guided: Node, image: Output, strokes: str, **more: Any) -> Node:
    """Strokes, or a camera, between visual guidance and a sampler."""
    return graph.add(
        "DynamiCrafterStrokes",
        3,
        model=loaded["MODEL"],
        positive=guided["positive"],
        negative=guided["negative"],
        latent=guided["LATENT"],
        vae=loaded["VAE"],
        image=image,
        strokes=strokes,
        seed=SEED,
        **more,
    )


def sample(
    graph: Graph, loaded: Node, guided: Node, column: int = 3, model: Output | None = None, **more: Any
) -> Output:
    """`model`: the loaded one, changed by other nodes."""
    sampler = graph.add(
        "DynamiCrafterSampler",
        column,
        model=loaded["MODEL"] if model is None else model,
        positive=guided["positive"],
        negative=guided["negative"],
        latent=guided["LATENT"],
        seed=SEED,
        **more,
    )
    return graph.add("DynamiCrafterDecode", column, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"]


def save(graph: Graph, images: Output, name: str, column: int, fps: float = 8.0) -> None:
    video = graph.add("CreateVideo", column, images=images, fps=fps)["VIDEO"]
    graph.add("SaveVideo", column, video=video, filename_prefix=f"DynamiCrafter/{name}")


def picture(graph: Graph, title: str = "Image") -> Output:
    return graph.add("LoadImage", 0, title=title, image=EXAMPLE)["IMAGE"]


def dusk(graph: Graph, image: Output, title: str) -> Output:
    black = graph.add("EmptyImage", 0, title="Black", width=64, height=64)["IMAGE"]
    return graph.add("ImageBlend", 0, title=title, image1=image, image2=black, blend_factor=0.6)["IMAGE"]


def flip(graph: Graph, image: Output, title: str, how: str = "y-axis: horizontally") -> Output:
    return graph.add("ImageFlip", 0, title=title, image=image, flip_method=how)["IMAGE"]


def batch(graph: Graph, column: int, *images: Output, title: str = "") -> Output:
    given = {f"images.image{number}": image for number, image in enumerate(images)}
    return graph.add("BatchImagesNode", column, title=title, **given)["IMAGE"]


def stitch(graph: Graph, first: Output, second: Output, direction: str, title: str, column: int = 5) -> Output:
    return graph.add(
        "ImageStitch", column, title=title, image1=first, image2=second, direction=direction, match_image_size=False
    )["IMAGE"]
