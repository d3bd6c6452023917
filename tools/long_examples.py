"""The example workflows of more than one clip's length."""

from __future__ import annotations

from example_parts import (
    ANIMATE,
    DUSK_NOTE,
    IMAGE_NOTE,
    INTERPOLATE,
    batch,
    dusk,
    embedded_note,
    guide,
    load,
    picture,
    prompts,
    sample,
    save,
    write,
)
from graph import Graph, Output


def long_video(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    first = write(graph, loaded["CLIP"], "the camera zooms in", "Prompt 1")
    second = write(graph, loaded["CLIP"], "the camera pans left", "Prompt 2")
    negative = write(graph, loaded["CLIP"], "", "Negative prompt")
    both = graph.add("ConditioningCombine", 1, title="One after the other", conditioning_1=first, conditioning_2=second)
    guided = guide(graph, loaded, image, (both["CONDITIONING"], negative), "animate", frames=40)
    windows = graph.add("DynamiCrafterWindows", 2, model=loaded["MODEL"])["MODEL"]
    save(graph, sample(graph, loaded, guided, model=windows), "long_video", 4)
    graph.note(
        f"""
40 frames of a model that makes 16 at once. **DynamiCrafter Windows** lets it see one window of the clip after another, and averages them where they
overlap, in every step. The memory stays that of 16 frames.

- **Longer:** raise *frames* in **DynamiCrafter Visual Guidance**; the time grows alike.
- **Prompts one after the other:** each combined prompt leads its stretch of the clip. One prompt alone leads all of it.
- **Steadier:** more *overlap*, or *stride* 2 with *frames* 32 or more; *shuffled noise* gives all windows the same noise.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "A long video",
        330,
    )


def endless_loop(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "it gets dark")
    guided = guide(graph, loaded, image, texts, "animate", frames=24)
    windows = graph.add("DynamiCrafterWindows", 2, model=loaded["MODEL"], overlap=8, closed_loop=True)["MODEL"]
    save(graph, sample(graph, loaded, guided, model=windows), "endless_loop", 4)
    graph.note(
        f"""
A clip that can be played without end, of any length and from any model that animates: with *closed loop* the windows go on from the last frame to the
first. Unlike **Loop**, it needs no interpolation model, and no frame has to be the picture itself.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "An endless loop",
        300,
    )


def storyboard(graph: Graph) -> None:
    loaded = load(graph)
    first = picture(graph, "Picture 1")
    pictures = [first, dusk(graph, first, "Picture 2 (darkened)"), first]
    told = ["it gets dark", "it gets bright"]
    negative = write(graph, loaded["CLIP"], "", "Negative prompt")
    clips = []
    for number, text in enumerate(told):
        positive = write(graph, loaded["CLIP"], text, f"Prompt {number + 1}: picture {number + 1} to {number + 2}")
        column = 2 + number
        here, there = pictures[number : number + 2]
        guided = guide(graph, loaded, here, (positive, negative), "interpolate", column, end_image=there)
        clips.append(sample(graph, loaded, guided, column))
    save(graph, join(graph, *clips), "storyboard", 5)
    graph.note(
        f"""
Several pictures in a row, with a prompt for each way between two of them. Every clip begins with the picture the last one
ended with; the two frames that show it are blended into one, so that nothing stands still at the joint.

{embedded_note(INTERPOLATE)} {DUSK_NOTE} The third
picture is the first one again: the story goes there and back.

**A further picture:** copy the nodes of one column, connect the last picture and the new one, and join the clip as the
others are.
""",
        1,
        "Storyboard",
        330,
    )


def join(graph: Graph, before: Output, after: Output) -> Output:
    """Two clips whose last and first frame show the same picture."""

    def part(clip: Output, title: str, index: int, length: int) -> Output:
        return graph.add("ImageFromBatch", 4, title=title, image=clip, batch_index=index, length=length)["IMAGE"]

    head = part(before, "Clip 1 but its last frame", 0, 15)
    seam = (part(before, "Clip 1, last frame", 15, 1), part(after, "Clip 2, first frame", 0, 1))
    tail = part(after, "Clip 2 but its first frame", 1, 4095)
    blend = graph.add("ImageBlend", 5, title="The joint", image1=seam[0], image2=seam[1])["IMAGE"]
    return batch(graph, 5, head, blend, tail, title="Both clips")
