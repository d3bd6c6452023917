"""Strokes: read as text, made a flow, cut out and moved over a filled background."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.diffusion.noise import NoisePrior
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.strokes.animation import animate_layer, fill
from dynamicrafter_core.strokes.asked import asks_something, read_asked
from dynamicrafter_core.strokes.drawing import Strokes, shift_at
from dynamicrafter_core.strokes.flow import Frame, Moves, moves_between, moves_of_flow, moves_of_strokes
from dynamicrafter_core.strokes.lead import LedNoise, make_lead

FRAME = Frame((64, 64), 64, 64)


def picture(seed: int = 0) -> Tensor:
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(small, (64, 64), mode="bilinear")[0]


def square(left: int, top: int, side: int = 16) -> Tensor:
    mask = torch.zeros(64, 64)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_a_text_holds_strokes_and_how_they_lead() -> None:
    read = Strokes.read("120,80 -> 180,90; 20,30->40,30 -> 40,50\nradius 30; until 0.4; noise 0; ease-in-out")
    assert read.lines == (((120, 80), (180, 90)), ((20, 30), (40, 30), (40, 50)))
    assert (read.radius, read.until, read.noise, read.easing) == (30, 0.4, 0, "ease-in-out")
    assert Strokes.read(" ;\n") == Strokes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("120,80", "strokes hold '120,80'; give strokes such as"),
        ("120,80 -> 180", "holds '180'; give points of two numbers"),
        ("1,2 -> 3,4,5", "holds '3,4,5'"),
        ("1,2 -> nan,4", "holds 'nan,4'"),
        ("5,6 -> 5,6", "the stroke 5,6 -> 5,6 has no length; let it end where it does not start"),
        ("radius big", "strokes hold 'radius big'"),
        ("radius 1 2", "strokes hold 'radius 1 2'"),
        ("until 2", "until.* is 2.0; give a number from 0 to 1"),
        ("noise -1", "moves along strokes is -1.0"),
        ("radius -3", "radius is -3.0"),
        (";".join(["0,0 -> 1,1"] * 65), "there are 65 strokes; give up to 64"),
    ],
)
def test_bad_strokes_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Strokes.read(text)


def test_strokes_outside_the_picture_are_refused() -> None:
    with pytest.raises(InputError, match="the stroke 100,5 -> 90,5 starts outside the picture, which is 64x48 pixels"):
        Strokes.read("100,5 -> 90,5").check(64, 48)
    with pytest.raises(InputError, match="goes far outside the picture"):
        Strokes.read("10,5 -> 900,5").check(64, 48)
    Strokes.read("10,5 -> 70,5").check(64, 48)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strokes": "1,2 -> 3,4", "flow": [[1]]}, "strokes and flow both say where things go"),
        ({"strokes": "1,2 -> 3,4", "brush": "a.png", "brush_to": "b.png"}, "strokes and brush-to both"),
        ({"brush_to": "b.png"}, "brush-to is given and brush is missing"),
        ({"strokes": "radius 3"}, "strokes say how to move but not where"),
        ({"strokes": "1,2 -> 3,4", "mask": "a.png"}, "strokes and mask cannot be combined"),
        ({"brush": "a.png", "lock": 0}, "brush and lock cannot be combined"),
        ({"flow": [[1]], "freeinit": 1}, "flow and freeinit cannot be combined"),
        ({"strokes": "1,2 -> 3,4", "strength": 0.5}, "strokes and a strength below 1 cannot be combined"),
    ],
)
def test_what_cannot_be_together_is_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_asked("animate", given)


def test_only_a_clip_that_animates_one_image_moves_along_strokes() -> None:
    with pytest.raises(InputError, match="only a clip that animates one image takes brush; leave it out"):
        read_asked("loop", {"brush": "a.png"})
    assert read_asked("loop", {}) == Strokes()
    assert not asks_something(Strokes(), None, None, None)


def test_a_bend_is_followed_at_one_speed() -> None:
    line = ((0.0, 0.0), (30.0, 0.0), (30.0, 10.0))
    assert [shift_at(line, share) for share in (0, 0.5, 0.75, 1)] == [(0, 0), (20, 0), (30, 0), (30, 10)]


def test_points_of_the_picture_become_points_of_the_frame() -> None:
    assert Frame((128, 64), 64, 64).place((64, 32)) == (32, 32)
    assert Frame((128, 64), 64, 64).place((32, 0)) == (0, 0)  # cropped: both sides by 1, the middle is kept
    assert Frame((128, 64), 64, 64, "pad").place((0, 0)) == (0, 16)
    assert Frame((128, 64), 64, 64, "stretch").place((128, 64)) == (64, 64)


def test_one_stroke_moves_all_of_its_disc_alike_and_two_share_what_lies_between() -> None:
    one = moves_of_strokes(Strokes.read("20.5,30.5 -> 40.5,30.5; radius 8"), FRAME, 5)
    assert one.flow.shape == (5, 2, 64, 64)
    torch.testing.assert_close(one.flow[:, 0, 10, 10], torch.tensor([0.0, 5.0, 10.0, 15.0, 20.0]))
    assert one.layer[30, 20] == 1 and one.layer[30, 26] == 1 and one.layer[30, 31] == 0
    two = moves_of_strokes(Strokes.read("16,32 -> 16,42; 48,32 -> 48,22; radius 16"), FRAME, 2)
    along = two.flow[1, 1, 32]
    assert along[16] > 7 and along[47] < -7 and abs(float(along[31] + along[32])) < 1e-4
    assert (along.diff() <= 0).all(), "smooth"


def test_a_flow_is_spread_over_the_frames_or_taken_as_it_is() -> None:
    still = torch.zeros(32, 32, 2)
    still[8:16, 8:16, 0] = 4  # half of the frame's size: twice as far in it
    one = moves_of_flow(still[None].numpy(), Strokes(), FRAME, 5)
    assert one.flow[-1, 0, 24, 24] == 8 and one.flow[2, 0, 24, 24] == 4
    assert one.layer[24, 24] == 1 and one.layer[50, 50] == 0
    all_frames = moves_of_flow(torch.stack([index * still for index in range(5)]), Strokes(), FRAME, 5)
    assert all_frames.flow[2, 0, 24, 24] == 16
    assert torch.equal(moves_of_flow(still.movedim(-1, 0)[None], Strokes(), FRAME, 5).flow, one.flow)


@pytest.mark.parametrize(
    "flow", [torch.zeros(4, 8, 8, 2), torch.zeros(8, 8, 2), "x", torch.full((1, 8, 8, 2), torch.nan)]
)
def test_a_flow_of_another_shape_is_refused(flow: object) -> None:
    with pytest.raises(InputError, match="flow "):
        moves_of_flow(flow, Strokes(), FRAME, 5)


def test_from_a_mask_to_another_is_a_shift_and_a_scale() -> None:
    moves = moves_between(square(8, 8), square(24, 32, 32), Strokes(), 3)
    start, end = torch.tensor([8.5, 8.5]), torch.tensor([25.0, 33.0])  # the middle of its corner pixel, twice as large
    torch.testing.assert_close(moves.flow[-1, :, 8, 8], end - start, atol=0.05, rtol=0)
    torch.testing.assert_close(moves.flow[1], moves.flow[2] / 2)
    with pytest.raises(InputError, match="brush-to is empty where the frame shows it"):
        moves_between(square(8, 8), torch.zeros(64, 64), Strokes(), 3)


def test_what_moves_lies_on_top_as_it_was_and_leaves_no_copy() -> None:
    given, layer = picture(), square(8, 24)
    flow = torch.zeros(2, 2, 64, 64)
    flow[1, 0] = 30
    made = animate_layer(given, Moves(flow, layer))
    assert torch.equal(made.frames[0], given)
    torch.testing.assert_close(made.frames[1][:, 24:40, 38:54], given[:, 24:40, 8:24])
    outside = (layer + made.cover[1]) == 0
    torch.testing.assert_close(made.frames[1][:, outside], given[:, outside])
    behind, was = made.frames[1][:, 24:40, 8:24], given[:, 24:40, 8:24]
    assert float(((behind - was) ** 2).mean()) > 0.05, "the old place shows something else"
    torch.testing.assert_close(made.came[1][0][made.cover[1] > 0.5], torch.full((16 * 16,), 30.0))


def test_a_thing_that_moves_by_half_a_pixel_keeps_its_light() -> None:
    flow = torch.full((1, 2, 64, 64), 0.5)
    made = animate_layer(torch.ones(3, 64, 64), Moves(flow, square(8, 8)))
    torch.testing.assert_close(made.frames[0], torch.ones(3, 64, 64))


def test_a_thing_that_grows_has_no_holes() -> None:
    moves = moves_between(square(24, 24), square(8, 8, 48), Strokes(), 2)
    made = animate_layer(picture(), moves)
    assert (made.cover[1][10:54, 10:54] > 0.99).all()


def test_a_hole_is_filled_from_around() -> None:
    given = torch.zeros(3, 64, 64)
    given[:, :, :32], given[:, 24:40, 24:40] = 1, -1
    filled = fill(given, 1 - square(24, 24))
    assert filled[:, 32, 25].min() > 0.6 and filled[:, 32, 38].abs().max() < 0.4
    assert torch.equal(filled[:, 0], given[:, 0])
    assert fill(given, torch.zeros(64, 64)).isfinite().all()


def test_a_lead_is_where_the_thing_is_and_was_and_what_is_not_brushed_stands_still() -> None:
    made = make_lead(picture(), FRAME, 5, 4, Strokes.read("16,32 -> 48,32"), square(8, 24))
    assert made.frames.shape == (5, 3, 64, 64) and made.weight is not None and made.keep is not None
    assert (made.weight[:, 6:10, 2:6] == 1).all() and made.weight[0, 8, 12] == 0 and made.weight[4, 8, 12] == 1
    assert made.keep[8, 8] == 0 and made.keep[0, 0] == 1 and made.keep[15, 15] == 1
    free = make_lead(picture(), FRAME, 5, 4, Strokes.read("16,32 -> 48,32"))
    assert free.keep is None


def test_a_brush_alone_leads_nothing() -> None:
    made = make_lead(picture(), FRAME, 5, 4, Strokes(), square(8, 24))
    assert made.weight is None and made.noise is None and made.keep is not None and made.keep[0, 0] == 1
    assert all(torch.equal(frame, picture()) for frame in made.frames)


def test_noise_moves_along_and_is_white_everywhere() -> None:
    made = make_lead(picture(), FRAME, 5, 4, Strokes.read("16,32 -> 48,32; noise 1"), square(8, 24))
    assert made.noise is not None
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(64, 4, 5, 16, 16, generator=generator)
    noise = made.noise.apply(plain, generator)
    torch.testing.assert_close(noise[:, :, 4, 6:10, 10:14], plain[:, :, 0, 6:10, 2:6], atol=1e-4, rtol=0)
    away = ~made.noise.moved[4]
    assert torch.equal(noise[:, :, 4, away], plain[:, :, 4, away])
    assert (noise.var((0, 1)) - 1).abs().max() < 0.45 and abs(float(noise.var()) - 1) < 0.02
    some = make_lead(picture(), FRAME, 5, 4, Strokes.read("16,32 -> 48,32; noise 0.25"), square(8, 24)).noise
    assert some is not None
    shared = some.apply(plain, torch.Generator().manual_seed(1))
    both = torch.stack([shared[:, :, 4, 6:10, 10:14].flatten(), plain[:, :, 0, 6:10, 2:6].flatten()])
    assert float(torch.corrcoef(both)[0, 1]) == pytest.approx(0.5, abs=0.03)


def test_noise_that_frames_share_anyway_keeps_its_variance_too() -> None:
    """A move of nothing would add a frame's noise to itself."""
    strokes = Strokes.read("32,32 -> 33,32; noise 0.5; radius 32")
    made = make_lead(picture(), FRAME, 5, 4, strokes, square(0, 0, 64)).noise
    assert made is not None and made.moved[1:, 4:12, 4:12].all()
    generator = torch.Generator().manual_seed(0)
    noise = LedNoise(NoisePrior("residual", 1.0), made).apply(
        torch.randn(64, 4, 5, 16, 16, generator=generator), generator
    )
    assert float(noise[..., 4:12, 4:12].var()) == pytest.approx(1, abs=0.02)
