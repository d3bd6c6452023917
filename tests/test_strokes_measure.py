"""The measures of strokes and of a brush, on clips whose answer is known."""

import math
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import repository
import torch
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.training.clips import Clips

CLIPS = Clips(torch.zeros(2, 3, 2, 8, 8), ["a cat", "a dog"], torch.tensor([12, 12]))


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """On the path no longer than in a test: the host has a module `nodes` of its own."""
    monkeypatch.syspath_prepend(str(repository.ROOT))
    return import_module("benchmarks.control.strokes")


def scene(seed: int) -> Tensor:
    """Coarse colours, as pictures have them, in -1..1."""
    small = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(small, (64, 64), mode="bilinear")[0]


def dragged(picture: Tensor, case: Any) -> Tensor:
    """The patch cut out of the picture and laid over another one where the stroke ends."""
    ground, moved = 0.5 * scene(99), (round(case.to_x) - case.x, round(case.to_y) - case.y)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    there = (x - case.x - moved[0]) ** 2 + (y - case.y - moved[1]) ** 2 <= 64
    return torch.where(there, picture.roll((moved[1], moved[0]), (1, 2)), ground)


@pytest.mark.parametrize("seed", range(8))
def test_what_truly_moved_along_its_stroke_has_no_error_and_what_stands_still_misses_by_its_length(
    seed: int, measures: Any
) -> None:
    picture = scene(seed)
    case = measures.draw_case(picture, seed)
    assert 12 <= case.length <= 24
    noise = 0.2 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    assert measures.end_point_error(picture, dragged(picture, case) + noise, case) * case.length < 2
    assert math.isclose(measures.end_point_error(picture, picture, case), 1)


def test_half_of_the_way_is_not_enough(measures: Any) -> None:
    picture, case = scene(3), measures.draw_case(scene(3), 3)
    half = measures.Case(case.x, case.y, (case.x + case.to_x) / 2, (case.y + case.to_y) / 2)
    error = measures.end_point_error(picture, dragged(picture, half), case)
    assert error == pytest.approx(0.5, abs=0.06) and error > measures.RIGHT


def test_darker_and_weaker_is_still_found(measures: Any) -> None:
    picture, case = scene(4), measures.draw_case(scene(4), 4)
    assert measures.end_point_error(picture, 0.4 * dragged(picture, case) - 0.3, case) * case.length < 2


def test_energy_is_told_by_where_it_is(measures: Any) -> None:
    region = torch.zeros(1, 64, 64)
    region[:, 16:48, 16:48] = 1
    clips = torch.randn(1, 3, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    assert measures.energy_inside(clips, region) == pytest.approx(0.25, abs=0.01)
    assert measures.energy_inside(clips * region[:, None, None], region) == 1
    assert measures.energy_inside(clips * (1 - region)[:, None, None], region) == 0


def test_sharpness_and_decibels_are_those_of_known_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository.ROOT))
    measures = import_module("benchmarks.control.measures")
    pictures = torch.stack([scene(1), scene(2)])
    assert measures.sharpness(pictures, pictures) == pytest.approx(1)
    assert measures.sharpness(0.5 * pictures + 0.2, pictures) == pytest.approx(0.5, rel=1e-3)
    assert measures.likeness_in_decibels(pictures + 0.2, pictures) == pytest.approx(20, abs=1e-3)


def test_every_case_of_a_camera_has_the_picture_and_the_path_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository.ROOT))
    camera = import_module("benchmarks.control.camera")
    asked: list[Any] = []
    bench = SimpleNamespace(
        cases=8, subject=SimpleNamespace(fs=12), source=lambda *given, **more: asked.append((*given, more)) or CLIPS
    )
    names, clips = camera.cases(bench)
    ((split, numbers, more),) = asked
    assert split == "held-out" and numbers == [0, 100, 200, 300, 400, 500, 1, 101]
    assert names == more["motions"] and names[:2] == names[6:] and len(set(names)) == 6
    assert clips.captions == ["", ""]
