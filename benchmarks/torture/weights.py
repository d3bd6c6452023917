"""Weights that are no numbers: NaN and infinity anywhere in a model, which then makes a clip, or says that it cannot."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from random import Random

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dynamicrafter_core import Pipeline
from dynamicrafter_core.pipeline.pipeline import EMBEDDED

from .surface import Room, Surface

WRONG = (float("nan"), float("inf"), float("-inf"), 65504.0, -65504.0)


@lru_cache
def whole() -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(next(EMBEDDED.glob("*.safetensors")), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (it is no mapping)


def make_weights(chance: Random, room: Room) -> Callable[[], object]:
    tensors, metadata = whole()
    damaged = dict(tensors)
    for name in chance.sample(sorted(tensors), chance.choice((1, 1, 5, 100))):
        tensor = damaged[name].clone()
        flat = tensor.view(-1)
        if chance.random() < 0.5:
            flat[chance.randrange(len(flat))] = chance.choice(WRONG)
        else:
            flat.fill_(chance.choice(WRONG))
        damaged[name] = tensor
    path = room.given / "model.safetensors"
    save_file(damaged, path, metadata)
    dtype = chance.choice(("fp32", "fp16", "bf16"))

    def attempt() -> None:
        warnings.simplefilter("error", RuntimeWarning)  # as of a NaN made into a byte
        pipeline = Pipeline(path, device="cpu", dtype=dtype)
        clip = pipeline.animate(torch.zeros(3, 64, 64), "waves", width=64, height=64, frames=2, steps=2)
        clip.save(room.out / "clip.gif")

    return attempt


def prepare() -> None:
    Pipeline("embedded", device="cpu").animate(torch.zeros(3, 64, 64), "warm", width=64, height=64, frames=1, steps=1)


WEIGHTS = Surface(
    "weights",
    "NaN, infinity and the largest numbers in 1 to 100 tensors of a model, in three dtypes",
    make_weights,
    prepare,
)
