"""The measures of benchmarks.editing, on clips whose answers are known."""

from collections.abc import Callable
from types import ModuleType

import pytest
import repository
import torch
from torch import Tensor


@pytest.fixture
def editing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository.ROOT))
    from benchmarks import editing

    return editing


def clip(light: Callable[[int], int], frames: int = 15) -> Tensor:
    return torch.stack([torch.full((4, 4, 3), light(frame), dtype=torch.uint8) for frame in range(frames)])


def test_error_is_the_root_mean_square_of_the_difference(editing: ModuleType) -> None:
    grey = clip(lambda frame: 100)
    assert editing.error(grey, grey) == 0
    assert editing.error(clip(lambda frame: 97), grey) == pytest.approx(3)
    half = grey.clone()
    half[::2] += 8
    assert editing.error(half, grey) == pytest.approx((64 * 8 / 15) ** 0.5)


def test_the_mean_of_neighbours_is_right_where_light_changes_evenly(editing: ModuleType) -> None:
    even = clip(lambda frame: 10 * frame)
    assert torch.equal(editing.blended(even[::2]), even)
    bent = clip(lambda frame: frame * frame)
    wrong = editing.blended(bent[::2]).int() - bent.int()
    assert wrong[::2].abs().max() == 0 and wrong[1::2].eq(1).all()


class Stub:
    """A model that gives back what is held, and black where nothing is."""

    def interpolate(self, first: object, last: object, *, frames: int, original: list, mask: list, **more: object):
        shown = [torch.as_tensor(picture) * int(held) for picture, held in zip(original, mask, strict=True)]
        assert len(shown) == frames
        return type("Made", (), {"frames": torch.stack(shown)})

    def animate(self, first: object, *, frames: int, original: list, mask: list, **more: object):
        return self.interpolate(first, first, frames=frames, original=original, mask=mask)


def test_a_mask_holds_every_second_frame_and_the_autoencoder_row_all(editing: ModuleType) -> None:
    real = clip(lambda frame: 10 * frame + 5)
    made = editing.by_mask(Stub(), real[::2], 1)
    assert torch.equal(made[::2], real[::2]) and not made[1::2].any()
    assert torch.equal(editing.through_the_autoencoder(Stub(), real), real)


def test_rows_are_of_the_frames_that_were_left_out(editing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "by_keyframes", lambda pipeline, few, steps: editing.blended(few))
    rows = editing.double(Stub(), clip(lambda frame: 10 * frame, 16)[None], 1)
    told = [float(row.split("|")[2]) for row in rows[2:]]
    assert told[0] == told[1] == told[3] == 0 and told[2] == pytest.approx(6500**0.5, abs=0.1)  # of 10, 30, ... 130
