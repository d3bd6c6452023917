"""Prompts through the host's executor: progress, previews, cancelling, seeds; and memory while they run."""

import gc
import random
import uuid
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def graph(tiny_file, server, pack):
    """An API prompt from file to frames; keyword arguments go to the sampler."""
    import folder_paths
    from PIL import Image

    folder = Path(folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    gradient = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    gradient.save(folder / "picture.png")
    name = tiny_file()

    def make(prompt: str = "a cat", frames: int = 2, **sampler) -> dict:
        values = {"seed": 1, "steps": 2, "cfg_text": 3.0, "cfg_image": 2.0, "eta": 1.0, "spacing": "auto"}
        values |= {"guidance_rescale": -1.0, "denoise": 1.0, **sampler}
        links = {"model": ["load", 0], "positive": ["detail", 0], "negative": ["detail", 1], "latent": ["detail", 2]}
        context = {"model": ["load", 0], "clip_vision": ["load", 2], "image": ["image", 0]}
        detail = {"vae": ["load", 3], "image": ["image", 0], "mode": "animate", "width": 64, "height": 64, "fs": 0}
        nodes = {
            "load": ("DynamiCrafterLoad", {"checkpoint": name, "variant": "auto", "weight_dtype": "default"}),
            "image": ("LoadImage", {"image": "picture.png"}),
            "yes": ("CLIPTextEncode", {"clip": ["load", 1], "text": prompt}),
            "no": ("CLIPTextEncode", {"clip": ["load", 1], "text": ""}),
            "context": ("DynamiCrafterImageContext", {**context, "positive": ["yes", 0], "negative": ["no", 0]}),
            "detail": (
                "DynamiCrafterVisualGuidance",
                {**detail, "positive": ["context", 0], "negative": ["context", 1], "frames": frames, "fit": "crop"},
            ),
            "sample": ("DynamiCrafterSampler", {**links, **values}),
            "decode": ("DynamiCrafterDecode", {"vae": ["load", 3], "latent": ["sample", 0]}),
            "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "frame"}),
        }
        return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}

    return make


class Executed:
    def __init__(self, executor) -> None:
        self.success = executor.success
        self.messages = executor.status_messages
        self.frames = None
        for event, data in self.messages:
            if event == "execution_error":
                self.error = data


@pytest.fixture(scope="module")
def new_executor(server):
    """The host's executor, whose caches a new one does not share: a fresh server."""
    import execution

    def make():
        size = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        return execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args=size)

    return make


@pytest.fixture
def execute(new_executor, server, monkeypatch):
    """Validates and runs a prompt as the server does; gives whether it went well and the frames that were saved."""
    import execution

    import nodes

    kept = {}
    monkeypatch.setattr(
        nodes.SaveImage, "save_images", lambda self, images, **k: (kept.update(frames=images), {"ui": {}})[1]
    )
    monkeypatch.setattr(type(server), "instance", server, raising=False)
    shared = new_executor()

    def run(prompt, executor=None):
        executor = executor or shared
        prompt_id = str(uuid.uuid4())
        valid = server.loop.run_until_complete(execution.validate_prompt(prompt_id, prompt, None))
        assert valid[0], valid
        kept.clear()
        nodes.interrupt_processing(False)
        executor.execute(prompt, prompt_id, {}, valid[2])
        done = Executed(executor)
        done.frames = kept.get("frames")
        return done

    return run


def test_a_prompt_becomes_frames(execute, graph) -> None:
    done = execute(graph())
    assert done.success, done.messages
    assert done.frames.shape == (2, 64, 64, 3) and done.frames.min() >= 0 and done.frames.max() <= 1


def test_the_same_seed_gives_the_same_frames_on_a_fresh_server(execute, graph, new_executor) -> None:
    first, second = execute(graph(seed=5)), execute(graph(seed=5), new_executor())
    assert torch.equal(first.frames, second.frames)
    assert not torch.equal(execute(graph(seed=6)).frames, first.frames)


@pytest.fixture
def told(monkeypatch):
    """What the host's own hook hears of a run with previews on."""
    import comfy.utils
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(latent_preview, "default_preview_method", LatentPreviewMethod.Latent2RGB)
    heard = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *given, **kwargs: heard.append(given))
    return heard


