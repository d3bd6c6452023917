"""A model that grows goes on from exactly what it knew; an autoencoder that learns on keeps the axes of its latents."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_recipes import SMALL, only, small_recipe

from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.growth import grow
from dynamicrafter_core.training.model import Model, align_latents, latents_before, make_model, save_model
from dynamicrafter_core.training.recipe import Recipe
from dynamicrafter_core.training.trainer import Trainer

CPU = torch.device("cpu")
GROWN = {"unet": {"attention_levels": [0, 1], "res_blocks": 2}, "autoencoder": {"res_blocks": 2}}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with no layer silent, as if it had learned."""
    model = make_model(small_recipe(), CPU, torch.float32)
    torch.manual_seed(1)
    for _, parameter in model.named_parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return save_model(tmp_path_factory.mktemp("taught") / "model.safetensors", model, {}, torch.float32, {})


def loaded(taught: Path, **changes: Any) -> Model:
    return make_model(small_recipe(model={}, initial=[str(taught)], **changes), CPU, torch.float32)


def answer(model: Model) -> torch.Tensor:
    dice = torch.Generator().manual_seed(2)
    x, text, image = (torch.randn(*size, generator=dice) for size in ((2, 8, 4, 8, 8), (2, 5, 8), (2, 4, 2, 8)))
    unet = model.part("unet").eval()
    with torch.no_grad():
        made: torch.Tensor = unet(x, torch.tensor([700, 30]), text, image, torch.tensor([8, 20]))
    return made


def test_a_grown_model_does_what_the_loaded_one_did(taught: Path) -> None:
    """Attention at a level that ends in upsampling too, which moves the upsampling in its stage."""
    plain, grown = loaded(taught), loaded(taught, grow=GROWN)
    assert grown.part("unet").config.attention_levels == (0, 1)
    assert len(list(grown.named_parameters())) > len(list(plain.named_parameters()))
    assert torch.equal(answer(plain), answer(grown))
    pixels = ProceduralClips(16, 16, 4)("train", range(4)).pixels[:, :, 0]
    for model in (plain, grown):
        model.part("autoencoder").eval()
    with torch.no_grad():
        mean, logvar = plain.part("autoencoder").encode(pixels)
        assert all(
            torch.equal(a, b) for a, b in zip((mean, logvar), grown.part("autoencoder").encode(pixels), strict=True)
        )
        assert torch.equal(plain.part("autoencoder").decode(mean), grown.part("autoencoder").decode(mean))


def test_a_unet_that_has_grown_and_learned_grows_again(taught: Path) -> None:
    plain, again = (loaded(taught, grow={"unet": {"res_blocks": 2}}) for _ in range(2))
    for model in (plain, again):
        torch.manual_seed(3)
        for parameter in model.part("unet").parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    again.parts["unet"] = grow("unet", again.part("unet"), {"res_blocks": 4})
    assert len(again.part("unet").input_blocks) == len(plain.part("unet").input_blocks) + 4
    assert torch.equal(answer(plain), answer(again))


def test_an_autoencoder_of_one_more_level_begins_near_the_loaded_one(taught: Path) -> None:
    """For pictures of twice the size, by way of the same latents."""
    plain = loaded(taught).part("autoencoder").eval()
    mult = (plain.config.channel_mult[0], *plain.config.channel_mult)
    grown = loaded(taught, grow={"autoencoder": {"channel_mult": list(mult)}}).part("autoencoder").eval()
    assert grown.config.size_factor == 2 * plain.config.size_factor
    large = ProceduralClips(32, 32, 1)("train", range(8)).pixels[:, :, 0]
    with torch.no_grad():
        wanted = latents_before(plain, grown, large)
        mean = grown.encode(large)[0]
        made, small = grown.decode(wanted), plain.decode(wanted)
    assert mean.shape == wanted.shape and made.shape == large.shape
    for own, other in ((mean, wanted), (torch.nn.functional.avg_pool2d(made, 2), small)):
        assert likeness(own, other) > 0.8


