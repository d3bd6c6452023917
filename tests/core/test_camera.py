"""A camera's path in words, and the views along it, on scenes whose geometry is known."""

import math

import pytest
import torch
from torch.nn import functional as F

from dynamicrafter_core.camera.path import AXES, PRESETS, camera_path
from dynamicrafter_core.camera.warp import depth_from_map, render_views
from dynamicrafter_core.errors import InputError

HEIGHT, WIDTH, VIEW = 96, 160, 60.0
FOCAL = WIDTH / 2 / math.tan(math.radians(VIEW) / 2)


def pose(**values: float) -> torch.Tensor:
    return torch.tensor([[values.get(axis, 0.0) for axis in AXES]])


def coordinates() -> torch.Tensor:
    """A picture whose colours are where they stand: x in red, y in green."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])


def where_from(view: torch.Tensor) -> torch.Tensor:
    """The pixel of the picture that each pixel of a view shows, [2,H,W]."""
    return torch.stack([(view[0] + 1) / 2 * (WIDTH - 1), (view[1] + 1) / 2 * (HEIGHT - 1)])


def homography(pixel: torch.Tensor, yaw=0.0, pitch=0.0, roll=0.0, x=0.0, y=0.0, z=0.0) -> torch.Tensor:
    """Where a ray through a pixel of the view meets the plane at distance 1, in pixels of the picture: written out by hand."""
    u = (pixel[0] - (WIDTH - 1) / 2) / FOCAL
    v = (pixel[1] - (HEIGHT - 1) / 2) / FOCAL
    a, b, c = (math.radians(angle) for angle in (yaw, pitch, roll))
    ray = torch.stack([math.cos(c) * u - math.sin(c) * v, math.sin(c) * u + math.cos(c) * v, torch.ones_like(u)])
    ray = torch.stack(
        [ray[0], math.cos(b) * ray[1] - math.sin(b) * ray[2], math.sin(b) * ray[1] + math.cos(b) * ray[2]]
    )
    ray = torch.stack(
        [math.cos(a) * ray[0] + math.sin(a) * ray[2], ray[1], -math.sin(a) * ray[0] + math.cos(a) * ray[2]]
    )
    far = (1 - z) / ray[2]
    hit = torch.stack([x + far * ray[0], -y + far * ray[1]])
    return hit * FOCAL + torch.tensor([(WIDTH - 1) / 2, (HEIGHT - 1) / 2]).view(2, 1, 1)


@pytest.mark.parametrize(
    "move",
    [
        {"yaw": 12.0},
        {"pitch": -7.0},
        {"roll": 15.0},
        {"x": 0.2},
        {"y": 0.1},
        {"z": 0.4},
        {"z": -0.5},
        {"yaw": -10.0, "pitch": 5.0, "roll": 4.0, "x": 0.1, "y": -0.05, "z": 0.2},
    ],
    ids=str,
)
def test_a_plane_follows_its_homography_within_half_a_pixel(move: dict[str, float]) -> None:
    (view,), (known,) = render_views(coordinates(), pose(**move), None, VIEW)
    pixels = torch.stack(torch.meshgrid(torch.arange(WIDTH), torch.arange(HEIGHT), indexing="xy")).float()
    expected = homography(pixels, **move)
    inside = (expected[0] >= 0) & (expected[0] <= WIDTH - 1) & (expected[1] >= 0) & (expected[1] <= HEIGHT - 1)
    assert known[inside].float().mean() > 0.995 and inside.float().mean() > 0.4
    outside = (expected[0] < -1) | (expected[0] > WIDTH) | (expected[1] < -1) | (expected[1] > HEIGHT)
    assert not known[outside].any()
    assert (view[:, outside] == -1).all()
    error = (where_from(view) - expected).norm(dim=0)[inside & known]
    assert error.max() < 0.5


def test_a_camera_that_stays_gives_the_picture_back() -> None:
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    depth = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) + 0.5
    views, known = render_views(image, camera_path("still", 3), depth, VIEW)
    assert torch.equal(views, image.expand(3, -1, -1, -1)) and known.all()
    (barely,), (seen,) = render_views(image, pose(x=1e-9), depth, VIEW)  # through all of the warp
    assert seen.all()
    torch.testing.assert_close(barely, image, atol=1e-3, rtol=0)


def two_planes() -> tuple[torch.Tensor, torch.Tensor]:
    """A white square at distance 1 before a grey wall at distance 2."""
    image, depth = torch.zeros(3, HEIGHT, WIDTH), torch.full((HEIGHT, WIDTH), 2.0)
    image[:, 32:64, 64:96], depth[32:64, 64:96] = 1.0, 1.0
    return image, depth


def test_the_near_plane_moves_further_covers_the_far_one_and_uncovers_what_is_unknown() -> None:
    image, depth = two_planes()
    (view,), (known,) = render_views(image, pose(x=0.1), depth, VIEW)
    near, far = FOCAL * 0.1, FOCAL * 0.1 / 2  # pixels to the left
    row = view[0, 48]
    white = (row > 0.5).nonzero().flatten()
    assert white.min() == pytest.approx(64 - near, abs=1) and white.max() == pytest.approx(95 - near, abs=1)
    hole = (~known[48]).nonzero().flatten()
    hole = hole[hole < WIDTH - 20]  # the picture's own right edge is unknown as well
    assert hole.min() == pytest.approx(96 - near, abs=1.5) and hole.max() == pytest.approx(95 - far, abs=1.5)
    assert (view[:, 48, hole] == -1).all()
    assert known[10, : WIDTH - 20].all()  # no cracks in the wall
    edge = (~known[10]).nonzero().min()
    assert edge == pytest.approx(WIDTH - far, abs=1)


def test_a_nearer_view_of_slanted_ground_has_no_cracks() -> None:
    depth = torch.linspace(3, 0.7, HEIGHT)[:, None].expand(HEIGHT, WIDTH).contiguous()
    _, (known,) = render_views(coordinates(), pose(z=0.3), depth, VIEW)
    assert known.float().mean() > 0.98


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_begins_at_the_picture_and_moves_where_it_says(name: str) -> None:
    poses = camera_path(name, 5)
    assert poses.shape == (5, 6) and not poses[0].any()
    if name == "still":
        assert not poses.any()
        return
    (view,), _ = render_views(coordinates(), poses[-1:], None, VIEW)
    x, y = where_from(view)[:, HEIGHT // 2, WIDTH // 2] - torch.tensor([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    moved = {"left": x < -5, "right": x > 5, "up": y < -5, "down": y > 5}
    word, way = name.split()
    if word in ("pan", "tilt", "move"):
        assert moved[way]
    elif word == "orbit":  # it looks at the same point from beside, above or below
        assert abs(x) < 1 and abs(y) < 1
        assert poses[-1, {"left": 3, "right": 3, "up": 4, "down": 4}[way]] * {"left": -1, "down": -1}.get(way, 1) > 0.1
    elif word == "zoom":
        right = where_from(view)[0, HEIGHT // 2, WIDTH // 2 + 20] - where_from(view)[0, HEIGHT // 2, WIDTH // 2]
        assert (right < 19) if way == "in" else (right > 21)
    else:
        assert word == "roll" and poses[-1, 2] != 0


def test_presets_add_up_and_the_amount_scales_them() -> None:
    both = camera_path("pan left + zoom_in", 4, amount=0.5)
    torch.testing.assert_close(both, 0.5 * (camera_path("pan left", 4) + camera_path("Zoom  in", 4)))


def test_lines_hold_what_they_leave_out_and_ease_between_two() -> None:
    text = "# turn, then go on\n0.5: yaw 10\n\n1: z = 0.4, roll -3\n"
    poses = camera_path(text, 5, "linear")
    assert poses[:, 0].tolist() == pytest.approx([0, 5, 10, 10, 10])
    assert poses[:, 5].tolist() == pytest.approx([0, 0, 0, 0.2, 0.4])
    assert poses[-1].tolist() == pytest.approx([10, 0, -3, 0, 0, 0.4])
    smooth = camera_path("1: yaw 8", 5, "smooth")[:, 0]
    assert smooth.tolist() == pytest.approx([8 * (3 * s**2 - 2 * s**3) for s in (0, 0.25, 0.5, 0.75, 1)])
    assert camera_path("1: yaw 8", 3, "in")[1, 0] == 2 and camera_path("1: yaw 8", 3, "out")[1, 0] == 6
    assert camera_path("0: yaw 5\n1: yaw 5", 2)[0, 0] == 5


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ("pan lift", "motion 'pan lift' is unknown; the nearest is pan left; give one of"),
        ("", "motion is ''; give one of still"),
        ("2: yaw 1", "line 1 of the camera path: time is 2.0; give a number from 0 to 1"),
        ("1: yaw", "line 1 of the camera path holds 'yaw'; give pairs of yaw, pitch"),
        ("1: yaw east", "line 1 of the camera path holds 'east' where a number is expected"),
        ("half: yaw 1", "holds 'half' where a number"),
        ("0.5: yaw 1\n0.5: yaw 2", "line 2 of the camera path: time 0.5 does not come after 0.5"),
        ("1: yaw 1e9", "'1e9' where a number is expected"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_in_a_sentence(motion: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        camera_path(motion, 4)


def test_depth_maps_of_both_kinds_become_distances_about_one() -> None:
    gradient = torch.linspace(0, 1, 101)[:, None].expand(101, 3)
    near_white, far_white = depth_from_map(gradient), depth_from_map(255 * gradient, "distance")
    assert near_white[0, 0] / near_white[-1, 0] == pytest.approx(8) and far_white[-1, 0] / far_white[
        0, 0
    ] == pytest.approx(8)
    assert near_white.median() == far_white.median() == 1
    torch.testing.assert_close(1 / near_white[50, 0], (1 / near_white[0, 0] + 1 / near_white[-1, 0]) / 2)
    assert torch.equal(depth_from_map(torch.full((4, 4), 0.3)), torch.ones(4, 4))
    with pytest.raises(InputError, match="kind of depth map is 'metres'"):
        depth_from_map(gradient, "metres")
    with pytest.raises(InputError, match="depth range is 0.5"):
        depth_from_map(gradient, depth_range=0.5)


def test_a_depth_map_of_another_size_fits() -> None:
    image, depth = two_planes()
    small = F.avg_pool2d(depth[None, None], 2)[0, 0]
    (view,), _ = render_views(image, pose(x=0.1), small, VIEW)
    (expected,), _ = render_views(image, pose(x=0.1), depth, VIEW)
    assert (view - expected).abs().mean() < 0.05
