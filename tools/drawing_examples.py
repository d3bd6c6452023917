"""The example workflow of a motion brush and a stroke."""

from __future__ import annotations

from example_parts import ANIMATE, IMAGE_NOTE, SEED, draw, embedded_note, guide, load, picture, prompts, save, stitch
from graph import Graph

SIDE = 768  # of the example picture
CLOUD = (630, 40, 112)  # left, top and side of the brushed square
STROKE = "686,96 -> 686,240"


def motion_brush(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "")
    guided = guide(graph, loaded, image, texts, "animate")
    left, top, side = CLOUD
    black = graph.add("SolidMask", 1, title="Nothing", value=0.0, width=SIDE, height=SIDE)["MASK"]
    white = graph.add("SolidMask", 1, title="A square", value=1.0, width=side, height=side)["MASK"]
    brush = graph.add(
        "MaskComposite", 1, title="Brush", destination=black, source=white, x=left, y=top, operation="add"
    )["MASK"]
    drawn = draw(graph, loaded, guided, image, STROKE, brush=brush)
    clips = []
    for given in (
        {
            "model": loaded["MODEL"],
            "positive": guided["positive"],
            "negative": guided["negative"],
            "latent": guided["LATENT"],
        },
        {
            "model": drawn["MODEL"],
            "positive": drawn["positive"],
            "negative": drawn["negative"],
            "latent": drawn["LATENT"],
            "noise": drawn["NOISE"],
        },
    ):
        sampler = graph.add("DynamiCrafterSampler", 4, seed=SEED, **given)
        clips.append(graph.add("DynamiCrafterDecode", 4, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"])
    save(graph, stitch(graph, *clips, "right", "Without and with", 5), "motion_brush", 5)
    graph.note(
        f"""
The same noise twice, with an empty prompt: unchanged on the left; on the right the cloud sinks along a stroke and
everything that is not brushed stays still.

- **Strokes:** in pixels of the image, such as `{STROKE}`; more points make a bend, and each line is a stroke.
- **Brush:** here a square made of masks. Draw your own: right-click **Load Image**, *Open in MaskEditor*, and connect
  its MASK. Without a brush, a disc around the start of each stroke moves and nothing is held still; without a stroke,
  the model alone moves what is brushed.
- **until** is the share of the run in which the stroke leads the cloud.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "A motion brush",
        330,
    )
