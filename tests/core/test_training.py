"""Training as a whole: it ends in a file that loads, goes on where it was stopped, and tells what it does."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_checkpoint
from training_recipes import only, small_recipe

from dynamicrafter_core import devices
from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.transformers import TemporalAttention
from dynamicrafter_core.pipeline.pipeline import EMBEDDED
from dynamicrafter_core.training.command import main
from dynamicrafter_core.training.model import make_model
from dynamicrafter_core.training.recipe import Recipe, parse_recipe, read_recipe
from dynamicrafter_core.training.trainer import Trainer


def train(recipe: Recipe, folder: Path, **more: object) -> dict[str, torch.Tensor]:
    trainer = Trainer(recipe, folder, "cpu", **more)  # type: ignore[arg-type]
    result = trainer.run()
    assert result is not None
    return load_file(result)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(small_recipe(), folder)
    return folder


@pytest.mark.slow
def test_all_stages_end_in_a_file_that_loads_as_its_family(whole: Path) -> None:
    checkpoint = load_checkpoint(whole / "model.safetensors")
    assert checkpoint.family.name == "dynamicrafter_512"
    assert (checkpoint.family.width, checkpoint.family.frames) == (16, 4)
    assert checkpoint.parts == ("unet", "autoencoder", "text", "vision", "projector")
    for part in checkpoint.parts:
        module = checkpoint.load(part)
        assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert checkpoint.configs["unet"].norm_groups == 4  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_file_tells_how_it_was_made(whole: Path) -> None:
    from safetensors import safe_open

    with safe_open(whole / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["license"] == "Apache-2.0"
    assert metadata["seed"] == "3"
    assert parse_recipe(json.loads(metadata["recipe"])).stages == small_recipe().stages


@pytest.mark.slow
def test_the_log_and_the_report_show_every_stage(whole: Path) -> None:
    entries = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert {entry["stage"] for entry in entries} == {"autoencoder", "towers", "projector", "joint"}
    assert {"loss", "lr", "clips_per_second"} <= entries[0].keys()
    page = (whole / "report.html").read_text()
    assert "<polyline" in page and "data:image/png" in page and "loss_999_opposite" in page


@pytest.mark.slow
def test_another_run_of_the_same_recipe_is_the_same(whole: Path, tmp_path: Path) -> None:
    assert same(train(small_recipe(), tmp_path), load_file(whole / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(1,), (3, 5), (7, 8, 10)])
def test_a_stopped_run_goes_on_to_the_same_result(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    for stop in stops:
        trainer = Trainer(small_recipe(), tmp_path, "cpu")
        step = trainer._step

        def stopping(*given: object, trainer: Trainer = trainer, step: object = step, stop: int = stop) -> object:
            trainer.stopped = trainer.total + 1 >= stop
            return step(*given)  # type: ignore[operator]

        trainer._step = stopping  # type: ignore[method-assign]
        assert trainer.run() is None
        assert trainer.total == stop
    assert same(train(small_recipe(), tmp_path), load_file(whole / "model.safetensors"))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_save(whole: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_recipe(save_seconds=0), tmp_path, "cpu")
    step = trainer._step

    def dying(*given: object) -> object:
        if trainer.total == 9:
            raise KeyboardInterrupt
        return step(*given)  # type: ignore[arg-type]

    trainer._step = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(small_recipe(save_seconds=0), tmp_path, "cpu")
    assert again.total == 9
    assert same(load_file(again.run()), load_file(whole / "model.safetensors"))  # type: ignore[arg-type]
    totals = [json.loads(line)["total"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert totals == sorted(totals)


@pytest.mark.slow
def test_a_folder_is_not_gone_on_with_by_another_recipe(whole: Path) -> None:
    with pytest.raises(InputError, match="another recipe"):
        Trainer(small_recipe(seed=4), whole, "cpu")


@pytest.mark.slow
def test_a_run_of_automatic_precision_goes_on_where_bf16_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(only("joint", steps=4, precision="auto"), save_seconds=0.0)
    for units, dtype, minutes in ((["avx512_bf16"], torch.bfloat16, 0), (["avx2"], torch.float32, None)):
        monkeypatch.setattr(devices, "arithmetic_units", lambda units=units: units)
        trainer = Trainer(recipe, tmp_path, "cpu")
        assert next(trainer.model.part("unet").parameters()).dtype == dtype
        assert (trainer.total > 0) == (dtype is torch.float32)
        result = trainer.run(minutes=minutes)
    assert result is not None and all(value.isfinite().all() for value in load_file(result).values())


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    recipe = only("joint", steps=2, lr=0.01, warmup=0, dropout_layers=0.0, dtype="fp32")
    (tmp_path / "recipe.json").write_text(recipe.source)
    single = train(recipe, tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "dynamicrafter_core.training.command", "train", str(tmp_path / "recipe.json")]
    command += ["-o", str(tmp_path / "two"), "--device", "cpu", "--quiet"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "--minutes", "0"], cwd=root, timeout=170)  # stopped after its first step
    shutil.copytree(tmp_path / "two", tmp_path / "handed over")
    subprocess.run(command, check=True, cwd=root, timeout=170)
    double = load_file(tmp_path / "two" / "model.safetensors")
    key = "model.diffusion_model.out.2.weight"  # nothing at the start
    assert single[key].abs().mean() > 1e-3
    for other in (double, train(recipe, tmp_path / "handed over")):  # what two have kept, one can go on with
        for name, tensor in single.items():
            assert (tensor - other[name]).abs().float().mean() < 1e-5, name  # sums in another order


@pytest.mark.slow
def test_the_command_stops_in_time_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text(only("joint", steps=2).source)
    command = ["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert main([*command, "--minutes", "0", "--split"]) == 3
    assert "stopped at step 1 of 2" in capsys.readouterr().out
    so_far = tmp_path / "run" / "so-far.safetensors"
    assert main(command) == 0
    result = Path(capsys.readouterr().out.strip())
    assert load_file(so_far).keys() == load_file(result).keys()
    parts = [so_far.with_name(f"so-far.{part}.safetensors") for part in load_checkpoint(so_far).parts]
    whole, split = load_checkpoint(so_far), load_checkpoint(parts[0], extra=parts[1:])
    assert same(whole.state_dict("unet"), split.state_dict("unet")) and split.family == whole.family


@pytest.mark.slow
def test_a_recipe_continues_from_the_embedded_model(tmp_path: Path) -> None:
    recipe = only("joint", steps=1, lr=0.0, model={}, initial=["embedded"])
    trained, given = train(recipe, tmp_path), load_file(EMBEDDED / "model.safetensors")
    key = "model.diffusion_model.out.2.weight"
    assert torch.equal(trained[key], given[key])


def test_a_causal_recipe_trains_a_model_that_sees_only_the_past_and_says_so(tmp_path: Path) -> None:
    """Its file is loaded so, trained on so, and may be made free again."""
    train(only("joint", steps=1, causal=True), tmp_path)
    file = tmp_path / "model.safetensors"
    checkpoint = load_checkpoint(file)
    unet = checkpoint.load("unet")
    assert checkpoint.configs["unet"].causal and unet.get_submodule("middle_block.2.transformer_blocks.0.attn1").causal  # type: ignore[union-attr]
    for asked, found in ((None, True), (True, True), (False, False)):
        recipe = only("joint", model={}, initial=[str(file)], causal=asked)
        again = make_model(recipe, torch.device("cpu"), torch.float32).parts["unet"]
        layers = [layer.causal for layer in again.modules() if isinstance(layer, TemporalAttention)]
        assert len(layers) > 4 and set(layers) == {found} and again.config.causal is found  # type: ignore[union-attr]
    with pytest.raises(InputError, match="The recipe's causal is True, and its model has no UNet; leave it out"):
        make_model(only("autoencoder", model={"autoencoder": {}}, causal=True), torch.device("cpu"), torch.float32)
    with pytest.raises(InputError, match="has the causal 'yes'; give true or false or null"):
        only("joint", causal="yes")


@pytest.mark.slow
def test_a_distilled_model_is_not_trained(tmp_path: Path) -> None:
    bare = tiny_checkpoint(tmp_path / "unet_mg.safetensors", "t2v_turbo_v2_mg", parts=("unet",))
    recipe = only("joint", steps=1, lr=0.0, model={}, initial=[str(bare)])
    with pytest.raises(InputError, match="T2V-Turbo-v2.*is distilled.*train VideoCrafter2 instead"):
        make_model(recipe, torch.device("cpu"), torch.float32)


def test_a_lora_is_not_split(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(only("joint", lora={"rank": 1}).source)
    with pytest.raises(InputError, match="leave --split out"):
        main(["train", str(tmp_path / "recipe.json"), "--split"])


@pytest.mark.parametrize("name", ["tiny", "embedded", "pictures", "few_steps"])
def test_the_recipes_of_the_package_are_whole(name: str) -> None:
    assert read_recipe(name).name == name


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"stages": []}, "no stages"),
        ({**json.loads(small_recipe().source), "sead": 1}, "the nearest is seed"),
        ({**json.loads(small_recipe().source), "precision": "int4"}, "precision"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(raw: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_recipe(raw)


def test_a_stage_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unet.spatial"):
        Trainer(only("joint", train=["nothing"]), tmp_path, "cpu").run()
