"""The measures of benchmarks.length, on clips whose answers are known."""

from types import ModuleType

import pytest
import repository
import torch
from torch import Tensor
from torch.nn import functional as F


@pytest.fixture
def length(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository.ROOT))
    from benchmarks import length

    return length


def zoomed(scales: Tensor) -> Tensor:
    """uint8 [T,64,64,3]: a picture of smooth colours, enlarged by each of the scales."""
    coarse = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    picture = F.interpolate(coarse, (256, 256), mode="bicubic", align_corners=True).clamp(0, 1)
    theta = torch.zeros(len(scales), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.9 / scales
    grid = F.affine_grid(theta, [len(scales), 3, 64, 64], align_corners=False)
    seen = F.grid_sample(picture.expand(len(scales), -1, -1, -1), grid, mode="bilinear", align_corners=False)
    return (255 * seen).to(torch.uint8).permute(0, 2, 3, 1)


def test_a_jump_is_a_seam_and_steady_motion_is_none(length: ModuleType) -> None:
    clip = torch.arange(0, 128, 2).to(torch.uint8)[:, None, None, None].expand(64, 4, 4, 3)
    assert length.seam(clip, (16, 32, 48)) == pytest.approx(1.0)
    jump = clip.clone()
    jump[32:] += 10
    assert length.seam(jump, (16, 48)) < 1 < 5 < length.seam(jump, (32,))
    assert length.seam(clip, [len(clip)], closed=True) > 20  # it does not lead back
    there_and_back = torch.cat([clip, clip.flip(0)])
    assert length.seam(there_and_back, [len(there_and_back)], closed=True) < 1
    assert length.drift(clip, clip[0].permute(2, 0, 1) / 127.5 - 1) == pytest.approx(126, abs=1e-3)


def test_even_and_uneven_motion_are_told_apart(length: ModuleType) -> None:
    even = (0.012 * torch.arange(64)).exp()
    assert length.unevenness(zoomed(even), "zoom_in") == pytest.approx(0, abs=0.2)
    slower = (0.012 * torch.arange(64).clamp(max=32) + 0.006 * (torch.arange(64) - 32).clamp(min=0)).exp()
    found = length.unevenness(zoomed(slower), "zoom_in")
    assert found is not None and found > 0.25
    assert length.unevenness(zoomed(even.clamp(max=even[32])), "zoom_in") is None  # the second half stands still
