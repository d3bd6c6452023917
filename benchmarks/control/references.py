"""What pictures of the context do beside the image: a negative one, and references that are mixed with it."""

from typing import Any

from torch import Tensor

from dynamicrafter_core.training.measures import conformity

from .measures import PANS_AND_ZOOMS, Bench, Row, change, listed

WEIGHTS = (0.0, 0.5, 1.0, 3.0)


def negative(bench: Bench) -> list[Row]:
    """Another held-out picture as the negative image of each clip."""
    effect, cost = compare(bench, {"grey": {}, "another picture": {"negative": others(bench)}})
    return [Row("negative image", "[Classifier-free guidance](https://arxiv.org/abs/2207.12598)", effect, cost)]


def references(bench: Bench) -> list[Row]:
    """Another held-out picture as the reference of each clip, and for comparison a context without any picture."""
    dials: dict[str, dict[str, Any]] = {
        f"weight {weight:g}": {"references": others(bench), "reference_weight": weight} if weight else {}
        for weight in WEIGHTS
    }
    effect, cost = compare(bench, {**dials, "grey for all": {"context": False}})
    return [Row("references", "[IP-Adapter](https://arxiv.org/abs/2308.06721)", effect, cost)]


def others(bench: Bench) -> Tensor:
    names = [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in range(bench.count)]
    return bench.pictures(200, names).pixels[:, :, 0]


def compare(bench: Bench, dials: dict[str, dict[str, Any]]) -> tuple[str, float]:
    """Likeness of the clips to their own picture and to the other one; what the last costs beside the first."""
    own, other = bench.clips.pixels[:, :, 0], others(bench)
    made = [bench.make(**each) for each in dials.values()]
    clips = [each for each, _ in made]
    likenesses = [listed([float(conformity(each, picture).mean()) for each in clips], 3) for picture in (own, other)]
    colours = listed([apart(each, other) for each in clips], 3)
    effect = (
        f"{', '.join(dials)}: likeness to the picture {likenesses[0]}, to the other {likenesses[1]}, distance of the mean colours from the "
        f"other's {colours}, change from frame to frame {listed([change(each) for each in clips])}"
    )
    return effect, made[-1][1] / made[0][1]


def apart(clips: Tensor, pictures: Tensor) -> float:
    """How far mean colours of clips and pictures lie apart."""
    return float((clips.mean((2, 3, 4)) - pictures.mean((2, 3))).abs().mean())