def test_progress_and_previews_go_to_the_hosts_own_hook(execute, graph, told) -> None:
    assert execute(graph(seed=7, steps=3)).success
    steps = [given for given in told if given[1] == 3]
    assert [given[0] for given in steps] == [1, 1, 2, 2, 3, 3]  # the host's still, and the clip
    assert all(given[2][1].size == (8, 8) for given in steps)


def as_sent(server, preview):
    """The picture that reaches the page, through the server's own encoding."""
    from io import BytesIO

    from PIL import Image

    sent = []

    async def keep(event, data, sid=None):
        sent.append(data)

    async def send():
        server.send_bytes, kept = keep, server.send_bytes
        await server.send_image_with_metadata(preview, {"node_id": "1"})
        await server.send_image(preview)
        server.send_bytes = kept

    server.loop.run_until_complete(send())
    length = int.from_bytes(sent[0][:4], "big")
    assert b"image/png" in sent[0][: length + 4] and sent[1][:4] == b"\0\0\0\2"
    assert bytes(sent[0][4 + length :]) == sent[1][4:]
    return Image.open(BytesIO(sent[1][4:]))


@pytest.mark.parametrize(
    ("node", "variant"),
    [
        ("DynamiCrafterSampler", "dynamicrafter_512"),
        ("KSampler", "dynamicrafter_512"),
        ("DynamiCrafterSampler", "t2v_turbo_v2_mg"),
    ],
)
def test_preview_plays_every_frame_with_any_sampler(node, variant, load, scene, sample, told, server) -> None:
    sample(scene(load(variant), frames=5), node, steps=2)
    clips = [given[2] for given in told if given[2][0] == "PNG"]
    assert len(clips) == 2
    for clip in clips:
        picture = as_sent(server, clip)
        frames = set()
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.add(picture.convert("RGB").tobytes())
        assert picture.is_animated and picture.info["loop"] == 0 and len(frames) == 5


def test_preview_goes_on_where_the_last_one_was(ours, monkeypatch) -> None:
    preview = ours("nodes.host.preview")
    rows = torch.arange(6)
    for seconds, expected in ((10.0, [2, 3, 4, 5, 0, 1]), (10.2, [3, 4, 5, 0, 1, 2])):
        monkeypatch.setattr(preview.time, "monotonic", lambda now=seconds: now)
        assert preview.from_the_frame_on(rows).tolist() == expected
    monkeypatch.setattr(preview.time, "monotonic", lambda: 0.0)
    assert preview.from_the_frame_on(torch.arange(100)).tolist() == list(range(0, 100, 2))


def test_previews_that_are_off_or_another_packs_stay_so(load, scene, sample, told, monkeypatch) -> None:
    import latent_preview

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *given: None)
    sample(scene(load()), "KSampler", steps=2)
    assert told and all(given[2] is None for given in told)


def test_cancel_stops_within_a_step(execute, graph, monkeypatch) -> None:
    import comfy.model_management
    import comfy.utils

    import nodes

    seen = []

    def hook(value, total, preview=None, **kwargs):
        comfy.model_management.throw_exception_if_processing_interrupted()
        seen.append(value)
        if value == 2:
            nodes.interrupt_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    # Steps are faster here than the newest host cares to tell of one by one.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0, raising=False)
    done = execute(graph(seed=8, steps=9))
    assert not done.success
    assert [event for event, _ in done.messages][-1] == "execution_interrupted"
    assert seen == [1, 2]


def test_a_refusal_reaches_the_person_as_a_sentence(execute, graph) -> None:
    prompt = graph()
    prompt["sample"]["inputs"]["positive"] = ["yes", 0]
    done = execute(prompt)
    assert not done.success
    assert "DynamiCrafterImageContext before the sampler" in done.error["exception_message"]


