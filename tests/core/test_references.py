"""Pictures of the context beside the image: a negative one in the unconditional branch, and references mixed with it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ANIMATE, INTERPOLATE, Spy, micro_checkpoint, picture

from dynamicrafter_core.checkpoints.checkpoint import Checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.pipeline.references import check_weights, mix_tokens

ModelOf = Callable[[str], Path]


def test_tokens_are_the_weighted_mean_of_all_images() -> None:
    image, references = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    mixed = mix_tokens(image, references, (0.5, 2.0))
    for row in range(2):
        torch.testing.assert_close(mixed[row], (image[row] + 0.5 * references[0] + 2 * references[1]) / 3.5)
    assert mix_tokens(image, references[:0], ()) is image
    torch.testing.assert_close(mix_tokens(image, references, (0.0, 0.0)), image)
    torch.testing.assert_close(mix_tokens(image[:1], image[:1], (3.0,)), image[:1])


@pytest.mark.parametrize(
    ("weights", "count", "found"),
    [
        ((), 0, ()),
        ((), 2, (1.0, 1.0)),
        ((0.5,), 3, (0.5, 0.5, 0.5)),
        ((0.5, 2), 2, (0.5, 2.0)),
        (
            (1, 2, 3),
            2,
            "there are 3 weights of references for 2 references; give one for all 2 references, or one for each",
        ),
        ((-1,), 1, "a weight of a reference is -1; give a number from 0 to 100"),
        ((math.nan,), 1, "a weight of a reference is nan"),
        ((), 17, "there are 17 references; give up to 16"),
    ],
)
def test_weights_are_one_for_all_or_one_for_each(weights: Any, count: int, found: Any) -> None:
    if isinstance(found, tuple):
        assert check_weights(weights, count) == found
        return
    with pytest.raises(InputError, match=found):
        check_weights(weights, count)


def tokens_of(pipeline: Pipeline, spy: Spy, image: Any, **options: Any) -> torch.Tensor:
    """The context of (image, no image) that a run gives the network."""
    spy.calls.clear()
    pipeline.animate(image, "a cat", steps=1, **options)
    return spy.first["image"][:2]


@pytest.mark.slow
def test_a_negative_image_stands_in_the_unconditional_branch_alone(model_of: ModelOf, spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    plain, other = tokens_of(pipeline, spy, picture()), tokens_of(pipeline, spy, picture(5))
    pipeline.animate(picture(), "a cat", steps=1)
    spy.calls.clear()
    pipeline.animate(picture(), "a cat", steps=1, image_scale=3.0, negative_image=picture(5))
    cond, uncond, image_only = spy.first["image"]
    torch.testing.assert_close(uncond, other[0])
    for seen in (cond, image_only):
        torch.testing.assert_close(seen, plain[0])


@pytest.mark.slow
def test_references_are_mixed_into_what_the_image_says(model_of: ModelOf, spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    image, first, second = (tokens_of(pipeline, spy, picture(seed))[0] for seed in (0, 5, 6))
    mixed = tokens_of(pipeline, spy, picture(), references=[picture(5), picture(6)], reference_weights=[0.5, 2])
    torch.testing.assert_close(mixed[0], (image + 0.5 * first + 2 * second) / 3.5)
    equal = tokens_of(pipeline, spy, picture(), references=[picture(5, width=90)])
    wide = tokens_of(pipeline, spy, picture(5, width=90))[0]
    torch.testing.assert_close(equal[0], (image + wide) / 2)


@pytest.mark.slow
def test_the_detail_and_the_noise_stay_those_of_the_image(model_of: ModelOf, spy: Spy) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))

    def seen(**options: Any) -> torch.Tensor:
        spy.calls.clear()
        pipeline.interpolate(picture(), picture(1), "a cat", steps=1, **options)
        return spy.first["x"]

    assert torch.equal(seen(), seen(negative_image=picture(5), references=[picture(6)]))


@pytest.mark.slow
def test_no_references_are_no_change_at_all(model_of: ModelOf) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    plain = pipeline.animate(picture(), "a cat", steps=2)
    assert torch.equal(pipeline.animate(picture(), "a cat", steps=2, references=[]).frames, plain.frames)
    mixed = pipeline.animate(picture(), "a cat", steps=2, references=[picture(5)], reference_weights=[3])
    assert not torch.equal(mixed.frames, plain.frames) and mixed.settings["reference_weights"] == [3.0]
    away = pipeline.animate(picture(), "a cat", steps=2, negative_image=picture(5))
    assert not torch.equal(away.frames, plain.frames)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"negative_image": "gone.png"}, "gone.png"),
        ({"references": "a.png"}, "references is a str; give a list of images"),
        ({"references": ["gone.png"]}, "gone.png"),
        ({"references": [picture()], "reference_weights": 0.5}, "reference weights is a float; give a list of numbers"),
        ({"references": [picture()], "reference_weights": [1, 2]}, "2 weights of references for 1 references"),
        ({"references": [picture()], "reference_weights": ["much"]}, "a weight of a reference is 'much'"),
        ({"reference_weights": [1.0]}, "references is missing; give both, or neither"),
    ],
)
def test_bad_pictures_are_refused_before_anything_is_loaded(
    model_of: ModelOf, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], named: str
) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("a part was loaded"))
    with pytest.raises(InputError, match=named):
        Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videocrafter2_t2v_512", "t2v_turbo_vc2"])
def test_a_model_that_sees_no_image_takes_none(tmp_path: Path, name: str) -> None:
    pipeline = Pipeline(micro_checkpoint(tmp_path / "model.safetensors", name))
    with pytest.raises(InputError, match=f"negative image is given, but {name} sees no image; leave it out"):
        pipeline.generate("a cat", negative_image=picture())
    with pytest.raises(InputError, match=f"references is given, but {name} sees no image"):
        pipeline.generate("a cat", references=[picture()])
