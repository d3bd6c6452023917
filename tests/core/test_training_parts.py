"""The paper's ways of training, one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_recipes import only, small_recipe

from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.attention import attend
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.training import inputs
from dynamicrafter_core.training.checkpointing import checkpoint_stages
from dynamicrafter_core.training.clips import Clips, ProceduralClips
from dynamicrafter_core.training.inputs import condition, encode_clips, encode_image
from dynamicrafter_core.training.model import Model, attend_in_rows, make_model, normalise_latents
from dynamicrafter_core.training.objectives import autoencoder_loss, diffusion_loss, draw_timesteps
from dynamicrafter_core.training.optimiser import Optimiser, learning_rate
from dynamicrafter_core.training.ranks import Ranks
from dynamicrafter_core.training.recipe import Stage, Timesteps
from dynamicrafter_core.training.sources import make_source
from dynamicrafter_core.training.state import RunFolder
from dynamicrafter_core.training.trainer import Trainer

CPU = torch.device("cpu")
SOURCE = ProceduralClips(16, 16, 4, fs=(2, 4))


def rows(count: int) -> list[tuple[Any, ...]]:
    return [(0, "test", number) for number in range(count)]


def stage(**changes: Any) -> Stage:
    return Stage("test", "diffusion", ("unet",), 10, 2, **{"dropout": 0.0, "random_frame": 0.0, **changes})


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(small_recipe(), CPU, torch.float32)


@pytest.fixture(scope="module")
def many(model: Model) -> Any:
    return encode_clips(model, SOURCE("train", range(400)), rows(400))


@pytest.fixture
def given_to_towers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(inputs, "encode_text", lambda model, captions: seen.update(captions=captions))
    monkeypatch.setattr(inputs, "encode_image", lambda model, pictures, _: seen.update(pictures=pictures))
    return seen


def without(given_to_towers: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which clips had no text, and which no image."""
    no_text = torch.tensor([caption == "" for caption in given_to_towers["captions"]])
    return no_text, (given_to_towers["pictures"] == 0).flatten(1).all(1)


@pytest.mark.parametrize(("drop_both", "text", "both", "image"), [(True, 0.1, 0.1, 0.1), (False, 0.2, 0.0, 0.1)])
def test_text_image_and_both_are_dropped(
    model: Model, many: Any, given_to_towers: dict[str, Any], drop_both: bool, text: float, both: float, image: float
) -> None:
    given = condition(model, many, stage(dropout=0.1, drop_both=drop_both), rows(400))
    no_text, no_image = without(given_to_towers)
    for dropped, share in ((no_text & ~no_image, text), (no_text & no_image, both), (no_image & ~no_text, image)):
        assert dropped.float().mean() == pytest.approx(share, abs=0.05 if share else 0)
    assert torch.equal(given.concat, many.z[:, :, :1].expand_as(many.z))  # the concatenated latent never goes with them


def test_a_picture_without_a_word_may_stand_still(model: Model, many: Any, given_to_towers: dict[str, Any]) -> None:
    moving = condition(model, many, stage(dropout=0.1, interpolate=0.5), rows(400))
    given = condition(model, many, stage(dropout=0.1, interpolate=0.5, still=True), rows(400))
    no_text, no_image = without(given_to_towers)
    stands = (given.z == given.z[:, :, :1]).flatten(1).all(1)
    interpolated = (given.concat[:, :, 1:-1] == 0).flatten(1).all(1)
    assert torch.equal(stands, no_text & ~no_image & ~interpolated) and stands.any()
    assert torch.equal(given.z[~stands], moving.z[~stands])


def test_a_share_of_the_clips_is_trained_without_vdg(model: Model, many: Any) -> None:
    given = condition(model, many, stage(vdg=0.75), rows(400))
    shown = (given.concat == many.z[:, :, :1]).flatten(1).all(1)
    empty = (given.concat == 0).flatten(1).all(1)
    assert shown.float().mean() == pytest.approx(0.75, abs=0.07)
    assert (shown | empty).all()


