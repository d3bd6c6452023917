"""The small languages of options (a camera's motion, noise, weights in the UNet), and prompts of any length and alphabet."""

from collections.abc import Callable
from random import Random
from typing import Any

import torch

from dynamicrafter_core import Pipeline
from dynamicrafter_core.camera.camera import Camera
from dynamicrafter_core.diffusion.noise import read_noise
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.models.motion import Motion
from dynamicrafter_core.pipeline.settings import Options, settle
from dynamicrafter_core.pipeline.sketches import SketchPlan
from dynamicrafter_core.strokes.drawing import Strokes
from dynamicrafter_core.strokes.flow import Frame
from dynamicrafter_core.strokes.lead import make_lead

from .mutation import SAMPLES, number, text, value
from .stubs import Accepted, without_networks
from .surface import Finding, Room, Surface

PARTS = {
    "motion": (
        "middle 2",
        "ends 0.5",
        "from 0",
        "to 0.5",
        "strength 1 1.5",
        "temperature 0.8",
        "beside 0.5",
        "in-place 0.5",
        "causal",
    ),
    "sketch_plan": ("strength 0.6", "from 0", "to 0.8", "light", "dark", "free", "blank"),
    "noise": ("plain", "mixed 1", "progressive 2", "residual 0.5"),
    "noise_path": ("pan 0.25 0", "zoom 1.2", "turn 10", "from 0.2", "to 0.8", "ease-in-out"),
    "strokes": (
        "2,3 -> 9,9",
        "1,1 -> 5,1 -> 5,9",
        "radius 3",
        "until 0.6",
        "noise 0.3",
        "ease-in-out",
        "camera pan 0.25 0, zoom 1.2",
        ";",
        "->",
    ),
    "camera": ("orbit left", "pan right", "zoom in", "0.5: yaw 10, z 0.2", "1: x 1 y 2", "+", "\n", ":", "#"),
}


def phrase(language: str, chance: Random) -> str:
    pieces = [chance.choice(PARTS[language]) for _ in range(chance.choice((1, 2, 3, 50)))]
    for _ in range(chance.choice((0, 1, 2))):
        at = chance.randrange(len(pieces))
        words = pieces[at].split(" ")
        words[chance.randrange(len(words))] = chance.choice(
            (text(chance), str(number(chance)), chance.choice(("-1", "1e308", "1e-320", "0", "")))
        )
        pieces[at] = " ".join(words)
    return chance.choice((", ", "+", "\n", " ", ",", ";")).join(pieces)


def make_words(chance: Random, room: Room) -> Callable[[], object]:
    language = chance.choice(list(PARTS))
    said = phrase(language, chance)

    def attempt() -> None:
        match language:
            case "motion":
                motion = Motion.read(said)
                motion.hooks(["input 1 spatial 0 attn1", "input 1 temporal 0 attn1", "middle spatial 0 attn2"], 0.3)
            case "sketch_plan":
                SketchPlan.read(said)
            case "noise":
                finite(read_noise(said).apply(torch.randn(1, 4, 5, 8, 8), torch.Generator()))
            case "strokes":
                strokes = Strokes.read(said)
                if bool(strokes.lines) != strokes.camera.moves:
                    lead = make_lead(torch.zeros(3, 16, 16), Frame((12, 12), 16, 16), 4, 4, strokes)
                    finite(lead.frames)
            case "noise_path":
                finite(read_noise("", said).apply(torch.randn(1, 4, 5, 8, 8), torch.Generator()))
            case _:
                camera = Camera(said)
                camera.check()
                finite(camera.views(torch.zeros(3, 16, 16), 4)[0])

    return attempt


def finite(values: torch.Tensor) -> None:
    if not values.isfinite().all():
        raise Finding(f"{int((~values.isfinite()).sum())} of {values.numel()} values are not finite")


def make_options(chance: Random, room: Room) -> Callable[[], object]:
    """What the library is given as keywords."""
    names = [name for name in Options.__annotations__ if name not in ("on_progress", "original", "mask")]
    given: dict[str, Any] = {}
    for option in chance.sample(names, chance.choice((1, 1, 2, 4))):
        given[option] = chance.choice((number, value, text))(chance)
    family = FAMILIES[chance.choice(list(FAMILIES))]
    mode: Any = chance.choice([*family.modes, "fly", "", "animate"])
    prompt: Any = chance.choice(("waves", value(chance), text(chance)))
    size = chance.choice((None, (1, 1), (16_000, 1), (512, 320)))
    return lambda: settle(family, mode, prompt, given, size, 64).as_dict()


def long_text(chance: Random) -> str:
    match chance.randrange(5):
        case 0:
            return text(chance, 300)
        case 1:
            return chance.choice(SAMPLES) * chance.choice((1, 10))
        case 2:
            return "".join(chr(chance.randrange(0x110000)) for _ in range(300))
        case 3:
            return chance.choice(
                ("a", "waves ", "é", "画", "\U0001f30a", "\u0301", "&amp;", "<", "_", "1", "\u200d")
            ) * chance.choice((1000, 100_000))
        case _:
            return " ".join(
                "".join(chr(chance.randrange(97, 123)) for _ in range(chance.randrange(1, 12))) for _ in range(3000)
            )


PIPELINE: list[Pipeline] = []


def open_pipeline() -> None:
    PIPELINE.append(Pipeline("embedded", device="cpu"))
    try_prompt("warm", "")


def make_prompts(chance: Random, room: Room) -> Callable[[], object]:
    prompt, negative = long_text(chance), chance.choice(("", long_text(chance)))
    return lambda: try_prompt(prompt, negative)


def try_prompt(prompt: str, negative: str) -> None:
    with without_networks():
        try:
            image = torch.zeros(3, 64, 64)
            finite(
                PIPELINE[0]
                .animate(image, prompt, negative=negative, width=64, height=64, frames=1, steps=1)
                .frames.float()
            )
        except Accepted:
            pass


WORDS = Surface("words", "motion, noise and weight strings: malformed and huge numbers, endless lists", make_words)
OPTIONS = Surface(
    "options", "library keyword arguments: every type of value for every option of every variant", make_options
)
PROMPTS = Surface(
    "prompts",
    "up to 100,000 characters, every Unicode plane, lone surrogates, combining marks, emoji, no spaces",
    make_prompts,
    open_pipeline,
)
