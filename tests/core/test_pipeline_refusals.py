"""What the pipeline refuses, before any of the work is done."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ANIMATE, FRAMES, INTERPOLATE, Spy, micro_checkpoint, picture
from safetensors.torch import load_file, save_file

from dynamicrafter_core.checkpoints.checkpoint import Checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.pipeline.settings import settle


@pytest.mark.parametrize(
    ("name", "call", "named"),
    [
        (ANIMATE, lambda p: p.interpolate(picture(), picture(1)), "cannot interpolate.*dynamicrafter_512_interp"),
        (ANIMATE, lambda p: p.loop(picture()), "cannot loop"),
        (ANIMATE, lambda p: p.generate("a cat"), "cannot generate.*videocrafter2_t2v_512"),
        (INTERPOLATE, lambda p: p.animate(picture()), "cannot animate"),
        ("videocrafter2_t2v_512", lambda p: p.animate(picture()), "cannot animate"),
        ("videocrafter2_t2v_512", lambda p: p.generate("a cat", image_scale=2.0), "cfg-image"),
        ("videocrafter2_t2v_512", lambda p: p.generate("a cat", context_strength=2.0), "context strength is 2.0"),
        ("videocrafter1_t2v_512", lambda p: p.generate("a cat", fs=8), "fs is 8"),
        ("videocrafter2_t2v_512", lambda p: p.generate("a cat", strength=0.5), "original is missing"),
        (INTERPOLATE, lambda p: p.interpolate(picture(), picture(), mask=[1.0] * 16), "original is missing"),
    ],
)
def test_what_a_variant_cannot_do_is_refused(
    model_of: Callable[[str], Path], name: str, call: Callable[[Pipeline], object], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        call(Pipeline(model_of(name)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps is 0.*1 to 1000"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"frames": 0}, "frames is 0"),
        ({"frames": -1}, "frames is -1"),
        ({"text_scale": math.nan}, "cfg.*nan"),
        ({"image_scale": math.inf}, "cfg-image.*inf"),
        ({"context_strength": -1}, "context strength is -1"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"guidance_rescale": -0.1}, "guidance rescale is -0.1"),
        ({"spacing": "even"}, "spacing is 'even'"),
        ({"seed": -1}, "seed is -1"),
        ({"fs": 1.5}, "fs is 1.5"),
        ({"width": 26, "height": 16}, "26x16.*4.*28x16|26x16.*4.*24x16"),
        ({"width": 24}, "height is missing"),
        ({"width": 0, "height": 16}, "width is 0"),
        ({"width": 16, "height": 10**400}, "height is 1000.*at most 16384"),
        ({"fit": "tile"}, "fit is 'tile'"),
        ({"fps": 0}, "fps is 0"),
        ({"start_step": 1001}, "start step is 1001"),
        ({"strength": 1.1}, "strength is 1.1"),
        ({"negative": 3}, "negative is a int"),
        ({"mask": [0.5] * 3}, r"mask has shape \[3"),
        ({"mask": [2.0] * 16}, "mask.*2"),
        ({"original": [picture()]}, "original has 1 frames"),
        ({"original": "video.mp4"}, "video.mp4 does not exist"),
        ({"step": 10}, "'step'; the nearest is steps"),
    ],
)
def test_a_figure_out_of_range_is_refused_before_anything_is_loaded(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], named: str
) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("a part was loaded"))
    with pytest.raises(InputError, match=named) as refused:
        Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("device 'cuda:99'", {"device": "cuda:99"}),
        ("device 'toaster'.*cpu", {"device": "toaster"}),
        ("dtype 'fp8'.*fp16", {"dtype": "fp8"}),
        ("dtype 'torch.int8'", {"dtype": torch.int8}),
    ],
)
def test_devices_and_dtypes_that_are_not_there_are_refused(
    model_of: Callable[[str], Path], named: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=named):
        Pipeline(model_of(ANIMATE), **options)


def test_a_pruned_file_names_the_parts_it_lacks_and_takes_them_from_others(tmp_path: Path, spy: Spy) -> None:
    pruned = micro_checkpoint(tmp_path / "pruned.safetensors", ANIMATE, ("unet", "projector", "autoencoder"))
    towers = [micro_checkpoint(tmp_path / f"{part}.safetensors", ANIMATE, (part,)) for part in ("text", "vision")]
    with pytest.raises(InputError, match="no text and no vision part"):
        Pipeline(pruned)
    assert len(Pipeline(pruned, extra=towers).animate(picture(), steps=1).frames) == FRAMES


def test_a_file_that_may_be_several_variants_is_reported(tmp_path: Path) -> None:
    state = load_file(micro_checkpoint(tmp_path / "told.safetensors", ANIMATE))
    save_file(state, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="may be any of.*dynamicrafter_512_interp"):
        pipeline = Pipeline(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="cannot interpolate.*name its variant"):
        pipeline.interpolate(picture(), picture())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = Pipeline(tmp_path / "model.safetensors", variant=INTERPOLATE)
    assert "interpolate" in named.family.modes


def test_the_embedded_model_is_named_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamicrafter_core.pipeline.pipeline.EMBEDDED", tmp_path)
    with pytest.raises(InputError, match="embedded model"):
        Pipeline("embedded")
    micro_checkpoint(tmp_path / "model.safetensors", ANIMATE)
    assert Pipeline("embedded").family.name == ANIMATE


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"freeinit": 1, "start_step": "late"}, "start step is 'late'"),
        ({"window": "wide"}, "window is 'wide'"),
        ({"negative": "\ud800"}, "negative holds .*half of a character"),
        ({"then": ["\udce9"], "window": 8}, "then holds .*half of a character"),
        ({"steps": 10**400}, "steps is 1000"),
        ({"cfg": 1}, "there is no option 'cfg'"),
    ],
)
def test_settings_of_another_kind_are_refused(given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        settle(FAMILIES["dynamicrafter_512"], "animate", "waves", given, None, 64)
