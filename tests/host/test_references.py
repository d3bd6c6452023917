"""Pictures of the context beside the image: the library's tokens, at their places, and what does not fit together refused."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.fixture
def context(run: Callable, load: Callable, image: Callable) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The tokens of the image and those of no image that DynamiCrafterImageContext writes."""

    def write(**more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loaded = load()
        (prompt,) = run("CLIPTextEncode", clip=loaded.clip, text="a cat")
        given = {"model": loaded.model, "clip_vision": loaded.vision, "image": image(), **more}
        both = run("DynamiCrafterImageContext", positive=prompt, negative=prompt, **given)
        return tuple(side[0][1]["dynamicrafter_image"] for side in both)

    return write


@pytest.fixture
def by_the_library(ours: Callable, tiny_file: Callable) -> Callable[..., torch.Tensor]:
    """The same pictures through the library's encoding: 2 t n d."""
    import folder_paths

    pipelines = ours("dynamicrafter_core.pipeline.pipeline")
    encoding, images = (ours(f"dynamicrafter_core.{name}") for name in ("pipeline.encoding", "media.images"))
    pipeline = pipelines.Pipeline(folder_paths.get_full_path("checkpoints", tiny_file()), device="cpu", dtype="fp32")

    def encode(image: torch.Tensor, negative: Any = None, references: Any = (), weights: Any = ()) -> torch.Tensor:
        picture, *more = (images.read_image(each.numpy()) for each in (image[0], *(each[0] for each in references)))
        unseen = None if negative is None else images.read_image(negative[0].numpy())
        with torch.inference_mode():
            return encoding.encode_image(pipeline.parts, picture, unseen, more, weights)

    return encode


def test_without_them_nothing_changes(context, image) -> None:
    plain = context()
    for more in ({"reference_weights": "1"}, {"reference_weights": "0.3"}, {"negative_image": None}):
        assert all(torch.equal(*pair) for pair in zip(context(**more), plain, strict=True))


def test_tokens_are_the_librarys(context, by_the_library, image) -> None:
    """As closely as those of one image: the host's CLIP rounds otherwise than the library's."""
    other, first, second = image(96, 64, seed=5), image(80, 80, seed=6), image(80, 80, seed=7)
    pictures = {"negative_image": other, "references": torch.cat([first, second])}
    seen, unseen = context(**pictures, reference_weights="0.5, 2")
    expected = by_the_library(image(), other, (first, second), (0.5, 2.0))
    torch.testing.assert_close(torch.cat([seen, unseen]), expected, atol=1e-3, rtol=1e-3)
    assert (expected - by_the_library(image())).abs().amax((1, 2, 3)).min() > 1e-2


def test_tokens_are_those_of_each_picture_alone(context, image, ours) -> None:
    pictures = [image(), image(96, 64, seed=5), image(80, 80, seed=6), image(80, 80, seed=7)]
    alone = [context(image=each)[0] for each in pictures]
    more = {"negative_image": pictures[1], "references": torch.cat(pictures[2:])}
    seen, unseen = context(**more, reference_weights="0.5, 2")
    mixed = ours("dynamicrafter_core.pipeline.references").mix_tokens(alone[0], torch.cat(alone[2:]), (0.5, 2.0))
    torch.testing.assert_close(seen, mixed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(unseen, alone[1], atol=1e-4, rtol=1e-4)


def test_each_clip_has_its_own_negative_image_or_the_same(context, image) -> None:
    two = image(count=2)
    others = image(count=2, seed=5)
    seen, unseen = context(image=two, negative_image=others)
    assert len(seen) == len(unseen) == 2 and not torch.allclose(unseen[0], unseen[1])
    _, same = context(image=two, negative_image=others[:1])
    torch.testing.assert_close(same, unseen[:1])
    mixed, _ = context(image=two, references=others[:1])
    torch.testing.assert_close(mixed, (seen + unseen[:1]) / 2, atol=1e-5, rtol=1e-4)


def test_a_negative_image_leads_away_and_references_lead_elsewhere(load, run, scene, sample, image) -> None:
    loaded = load()
    made = scene(loaded)
    plain = sample(made, steps=2)
    given = {"model": loaded.model, "clip_vision": loaded.vision, "image": image()}
    for more in ({"negative_image": image(seed=5)}, {"references": image(seed=5), "reference_weights": "2"}):
        written = run("DynamiCrafterImageContext", positive=made.positive, negative=made.negative, **given, **more)
        changed = SimpleNamespace(**{**vars(made), "positive": written[0], "negative": written[1]})
        assert not torch.allclose(sample(changed, steps=2), plain, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negatives": 3}, "1 images and 3 negative images: give one negative image for all clips"),
        ({"references": 2, "reference_weights": "1, 2, 3"}, "3 weights of references for 2 references"),
        ({"references": 2, "reference_weights": "much"}, "reference weights is 'much'; give a number for all"),
        ({"references": 1, "reference_weights": "-1"}, "a weight of a reference is -1.0"),
        ({"reference_weights": "1, 2"}, "2 weights of references for 0 references; give none"),
    ],
)
def test_what_does_not_fit_is_refused(context, image, given, message) -> None:
    pictures = {
        "negative_image" if name == "negatives" else name: image(count=given[name])
        for name in ("negatives", "references")
        if name in given
    }
    rest = {name: value for name, value in given.items() if isinstance(value, str)}
    with pytest.raises(Exception, match=message):
        context(**pictures, **rest)