def test_clips_are_trained_with_the_weight_of_the_image_that_they_show(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ProceduralClips(16, 16, 4, fs=(2, 4), strengths=(0.5, 3))
    latents = encode_clips(model, source("train", range(6)), rows(6))
    told = {}
    monkeypatch.setattr(VideoUNet, "forward", lambda self, x, *_, **named: told.update(named) or x[:, :4])
    diffusion_loss(model, latents, stage(), model.family.schedule(), rows(6))
    assert torch.equal(told["image_strength"], latents.clips.strength)


def test_the_image_may_be_any_frame(model: Model, many: Any) -> None:
    given = condition(model, many, stage(random_frame=1.0), rows(400))
    chosen = ((given.concat[:, :, :1] - many.z).abs().amax((1, 3, 4)) == 0).float()  # b t
    assert chosen.sum(1).min() >= 1
    assert chosen.mean(0).min() > 0.15


def test_interpolation_gives_the_ends_and_nothing_between(model: Model, many: Any) -> None:
    given = condition(model, many, stage(interpolate=1.0), rows(400))
    assert torch.equal(given.concat[:, :, 0], many.z[:, :, 0])
    assert torch.equal(given.concat[:, :, -1], many.z[:, :, -1])
    assert not given.concat[:, :, 1:-1].any()


def test_loops_end_where_they_began(model: Model, many: Any) -> None:
    given = condition(model, many, stage(interpolate=1.0, loop=1.0), rows(400))
    assert torch.equal(given.z[:, :, 0], given.z[:, :, -1])
    assert torch.equal(given.z[:, :, 1], many.z[:, :, 2])


def test_the_first_stages_see_single_frames_without_vdg(model: Model, many: Any) -> None:
    given = condition(model, many, stage(frames=1, vdg=0), rows(400))
    assert given.z.shape[2] == 1 and given.image.shape[1] == 1
    assert not given.concat.any()


def test_clips_may_be_shorter_than_the_projector_was_made_for(model: Model, many: Any) -> None:
    projector = model.part("projector").config.frames
    pictures = many.clips.pixels[:2, :, 0]
    every = encode_image(model, pictures)
    assert every.shape[1] == projector
    half = encode_image(model, pictures, projector // 2)
    assert half.shape[1] == projector // 2
    assert torch.equal(half[:, 0], every[:, 0])
    assert torch.equal(half[:, -1], every[:, -1])


def test_timesteps_are_biased_to_high_noise() -> None:
    t = draw_timesteps(rows(4000), Timesteps(high_share=0.5))
    assert t.min() >= 0 and t.max() == 999
    assert (t >= 850).float().mean() == pytest.approx(0.5 + 0.5 * 0.15, abs=0.04)
    assert draw_timesteps(rows(200), Timesteps(low=999)).unique().tolist() == [999]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [NoiseSchedule("eps"), NoiseSchedule("v", zero_snr=True, base_scale=0.7)])
def test_the_right_answer_has_no_loss(model: Model, many: Any, schedule: NoiseSchedule, monkeypatch: Any) -> None:
    answers: dict[str, torch.Tensor] = {}
    real = NoiseSchedule.target
    monkeypatch.setattr(NoiseSchedule, "target", lambda self, *a: answers.setdefault("v", real(self, *a)))
    diffusion_loss(model, many, stage(), schedule, rows(400))
    from dynamicrafter_core.training import objectives

    monkeypatch.setattr(objectives, "predict", lambda *a: answers["v"])
    assert diffusion_loss(model, many, stage(), schedule, rows(400))[0] == 0


def test_gradient_checkpointing_changes_no_gradient(model: Model, many: Any) -> None:
    few = inputs.Latents(many.z[:2], SOURCE("train", range(2)))
    found = []
    for active in (False, True):
        checkpoint_stages(model.part("unet"), active)
        for parameter in model.part("unet").parameters():
            parameter.requires_grad_(True).grad = None
        torch.manual_seed(0)  # of dropout
        loss, _ = diffusion_loss(model, few, stage(), model.family.schedule(), rows(2))
        loss.backward()
        found.append(model.part("unet").out[2].weight.grad.clone())
    checkpoint_stages(model.part("unet"), False)
    model.part("unet").requires_grad_(False)
    assert found[0].any() and torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.slow
def test_accumulated_portions_learn_what_one_batch_does(tmp_path: Path) -> None:
    weights = []
    for micro in (0, 2):
        recipe = only("joint", steps=1, lr=0.01, warmup=0, micro=micro, reuse=1, dropout_layers=0.0)
        trainer = Trainer(recipe, tmp_path / str(micro), "cpu")
        trainer.run()
        weights.append(trainer.model.part("unet").out[2].weight)
    assert weights[0].abs().mean() > 1e-3
    assert torch.allclose(weights[0], weights[1], atol=1e-5)


@pytest.mark.slow
def test_bf16_learns_on_float32_copies(tmp_path: Path) -> None:
    recipe = only("joint", steps=3, lr=1e-4, warmup=0, precision="bf16", dropout_layers=0.0)
    trainer = Trainer(recipe, tmp_path, "cpu")
    assert next(trainer.model.part("unet").parameters()).dtype == torch.bfloat16
    layer = dict(trainer.model.named_parameters())["unet.time_embed.0.weight"]
    optimiser = Optimiser({"layer": layer}, recipe.stages[0], Ranks(torch.device("cpu")))
    before = optimiser.masters[0].clone()
    optimiser.gradients[0].fill_(1.0)
    optimiser.step(0)
    moved = before - optimiser.masters[0]
    assert torch.allclose(moved, torch.full_like(moved, 1e-4), rtol=0.05)  # less than bf16 can tell of most weights
    assert trainer.run() is not None


def test_the_average_follows_the_weights_slowly() -> None:
    layer = torch.nn.Parameter(torch.zeros(4, 4))
    optimiser = Optimiser(
        {"layer": layer}, stage(lr=0.1, warmup=0, ema=0.9, weight_decay=0.0), Ranks(torch.device("cpu"))
    )
    for step in range(40):
        optimiser.gradients[0].fill_(-1.0)
        optimiser.step(step)
    assert 0 < optimiser.average[0].mean() < layer.mean()
    optimiser.adopt_average()
    assert torch.equal(layer.data, optimiser.average[0])


def test_every_process_learns_about_as_much() -> None:
    ranks = Ranks(torch.device("cpu"))
    sizes = [1, 50, 7, 30, 1, 25, 3]
    for count, most in ((1, 117), (2, 59), (3, 50)):
        ranks.count = count
        owners = ranks.owners(sizes)
        shares = [sum(size for size, its in zip(sizes, owners, strict=True) if its == rank) for rank in range(count)]
        assert sum(shares) == sum(sizes) and min(shares) > 0
        assert max(shares) == most


def test_a_gradient_that_overflows_teaches_nothing() -> None:
    layer = torch.nn.Parameter(torch.ones(4, 4))
    optimiser = Optimiser({"layer": layer}, stage(lr=0.1, warmup=0), Ranks(torch.device("cpu")))
    optimiser.gradients[0].fill_(float("inf"))
    optimiser.step(0)
    assert torch.equal(layer.data, torch.ones(4, 4))


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    given = Stage("s", "diffusion", (), 110, 1, lr=1.0, warmup=10, last_lr=0.1)
    assert learning_rate(given, 0) == pytest.approx(0.1)
    assert learning_rate(given, 10) == pytest.approx(1.0)
    assert learning_rate(given, 60) == pytest.approx(0.55)
    assert learning_rate(given, 110) == pytest.approx(0.1)


def test_normalised_latents_have_unit_variance_and_decode_to_the_same() -> None:
    autoencoder = make_model(small_recipe(), CPU, torch.float32).part("autoencoder")
    pixels = SOURCE("train", range(8)).pixels[:, :, 0]
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(pixels)[0])
        normalise_latents(autoencoder, pixels)
        mean, _ = autoencoder.encode(pixels)
        assert torch.allclose(autoencoder.decode(mean), before, atol=1e-4)
    scaled = mean * 0.18215
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-3)