@pytest.mark.once
def test_many_prompts_with_changes_and_cancels_leave_nothing_behind(execute, graph, new_executor, monkeypatch) -> None:
    """A short form of a hundred: memory returns to its level, and no result differs from a fresh server's."""
    import comfy.model_management
    import comfy.utils

    import nodes

    rng = random.Random(0)
    stop_at = [None]

    def hook(value, total, preview=None, **kwargs):
        comfy.model_management.throw_exception_if_processing_interrupted()
        if value == stop_at[0]:
            nodes.interrupt_processing()

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    executor = new_executor()
    level = []
    for index in range(12):
        stop_at[0] = rng.choice([None, None, 1])
        asked = {
            "seed": 100 + index,
            "steps": 2,
            "prompt": rng.choice(["a cat", "a dog"]),
            "eta": rng.choice([0.0, 1.0]),
        }
        execute(graph(**asked), executor)
        level.append(tensors())
    stop_at[0] = None
    last, fresh = execute(graph(seed=3), executor), execute(graph(seed=3), new_executor())
    assert torch.equal(last.frames, fresh.frames)
    assert level[-1] <= max(level[3:6]) * 1.02


def test_projector_is_loaded_by_the_hosts_memory_management(load, run, image, ours, monkeypatch) -> None:
    import comfy.model_management

    loaded = load()
    projector = ours("nodes.host.loading").projector_of(loaded.model)
    asked = []
    original = comfy.model_management.load_models_gpu

    def note(models, *args, **kwargs):
        asked.extend(models)
        return original(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", note)
    (text,) = run("CLIPTextEncode", clip=loaded.clip, text="")
    inputs = {"model": loaded.model.clone(), "clip_vision": loaded.vision, "image": image()}
    run("DynamiCrafterImageContext", **inputs, positive=text, negative=text)
    assert projector in asked


class OutOfMemory:
    """Stands in a layer's place and runs out of memory when it gets more rows than fit."""

    def __init__(self, run, rows: int) -> None:
        self.run, self.rows, self.tried = run, rows, []

    def __call__(self, x, *args, **kwargs):
        self.tried.append(len(x))
        if len(x) > self.rows:
            raise torch.cuda.OutOfMemoryError("emulated")
        return self.run(x, *args, **kwargs)


def test_decoding_halves_its_portions_until_they_fit(load, run, monkeypatch) -> None:
    vae = load().vae
    latent = {"samples": torch.randn(7, 4, 8, 8)}
    (whole,) = run("DynamiCrafterDecode", vae=vae, latent=latent)
    tight = OutOfMemory(vae.first_stage_model.decode, rows=2)
    monkeypatch.setattr(vae.first_stage_model, "decode", tight)
    (frames,) = run("DynamiCrafterDecode", vae=vae, latent=latent)
    assert tight.tried == [7, 3, 1, 1, 1, 1, 1, 1, 1] or max(tight.tried[-3:]) <= 2
    torch.testing.assert_close(frames, whole, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(vae.first_stage_model, "decode", OutOfMemory(None, rows=0))
    with pytest.raises(torch.cuda.OutOfMemoryError, match="even one frame of 64x64 pixels: use 'VAE Decode .Tiled.'"):
        run("DynamiCrafterDecode", vae=vae, latent=latent)


def test_running_out_of_memory_in_sampling_says_what_to_lower(load, scene, sample, monkeypatch) -> None:
    made = scene(load())
    monkeypatch.setattr(type(made.model.model), "_apply_model", OutOfMemory(None, rows=-1).__call__)
    with pytest.raises(
        torch.cuda.OutOfMemoryError, match="4 frames of 64x64 pixels: lower the width and height or the frames"
    ):
        sample(made)


def test_memory_required_is_honest(ours, server) -> None:
    """What the host plans for a run covers what the real network's activations hold at their peak, and not twice that."""
    from peak import activation_peak, fused

    model = ours("nodes.host.model")
    family = ours("dynamicrafter_core.families").FAMILIES["dynamicrafter_512"]
    factor = model.FamilyConfig.memory_usage_factor
    make = {"dtype": torch.float16, "device": "meta", "attention": fused}
    unet = ours("dynamicrafter_core.models.unet").VideoUNet(family.unet, **make)
    for height, width in ((40, 64), (72, 128)):
        peak = activation_peak(unet, clips=1, frames=16, height=height, width=width)
        area = 16 * height * width
        planned = area * 2 * 0.01 * factor * 1024**2  # the host's formula, with flash attention, in half precision
        assert planned > peak, planned / peak
        assert planned < 2.5 * peak, planned / peak