def test_latents_of_more_channels_begin_with_the_loaded_ones(taught: Path, tmp_path: Path) -> None:
    """And the new ones are written, read and predicted after a few steps."""
    more = {"unet": {"in_channels": 12, "out_channels": 6}, "autoencoder": {"z_channels": 6, "embed_dim": 6}}
    plain, grown = loaded(taught), loaded(taught, grow=more)
    pixels = ProceduralClips(16, 16, 4)("train", range(4)).pixels[:, :, 0]
    dice = torch.Generator().manual_seed(2)
    x, concat = torch.randn(2, 6, 4, 8, 8, generator=dice), torch.randn(2, 6, 4, 8, 8, generator=dice)
    rest = (
        torch.tensor([700, 30]), torch.randn(2, 5, 8, generator=dice), torch.randn(2, 4, 2, 8, generator=dice),
        torch.tensor([8, 20]),
    )  # fmt: skip
    old, new = (model.part("autoencoder").eval() for model in (plain, grown))
    with torch.no_grad():
        for before, after in zip(old.encode(pixels), new.encode(pixels), strict=True):
            assert torch.allclose(before, after[:, :4], atol=1e-5) and float(after[:, 4:].std()) > 0
        mean = new.encode(pixels)[0]
        assert torch.allclose(old.decode(mean[:, :4]), new.decode(mean), atol=1e-5)
        before = plain.part("unet").eval()(torch.cat([x[:, :4], concat[:, :4]], 1), *rest)
        after = grown.part("unet").eval()(torch.cat([x, concat], 1), *rest)
    assert torch.equal(before, after[:, :4]) and not after[:, 4:].any()

    stages = [{**SMALL["stages"][0], "lr": 0.01, "warmup": 0}, {**SMALL["stages"][3], "lr": 0.01, "warmup": 0}]
    trainer = Trainer(small_recipe(model={}, initial=[str(taught)], grow=more, stages=stages), tmp_path, "cpu")
    trainer.run()
    unet, autoencoder = trainer.model.part("unet"), trainer.model.part("autoencoder")
    assert autoencoder.decoder.conv_in.weight[:, 4:].any() and unet.out[2].weight[4:].any()
    first = unet.input_blocks[0][0].weight
    assert first[:, 4:6].any() and first[:, 10:12].any()
    assert load_checkpoint(tmp_path / "model.safetensors").configs["unet"].out_channels == 6  # type: ignore[union-attr]


def test_a_unet_that_does_not_read_the_latents_is_not_trained(taught: Path, tmp_path: Path) -> None:
    more = {"autoencoder": {"z_channels": 6, "embed_dim": 6}}
    trainer = Trainer(only("joint", model={}, initial=[str(taught)], grow=more), tmp_path, "cpu")
    with pytest.raises(InputError, match="reads latents of 4 channels, and the autoencoder makes 6; let both grow"):
        trainer.run()


def test_what_has_grown_learns_and_is_saved(taught: Path, tmp_path: Path) -> None:
    recipe = only("joint", steps=2, lr=0.01, warmup=0, train=["unet"], model={}, initial=[str(taught)], grow=GROWN)
    Trainer(recipe, tmp_path, "cpu").run()
    file = tmp_path / "model.safetensors"
    again = load_checkpoint(file)
    assert again.configs["unet"].attention_levels == (0, 1) and again.configs["autoencoder"].res_blocks == 2  # type: ignore[union-attr]
    silent = load_checkpoint(taught).load("unet").state_dict()
    new = {
        name: t
        for name, t in again.load("unet").state_dict().items()
        if name.endswith("proj_out.weight") and name not in silent
    }
    assert len(new) >= 4 and all(float(tensor.abs().max()) > 0 for tensor in new.values())


def test_a_grown_file_does_not_grow_again(taught: Path, tmp_path: Path) -> None:
    grown = loaded(taught, grow=GROWN)
    for _, parameter in grown.named_parameters():
        parameter.data.add_(0.01)
    file = save_model(tmp_path / "grown.safetensors", grown, {}, torch.float32, {})
    assert torch.equal(answer(loaded(file, grow=GROWN)), answer(grown))


