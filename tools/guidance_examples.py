"""The example workflow of guidance that changes over a run."""

from __future__ import annotations

from example_parts import ANIMATE, IMAGE_NOTE, embedded_note, guide, load, picture, prompts, sample, save, stitch
from graph import Graph

SCALE = 8.0  # too much for the embedded model, so that there is something to correct


def guidance_over_the_run(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera zooms in")
    guided = guide(graph, loaded, image, texts, "animate")
    ways = (
        ("Half of the run", {"end": 0.5}),
        ("A falling curve", {"text": f"0: {SCALE:g}, 1: 1"}),
        ("Projected", {"parallel": 0.0, "norm": 0.1, "momentum": -0.5}),
    )
    models = [
        graph.add("DynamiCrafterGuidance", 3, title=title, model=loaded["MODEL"], **given)["MODEL"]
        for title, given in ways
    ]
    more = {"cfg_text": SCALE, "guidance_rescale": 0.0}
    upper = [sample(graph, loaded, guided, 4, model, **more) for model in (None, models[0])]
    lower = [sample(graph, loaded, guided, 5, model, **more) for model in models[1:]]
    rows = [stitch(graph, *upper, "right", "Upper row", 6), stitch(graph, *lower, "right", "Lower row", 6)]
    save(graph, stitch(graph, *rows, "down", "Grid", 6), "guidance_over_the_run", 6)
    graph.note(
        f"""
The same noise four times at a text guidance of {SCALE:g}, which is too much for the embedded model. Top: unchanged, and
guided only in the first half of the run, which takes a quarter fewer passes. Bottom: a curve that falls to 1, and
projected guidance, which adds little contrast and colour.

{embedded_note(ANIMATE)} {IMAGE_NOTE}

**DynamiCrafter Guidance** goes between the loader and the sampler. The sampler shows how many passes it makes.
""",
        1,
        "Guidance over the run",
        330,
    )
