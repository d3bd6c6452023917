"""Keyframes that count in a part of the run, and a frame that is the image itself."""

import pytest
import torch

FRAMES = 4


@pytest.fixture
def keyed(load, scene, image, sample):
    """Samples an interpolation with a keyframe at frame 1, of the given strengths; None: without a keyframe."""

    def run(strengths, steps=4):
        loaded = load("dynamicrafter_512_interp")
        keyframe = {"keyframes": image(seed=3), "keyframe_positions": "1", "keyframe_strengths": strengths}
        more = {} if strengths is None else keyframe
        made = scene(loaded, mode="interpolate", frames=FRAMES, end_image=image(seed=2), **more)
        return sample(made, steps=steps, eta=0.0)

    return run


def test_a_strength_is_the_share_of_the_run_in_which_the_keyframe_is_seen(keyed, ours, monkeypatch):
    never, throughout = keyed(None), keyed("")
    torch.testing.assert_close(keyed("0"), never)
    torch.testing.assert_close(keyed("1"), throughout)
    seen = []
    unet = ours("nodes.host.unet").HostUNet
    forward = unet.forward

    def spy(self, x, timesteps, *args, **kwargs):
        seen.append((1 - float(timesteps[0]) / 999, bool(x[1, 4:].any())))
        return forward(self, x, timesteps, *args, **kwargs)

    monkeypatch.setattr(unet, "forward", spy)
    half = keyed("0.5")
    assert {share < 0.5 for share, _ in seen} == {True, False}
    assert all(shown == (share < 0.5) for share, shown in seen)
    assert not torch.equal(half, never) and not torch.equal(half, throughout)


@pytest.mark.parametrize("frame", [0, 2])
@pytest.mark.parametrize("node", ["DynamiCrafterSampler", "KSampler"])
def test_a_locked_frame_is_the_images_latent_with_any_sampler(load, scene, image, sample, run, frame, node):
    loaded = load()
    pictures = torch.cat([image(seed=1), image(seed=2)])  # two clips
    made = scene(loaded, images=pictures, frames=FRAMES, lock="latent", lock_frame=frame)
    latents = sample(made, node)
    (encoded,) = run("VAEEncode", vae=loaded.vae, pixels=pictures)
    torch.testing.assert_close(latents[frame::FRAMES], encoded["samples"], atol=1e-4, rtol=1e-4)
    assert (latents[1::FRAMES] - encoded["samples"]).abs().max() > 0.1


def test_a_pasted_frame_is_the_image_itself(load, scene, image, sample, run):
    loaded = load()
    picture = image(seed=1)
    made = scene(loaded, images=picture, frames=FRAMES, lock="picture", lock_frame=2)
    latent = {**made.latent, "samples": sample(made)}
    (frames,) = run("DynamiCrafterDecode", vae=loaded.vae, latent=latent)
    (plain,) = run("VAEDecode", vae=loaded.vae, samples=latent)
    torch.testing.assert_close(frames[2], picture[0], atol=1e-6, rtol=0)
    assert torch.equal(frames[[0, 1, 3]], plain[[0, 1, 3]])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lock": "latent", "lock_frame": 4}, "lock_frame is 4, and the clip has 4 frames: give 0 to 3"),
        ({"lock": "latent", "mode": "loop"}, "lock is latent, and mode loop has two ends"),
        ({"keyframe_strengths": "2"}, "keyframe_strengths is '2'; give a number from 0 to 1"),
        ({"keyframe_strengths": "soft"}, "keyframe_strengths is 'soft'; give"),
        ({"keyframe_strengths": "1, 1"}, "one for each of the 0 keyframes"),
    ],
)
def test_what_cannot_be_held_is_refused(load, scene, asked, said):
    with pytest.raises(Exception, match=said):
        scene(load(), frames=FRAMES, **asked)