@pytest.mark.parametrize(
    ("grow", "words"),
    [
        (
            {"unet": {"model_channels": 16}},
            "model_channels of a loaded unet cannot grow; these can: unet: attention_levels",
        ),
        ({"text": {"layers": 3}}, "layers of a loaded text cannot grow"),
        ({"unet": {"attention_levels": []}}, r"lacks \d+ of the loaded one's tensors, such as .*: give them and more"),
        (
            {"autoencoder": {"channel_mult": [2, 1, 2]}},
            r"grown autoencoder has .* add new levels before the loaded ones",
        ),
        ({"autoencoder": {"channel_mult": [2]}}, r"grown autoencoder lacks \d+ of the loaded one's tensors"),
        ({"unet": {"attention_level": [0]}}, "unknown setting: 'attention_level'"),
        ({"unet": {"out_channels": 6}}, "has in_channels 8 and out_channels 6; let both grow alike, from 8 and 4"),
        ({"autoencoder": {"z_channels": 2, "embed_dim": 2}}, "has z_channels 2 and embed_dim 2; let both grow alike"),
        ({"autoencoder": {"channel_mult": [1, 4], "z_channels": 6, "embed_dim": 6}}, "of shape"),
        ({"control": {"depth": 1}}, "grows a control, and its initial files have none; they have"),
    ],
)
def test_what_cannot_grow_is_refused(taught: Path, grow: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        loaded(taught, grow=grow)


def test_growing_by_nothing_changes_nothing(taught: Path) -> None:
    assert torch.equal(answer(loaded(taught, grow={"text": {}, "unet": {}})), answer(loaded(taught)))


def test_a_recipe_and_its_first_stage_grow_the_model_together(taught: Path, tmp_path: Path) -> None:
    stages = [{**SMALL["stages"][3], "grow": {"unet": {"res_blocks": 2}}}]
    both = small_recipe(model={}, initial=[str(taught)], grow={"unet": {"attention_levels": [0, 1]}}, stages=stages)
    config = Trainer(both, tmp_path, "cpu").model.part("unet").config
    assert config.attention_levels == (0, 1) and config.res_blocks == 2


def test_a_part_that_is_made_anew_does_not_grow() -> None:
    with pytest.raises(InputError, match="grows a unet, and its initial files have none"):
        make_model(small_recipe(grow=GROWN), CPU, torch.float32)


def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean of their channels' correlations."""
    pairs = zip(a.transpose(0, 1).flatten(1), b.transpose(0, 1).flatten(1), strict=True)
    return sum(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs) / a.shape[1]


def turned(autoencoder: Any) -> Any:
    """The same pictures by way of latents that are turned, stretched and shifted, as learning might leave them."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))[0] * 3
    shift = torch.arange(4.0)
    into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
    with torch.no_grad():
        into.weight[:4] = torch.einsum("ij,jkhw->ikhw", turn, into.weight[:4].clone())
        into.bias[:4] = turn @ into.bias[:4] + shift
        out.weight.copy_(torch.einsum("ijhw,jk->ikhw", out.weight.clone(), turn.inverse()))
        out.bias.sub_(out.weight[:, :, 0, 0] @ shift)
    return autoencoder


def test_aligned_latents_are_those_of_before_and_decode_to_the_same() -> None:
    before = make_model(small_recipe(), CPU, torch.float32).part("autoencoder")
    after = turned(copy.deepcopy(before))
    pixels = ProceduralClips(16, 16, 4)("train", range(16)).pixels[:, :, 0]
    with torch.no_grad():
        was = after.decode(after.encode(pixels)[0])
        align_latents(after, before, pixels)
        mean, logvar = after.encode(pixels)
        wanted, spread = before.encode(pixels)
        assert torch.allclose(mean, wanted, atol=1e-3)
        assert torch.allclose(after.decode(mean), was, atol=1e-3)
        assert float((logvar + 2 * torch.tensor(3.0).log() - spread).abs().mean()) < 0.5  # a turn mixes the variances


@pytest.mark.parametrize("align", [False, True])
def test_a_stage_aligns_with_the_initial_autoencoder(taught: Path, tmp_path: Path, align: bool) -> None:
    pixels = ProceduralClips(16, 16, 4)("train", range(100, 132)).pixels[:, :, 0]
    trainer = Trainer(
        only("autoencoder", steps=1, lr=0.0, align=align, model={}, initial=[str(taught)]), tmp_path, "cpu"
    )
    initial = copy.deepcopy(trainer.model.part("autoencoder"))
    turned(trainer.model.part("autoencoder"))
    trainer.run()
    with torch.no_grad():
        own, old = (each.encode(pixels)[0] for each in (trainer.model.part("autoencoder"), initial))
    assert (likeness(own, old) > 0.999) is align


@pytest.mark.parametrize("grow", [{}, {"autoencoder": {"channel_mult": [1, 1, 2]}}])
def test_an_anchor_holds_latents_to_the_initial_ones(taught: Path, tmp_path: Path, grow: dict[str, Any]) -> None:
    """Also in a run that was stopped, and for an autoencoder that has grown: against the loaded one, at half the size."""
    large = ProceduralClips(32, 32, 4)("train", range(100, 116)).pixels[:, :, 0]
    far = {}
    for anchor in (0.0, 10_000.0):
        recipe = only(
            "autoencoder",
            steps=40,
            lr=0.003,
            warmup=0,
            ema=0.0,
            anchor=anchor,
            model={},
            initial=[str(taught)],
            grow=grow,
        )
        before = loaded(taught).part("autoencoder")
        folder = tmp_path / str(anchor)
        Trainer(recipe, folder, "cpu").run(minutes=0)
        trainer = Trainer(recipe, folder, "cpu")
        trainer.run()
        own = trainer.model.part("autoencoder")
        with torch.no_grad():
            wanted = latents_before(before, own, large)
            far[anchor] = 1 - likeness(own.encode(large)[0], wanted)
    assert far[10_000.0] < 0.5 * far[0.0]


def test_to_an_autoencoder_that_has_learned_nothing_none_is_aligned(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="to those of an autoencoder that has learned nothing"):
        Trainer(only("autoencoder", align=True), tmp_path, "cpu")


def growing_recipe() -> Recipe:
    """Grows between two stages, its autoencoder for pictures of twice the size."""
    stages = {stage["name"]: stage for stage in copy.deepcopy(SMALL["stages"])}
    large: dict[str, Any] = {"data": {"height": 32, "width": 32}}
    grown = {
        **{**stages["autoencoder"], "name": "grown", "steps": 3, "anchor": 5.0, "align": True, **large},
        "grow": {"autoencoder": {"channel_mult": [1, 1, 2]}, "unet": {"attention_levels": [0, 1]}},
        "figures": {"width": 32, "height": 32},
    }
    after = {**stages["joint"], "name": "after", "steps": 2, **large}
    return small_recipe(stages=[stages["autoencoder"], {**stages["joint"], "steps": 2}, grown, after], save_seconds=0)


@pytest.mark.slow
def test_a_stage_that_grows_the_model_resumes_as_if_never_stopped(tmp_path: Path) -> None:
    recipe = growing_recipe()
    file = Trainer(recipe, tmp_path / "whole", "cpu").run()
    assert file is not None
    checkpoint, whole = load_checkpoint(file), load_file(file)
    assert (checkpoint.family.width, checkpoint.family.height) == (32, 32)
    assert checkpoint.configs["autoencoder"].channel_mult == (1, 1, 2)  # type: ignore[union-attr]
    assert checkpoint.configs["unet"].attention_levels == (0, 1)  # type: ignore[union-attr]
    runs = 0
    while (again := Trainer(recipe, tmp_path / "stopped", "cpu").run(minutes=0)) is None:
        runs += 1
    assert runs >= 4
    killed = Trainer(recipe, tmp_path / "killed", "cpu")

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    begin = killed._begin
    killed._begin = lambda stage: dying() if stage.name == "grown" else begin(stage)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = Trainer(recipe, tmp_path / "killed", "cpu")
    assert (resumed.position.stage, resumed.position.step) == (2, 0)
    for other in (again, resumed.run()):
        assert other is not None
        made = load_file(other)
        assert made.keys() == whole.keys() and all(torch.equal(made[name], whole[name]) for name in whole)


def test_a_model_under_a_lora_does_not_grow_in_a_stage() -> None:
    with pytest.raises(InputError, match="grows in stage autoencoder; leave that grow out"):
        small_recipe(lora={"rank": 1}, stages=[{**SMALL["stages"][0], "grow": {"unet": {"res_blocks": 2}}}])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grow": {"unet": {"model_channels": 16}}}, "model_channels of a loaded unet cannot grow"),
        ({"grow": {"control": {"depth": 1}}}, "A stage grows a control, and the recipe's model has none; it has"),
        ({"grow": {"unet": {"res_blocks": -1}}}, "res_blocks"),
        ({"figures": {"widht": 16}}, "figures contain widht"),
        (
            {"align": True, "grow": {"autoencoder": {"z_channels": 6, "embed_dim": 6}}},
            "Stage joint aligns latents of more channels with those before them; give it an anchor instead",
        ),
        ({"figures": {"width": "16"}}, "the width '16'; give"),
    ],
)
def test_what_a_later_stage_cannot_change_is_said_before_the_first(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    stages = copy.deepcopy(SMALL["stages"])
    stages[3].update(changes)
    with pytest.raises(InputError, match=words):
        Trainer(small_recipe(stages=stages), tmp_path, "cpu")
