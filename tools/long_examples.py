"""The example workflows of more than one clip's length."""

from __future__ import annotations

from example_parts import (
    ANIMATE,
    DUSK_NOTE,
    IMAGE_NOTE,
    INTERPOLATE,
    SEED,
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
from graph import Graph

SHOTS = """\
1 | the camera zooms in | 2 s | dissolve 0.5 s
2 | it gets bright | 2 s | continue
  | the camera pans left | 1.5 s | morph
1 | the camera zooms out | 2 s"""
PICTURES = """\
1 | it gets dark | 0 s | morph 1.75 s
2 | it gets bright | 0 s | morph 3 s
1 | | 0 s"""


def long_video(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    first = write(graph, loaded["CLIP"], "the camera zooms in", "Prompt 1")
    second = write(graph, loaded["CLIP"], "the camera pans left", "Prompt 2")
    negative = write(graph, loaded["CLIP"], "", "Negative prompt")
    both = graph.add("ConditioningCombine", 1, title="One after the other", conditioning_1=first, conditioning_2=second)
    guided = guide(graph, loaded, image, (both["CONDITIONING"], negative), "animate", frames=40)
    windows = graph.add("DynamiCrafterWindows", 2, model=loaded["MODEL"])["MODEL"]
    fast = graph.add("DynamiCrafterSpeed", 2, model=windows)["MODEL"]
    save(graph, sample(graph, loaded, guided, model=fast), "long_video", 4)
    graph.note(
        f"""
40 frames from a model that makes 16 at once. In every step, **DynamiCrafter Windows** shows it one window of the clip
after another and averages them where they overlap. Memory use stays that of 16 frames.

- **Time:** **DynamiCrafter Speed** makes the clip in about a third of the time. Set it to *exact* to compute every
  step, or to *fast*.
- **Longer:** raise *frames* in **DynamiCrafter Visual Guidance**; the time grows in proportion.
- **Prompts one after the other:** each combined prompt applies to its stretch of the clip. A single prompt applies to
  all of it.
- **Steadier:** more *overlap*, or *stride* 2 with *frames* 32 or more; *shuffled noise* gives all windows the same
  noise.

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
A clip that plays in an endless loop, of any length and from any model that animates: with *closed loop* the windows
continue from the last frame to the first. Unlike **Loop**, it needs no interpolation model, and no frame has to be the
picture itself.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "An endless loop",
        300,
    )


def make_film(graph: Graph, name: str, script: str) -> None:
    loaded = load(graph)
    first = picture(graph, "Picture 1")
    pictures = batch(graph, 1, first, dusk(graph, first, "Picture 2 (darkened)"), title="Pictures")
    made = graph.add(
        "DynamiCrafterFilm",
        2,
        model=loaded["MODEL"],
        clip=loaded["CLIP"],
        clip_vision=loaded["CLIP_VISION"],
        vae=loaded["VAE"],
        images=pictures,
        script=script,
        seed=SEED,
    )
    graph.add("SaveVideo", 3, video=made["VIDEO"], filename_prefix=f"DynamiCrafter/{name}")


def film(graph: Graph) -> None:
    make_film(graph, "film", SHOTS)
    graph.note(
        f"""
A film of four shots, from a script with one line per shot: the picture, what happens, the length, and the transition to
the next shot.

- **cut** is the default; **dissolve** fades into the next shot; **continue** goes on from the last frame; **morph**
  leads to the next picture, with an interpolation model.
- The picture is the number of a connected image, a file in the input folder, or empty to continue from the previous
  shot.
- Change a line and run again: only what the change affects is made again. Finished takes are in
  `output/dynamicrafter_takes`.

{embedded_note(ANIMATE)} The embedded model can also morph; of the released models, only {INTERPOLATE} can: connect it
as *morph model*. {DUSK_NOTE}
""",
        1,
        "A film",
        330,
    )


def keyframes(graph: Graph) -> None:
    make_film(graph, "keyframes", PICTURES)
    graph.note(
        f"""
Three keyframes and the frames between them: shots of 0 seconds are the pictures themselves, and each *morph* leads to
the next one. The first morph has 14 frames, as many as the model fills at once; the second has 24, for which a coarse
clip is made first.

- **More keyframes:** one line each, with the picture's number or the name of a file in the input folder.
- **Within one clip**, set keyframes at any frame with *keyframes* and *keyframe positions* of **DynamiCrafter Visual
  Guidance**.

{embedded_note(INTERPOLATE)} {DUSK_NOTE}
""",
        1,
        "Keyframes",
        300,
    )
