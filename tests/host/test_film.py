"""DynamiCrafter Film and DynamiCrafter Join: what the single nodes make by hand, and what an interrupted film leaves."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

FRAMES = 6  # of a take
SAMPLER = {"steps": 2, "cfg_text": -1, "cfg_image": -1, "eta": 1.0, "spacing": "auto", "denoise": 1.0}


@pytest.fixture
def film(run, load, image, base):
    """Runs the node on a script: film(text, ...) -> IMAGE, VIDEO. Takes are kept in the output folder."""
    import folder_paths

    for folder in (folder_paths.get_output_directory(), folder_paths.get_temp_directory()):
        Path(folder).mkdir(parents=True, exist_ok=True)

    def make(text, variant="dynamicrafter_512", images=None, **more):
        loaded = load(variant)
        images = torch.cat([image(seed=1), image(seed=2)]) if images is None else images
        given = {"model": loaded.model, "clip": loaded.clip, "clip_vision": loaded.vision, "vae": loaded.vae}
        asked = {"seed": 1, "steps": 2, "width": 64, "height": 64, "keep_takes": True}
        head = f"frames: {FRAMES}\nfps: 8\n"
        return run("DynamiCrafterFilm", **{**given, **asked, "script": head + text, "images": images, **more})

    return make


@pytest.fixture
def by_hand(run, load, image):
    """One take by the pack's other nodes; `known`: latents that it begins with."""

    def make(picture, prompt, seed, context=None, known=None, variant="dynamicrafter_512", **guidance):
        loaded = load(variant)
        (positive,) = run("CLIPTextEncode", clip=loaded.clip, text=prompt)
        (negative,) = run("CLIPTextEncode", clip=loaded.clip, text="")
        context = picture if context is None else context
        seen = {"model": loaded.model, "clip_vision": loaded.vision, "image": context}
        positive, negative = run("DynamiCrafterImageContext", **seen, positive=positive, negative=negative)
        asked = {"mode": "animate", "width": 64, "height": 64, "frames": FRAMES, "fs": 0, "fit": "crop", **guidance}
        given = {"positive": positive, "negative": negative, "vae": loaded.vae, "image": picture}
        positive, negative, latent = run("DynamiCrafterVisualGuidance", **given, **asked)
        if known is not None:
            samples = torch.cat([known, torch.zeros(FRAMES - len(known), 4, 8, 8)])
            mask = torch.ones(FRAMES, 8, 8)
            mask[: len(known)] = 0
            (latent,) = run("SetLatentNoiseMask", samples={**latent, "samples": samples}, mask=mask)
            for _, entry in (*positive, *negative):
                entry["dynamicrafter_concat"] = known[None, :1].expand(1, FRAMES, -1, -1, -1)
        conditions = {"model": loaded.model, "positive": positive, "negative": negative, "latent": latent}
        (made,) = run("DynamiCrafterSampler", **conditions, **SAMPLER, seed=seed, guidance_rescale=-1.0)
        (frames,) = run("DynamiCrafterDecode", vae=loaded.vae, latent=made)
        return SimpleNamespace(latents=made["samples"], frames=frames)

    return make


def same(frames, others):
    """But for the rounding to whole values."""
    assert frames.shape == others.shape and (frames - others).abs().max() <= 1.01 / 255


def test_a_shot_is_what_the_single_nodes_make(film, by_hand, image):
    frames, video = film("1 | a cat walks | 0.75 s | cut\n2 | rain | 0.5 s")
    pictures = image(seed=1), image(seed=2)
    same(frames[:6], by_hand(pictures[0], "a cat walks", 1).frames)
    same(frames[6:], by_hand(pictures[1], "rain", 1).frames[:4])
    decoded = video.get_components()
    assert len(decoded.images) == len(frames) == 10 and decoded.frame_rate == 8


@pytest.mark.parametrize("keep", [1, 2])
def test_a_shot_that_goes_on_begins_with_the_latents_of_the_one_before(film, by_hand, image, keep):
    frames, _ = film(f"keep: {keep}\nmatch: off\n1 | a cat walks | 0.75 s | continue\n  | rain | 0.5 s | seed 7")
    first = by_hand(image(seed=1), "a cat walks", 1)
    kept = first.latents[-keep:]
    more = by_hand(frames[6 - keep : 7 - keep], "rain", 7, context=image(seed=1), known=kept)
    same(frames[6:], more.frames[keep : keep + 4])


def test_colours_go_on_or_are_held(film, image):
    script = "1 | a cat walks | 0.75 s | continue\n  | rain | 0.625 s | seed 7"
    free, joint, held = (film(f"match: {how}\n{script}")[0] for how in ("off", "joint", "first"))
    assert torch.equal(free[:6], joint[:6]) and not torch.equal(free[6:], joint[6:])

    def away(frames, picture):
        return float((frames.mean((1, 2)) - picture.mean((0, 1))).abs().max())

    assert away(held[-1:], image(seed=1)[0]) < 0.01 < away(free[-1:], image(seed=1)[0])
    assert away(joint[6:7], joint[5]) < 0.01


def test_a_morph_leads_to_the_next_picture(film, by_hand, load, image):
    script = "1 | a cat walks | 0.75 s | morph\n2 | rain | 0.75 s"
    with pytest.raises(Exception, match="line 3: a morph needs a model that goes"):
        film(script)
    frames, _ = film(script, morph_model=load("dynamicrafter_512_interp").model)
    assert len(frames) == 6 + 4 + 6
    asked = {"mode": "interpolate", "end_image": image(seed=2), "variant": "dynamicrafter_512_interp"}
    way = by_hand(frames[5:6], "a cat walks", 1, **asked)
    same(frames[6:10], way.frames[1:-1])


