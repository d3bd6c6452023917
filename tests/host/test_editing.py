"""The recipes of docs/editing.md, by the nodes that it names."""

import pytest
import torch

LOW = {"steps": 3, "eta": 0.0, "cfg_text": 2.0, "cfg_image": 2.0}


@pytest.fixture
def clip(image) -> torch.Tensor:
    """Four frames that are a video as far as these tests care."""
    return image(count=4)


def encode(run, vae, pixels) -> torch.Tensor:
    return run("VAEEncode", vae=vae, pixels=pixels)[0]


def near(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().mean() / other.abs().mean())


def test_a_clip_made_over_is_the_nearer_the_lower_denoise_is(load, scene, sample, run, clip) -> None:
    loaded = load()
    made = scene(loaded, images=clip[:1], frames=4)
    latent = encode(run, loaded.vae, clip)
    apart = [
        near(sample(made, latent=latent, denoise=share, **{**LOW, "steps": 20}), latent["samples"])
        for share in (0.1, 0.5, 0.9)
    ]
    assert apart == sorted(apart) and apart[0] < 0.3 * apart[2]


def test_a_region_over_time_is_made_new_and_the_rest_stays(load, scene, sample, run, clip) -> None:
    loaded = load()
    made = scene(loaded, images=clip[:1], frames=4)
    latent = encode(run, loaded.vae, clip)
    mask = torch.zeros(4, 64, 64)
    for frame in range(4):
        mask[frame, 16:48, 8 * frame : 8 * frame + 24] = 1
    out = sample(made, latent=latent, mask=mask, **LOW)
    changed = (out - latent["samples"]).abs().amax(1)
    cells = mask[:, ::8, ::8] > 0
    assert changed[~cells].max() < 1e-4 and changed[cells].min() > 1e-3


def test_frames_are_outpainted(load, scene, sample, run, clip) -> None:
    loaded = load()
    wide, mask = run("ImagePadForOutpaint", image=clip, left=64, top=0, right=64, bottom=0, feathering=0)
    assert wide.shape == (4, 64, 192, 3)
    made = scene(loaded, images=wide[:1], frames=4, width=192, height=64)
    latent = encode(run, loaded.vae, wide)
    (masked,) = run("SetLatentNoiseMask", samples=latent, mask=mask)
    out = sample(made, latent=masked, **LOW)
    changed = (out - latent["samples"]).abs().amax((0, 1, 2))
    assert changed[8:16].max() < 1e-4 and changed[:8].min() > 1e-3 and changed[16:].min() > 1e-3


def test_a_clip_ends_in_the_first_frame_of_another(load, scene, sample, run, clip) -> None:
    loaded = load()
    made = scene(loaded, images=clip[:1], frames=4, lock="latent", lock_frame=3)
    out = sample(made, **LOW)
    torch.testing.assert_close(out[3:], encode(run, loaded.vae, clip[:1])["samples"], atol=1e-4, rtol=1e-4)


def test_a_doubled_frame_rate_is_guided_by_every_known_frame(load, scene, sample, run, clip) -> None:
    loaded = load("dynamicrafter_512_interp")
    given = {"mode": "interpolate", "frames": 7, "keyframes": clip[1:3], "keyframe_positions": "2, 4"}
    made = scene(loaded, images=clip[:1], end_image=clip[3:], **given)
    concat = made.positive[0][1]["dynamicrafter_concat"][0]
    known = encode(run, loaded.vae, clip)["samples"]
    torch.testing.assert_close(concat[::2], known, atol=1e-4, rtol=1e-4)
    assert not concat[1::2].any() and sample(made, **LOW).isfinite().all()