def test_moved_latents_should_give_the_moved_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoencoder that only averages squares moves with its picture; a share of none leaves all as it is."""
    model = make_model(small_recipe(), CPU, torch.float32)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 1, 4, 4), (1, 32, 32), mode="trilinear") * 2 - 1
    clips, seen = Clips(smooth, [""] * 6, torch.full((6,), 8)), []

    def decode(z: torch.Tensor) -> torch.Tensor:
        seen.append(z)
        return torch.nn.functional.interpolate(z, scale_factor=2, mode="bilinear")

    monkeypatch.setattr(model.part("autoencoder"), "decode", decode)
    monkeypatch.setattr(
        model.part("autoencoder"),
        "encode",
        lambda x: (z := torch.nn.functional.avg_pool2d(x, 2), torch.full_like(z, -30.0)),
    )
    losses = [
        autoencoder_loss(model, clips, stage(frames=1, equivariance=share), rows(6))[1]["mse"] for share in (0.0, 1.0)
    ]
    assert not torch.allclose(seen[0], seen[1], atol=0.01)
    assert float(losses[1]) < 2 * float(losses[0]) + 1e-3
    still = [
        autoencoder_loss(model, clips, stage(frames=1), rows(6))[0],
        autoencoder_loss(model, clips, stage(frames=1, equivariance=0.0), rows(6))[0],
    ]
    assert torch.equal(*still)


def test_groups_part_the_unet_in_space_and_time(model: Model) -> None:
    spatial, temporal = model.select(("unet.spatial",)), model.select(("unet.temporal",))
    assert not spatial.keys() & temporal.keys()
    assert len(spatial) + len(temporal) == len(list(model.part("unet").parameters()))
    assert any("temopral_conv" in name for name in temporal) and any(".init_attn." in f".{name}" for name in temporal)
    assert list(model.select(("unet.vdg",))) == ["unet.input_blocks.0.0.weight", "unet.input_blocks.0.0.bias"]
    assert all("attn2.to_k_ip" in name for name in model.select(("unet.*attn2.to_k_ip*",)))


@pytest.mark.slow
def test_only_what_a_stage_names_is_trained(tmp_path: Path) -> None:
    trainer = Trainer(only("joint", steps=3, lr=0.01, warmup=0, train=["unet.out.*"]), tmp_path, "cpu")
    before = {name: value.clone() for name, value in trainer.model.state().items()}
    trainer.run()
    changed = {name for name, value in trainer.model.state().items() if not torch.equal(value, before[name])}
    assert "unet.out.2.weight" in changed
    assert all(name.startswith("unet.out.") for name in changed)


def test_plain_attention_is_attention() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, length, 8).bfloat16() for length in (5, 7, 7))
    plain = attend_in_rows(q, k, v, 2)
    assert torch.allclose(plain.float(), attend(q.float(), k.float(), v.float(), 2), atol=0.03)


def test_attention_in_portions_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, length, 8) for length in (5, 7, 7))
    whole = attend(q, k, v, 2)
    monkeypatch.setattr("dynamicrafter_core.training.model._ROWS", 2)
    assert torch.allclose(attend_in_rows(q, k, v, 2), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"log_every": "often"}, "has the log_every 'often'; give a whole number"),
        ({"data": [1]}, "has the data .*; give an object"),
        ({"figures": {"width": 16.5}}, "figures have the width 16.5; give a whole number"),
        ({"figures": {"unet": {}}}, "figures have the unet"),
        ({"model": {"unet": {"model_channels": "8"}}}, "unet has the model_channels '8'; give a whole number"),
        ({"model": {"text": {"heads": 0}}}, "text cannot be built with these figures"),
        ({"model": {"text": {"layers": 10**9}}}, "text: layers is 1000000000; give a number from 0 to 64"),
        ({"model": {"vision": {"wings": 2}}}, "vision has an unknown setting: 'wings'"),
        ({"lora": {"rank": "2"}}, "LoRA's rank is '2'"),
    ],
)
def test_a_recipe_of_the_wrong_kinds_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        Trainer(small_recipe(**changes), tmp_path / "run", "cpu")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "procedural", "height": 0}, "data's height is 0"),
        ({"kind": "procedural", "motions": [["still"]]}, "data's motions is .*; give a list"),
        ({"kind": "procedural", "fs": 5}, "data's fs is 5; give a list"),
        ({"kind": "mixed", "parts": [{"share": "1"}]}, "share of a part of the data is '1'"),
    ],
)
def test_data_of_the_wrong_kinds_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_source({"height": 16, "width": 16, "frames": 4, **data}, 0, torch.device("cpu"))


def test_a_log_on_a_full_disk_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    folder = RunFolder(tmp_path, "{}")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match="log.jsonl cannot be written .no space left on device"):
        folder.log({"loss": 1.0})