def test_an_interrupted_film_goes_on_and_is_the_same(film, ours, monkeypatch, base):
    import comfy.model_management
    import folder_paths

    six = "\n".join(f"{1 + k % 2} | shot {k} | 0.5 s | seed {40 + k}" for k in range(6))
    takes = ours("nodes.host.film")
    shoot, made = takes.shoot_take, []

    def interrupted(parts, take, *more):
        number = int(take.prompt.split()[1])
        if number == 2 and not made.count(2):
            made.append(2)
            raise comfy.model_management.InterruptProcessingException
        made.append(number)
        return shoot(parts, take, *more)

    monkeypatch.setattr(takes, "shoot_take", interrupted)
    prompt = {"9": {"class_type": "DynamiCrafterFilm", "inputs": {"model": ["1", 0]}}}
    prompt["1"] = {"class_type": "DynamiCrafterLoad", "inputs": {"checkpoint": "a"}}
    monkeypatch.setattr(takes, "origins_of", lambda *given: [prompt["1"]])
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        film(six)
    assert made == [0, 1, 2]
    again, _ = film(six)
    assert made == [0, 1, 2, 2, 3, 4, 5]
    assert torch.equal(film(six)[0], again) and len(made) == 7
    whole, _ = film(six, keep_takes=False)
    assert made[7:] == [0, 1, 2, 3, 4, 5] and torch.equal(whole, again)
    assert list(Path(folder_paths.get_output_directory(), "dynamicrafter_takes").glob("*.safetensors"))


def test_takes_are_known_by_the_graph_they_come_from(ours):
    origins = ours("nodes.host.film").origins_of
    graph = {
        "1": {"class_type": "DynamiCrafterLoad", "inputs": {"checkpoint": "a"}},
        "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "strength": 1}},
        "9": {"class_type": "DynamiCrafterFilm", "inputs": {"model": ["2", 0], "clip": ["1", 1], "script": "a"}},
    }
    renamed = json.loads(json.dumps(graph).replace('"1"', '"11"').replace('"2"', '"12"'))
    changed = json.loads(json.dumps(graph).replace('"strength": 1', '"strength": 2'))
    asked = ("9", ("model", "clip", "morph_model"))
    assert origins(graph, *asked) == origins(renamed, *asked) != origins(changed, *asked)
    assert origins(None, *asked) is None


def test_a_script_names_files_of_the_input_folder(film, by_hand, ours, base):
    import folder_paths

    values = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    folder = Path(folder_paths.get_input_directory())
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).resize((64, 64), Image.Resampling.BICUBIC).save(folder / "scene.png")
    frames, _ = film("scene.png | a cat walks | 0.75 s")
    pixels = torch.from_numpy(np.asarray(Image.open(folder / "scene.png")).copy())[None] / 255
    same(frames, by_hand(pixels, "a cat walks", 1).frames)
    changed = ours("nodes.host.film").files_changed
    before = changed("scene.png | a")
    (folder / "scene.png").touch()
    assert changed("scene.png | a") != before and changed("1 | a") == "[]"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "has no shots"),
        ("3 | a cat", "line 3: image is 3, and 2 images are connected"),
        ("nowhere.png | a cat", "line 3: image 'nowhere.png' is not in ComfyUI's input folder"),
        ("1 | a cat\n | rain", "line 4 has no image, and DynamiCrafter 512 makes no clip from text alone"),
        ("1 | a cat | noise mixed", "line 3: noise is not a setting of DynamiCrafter Film"),
        ("1 | a cat | cfg 0: 9, 1: 3", "line 3: cfg is a curve: give a number, or put DynamiCrafter Guidance on"),
        ("1 | a cat | steps 0", "line 3: steps is 0; give"),
    ],
)
def test_what_cannot_be_filmed_is_refused_before_anything_is_sampled(film, script, said, monkeypatch, ours):
    monkeypatch.setattr(ours("nodes.host.film"), "shoot_take", None)
    with pytest.raises(Exception, match=said.replace("(", r"\(")):
        film(script)


@pytest.fixture
def clips():
    moving = torch.arange(12.0).view(12, 1, 1, 1).expand(-1, 4, 4, 3) / 255
    return moving[:6], moving[5:]


def join(run, clips, **more):
    asked = {"transition": "cut", "dissolve_frames": 2, "double_frame": "auto", "match": "off", **more}
    return run("DynamiCrafterJoin", **{f"clip_{k}": clip for k, clip in enumerate(clips, 1)}, **asked)[0]


def test_a_joint_shows_no_frame_twice(run, clips):
    levels = [round(255 * float(frame.mean())) for frame in join(run, clips)]
    assert levels == list(range(12))
    assert len(join(run, clips, double_frame="keep")) == 13
    assert len(join(run, (clips[0], clips[1][1:]))) == 12
    assert len(join(run, (clips[0], clips[1][1:]), double_frame="drop")) == 11


def test_clips_dissolve_in_order(run):
    clips = [torch.full((4, 2, 2, 3), value) for value in (0.0, 0.3, 0.9)]
    frames = join(run, clips, transition="dissolve", double_frame="keep").mean((1, 2, 3))
    expected = torch.tensor([0, 0, 0.1, 0.2, 0.5, 0.7, 0.9, 0.9])
    torch.testing.assert_close(frames, expected)
    with pytest.raises(
        Exception, match="A dissolve of 3 frames is too long: the shortest clip has 4 frames, so give 2"
    ):
        join(run, clips, transition="dissolve", dissolve_frames=3, double_frame="keep")


def test_clips_of_two_sizes_are_refused(run):
    with pytest.raises(Exception, match="The clips have different sizes, 4x2 and 4x4: scale them"):
        join(run, [torch.zeros(3, 4, 4, 3), torch.zeros(3, 2, 4, 3)])
