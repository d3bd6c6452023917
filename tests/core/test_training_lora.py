"""LoRA training: the weights stay, a small file comes out, and it does to the model what training did."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_recipes import only, small_recipe

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training.lora import merge_lora
from dynamicrafter_core.training.model import load_model
from dynamicrafter_core.training.trainer import Trainer


def lora_recipe(initial: Path, **settings: object) -> object:
    changes = {"lora": {"rank": 2, "alpha": 4, **settings}, "model": {}, "initial": [str(initial)]}
    return only("joint", steps=2, lr=0.02, warmup=0, train=[], **changes)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in a file, as a LoRA is trained on; its zero-initialised layers filled, so that all layers matter."""
    trainer = Trainer(small_recipe(), tmp_path_factory.mktemp("released"), "cpu")
    torch.manual_seed(1)
    for parameter in trainer.model.part("unet").parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return trainer.export(trainer.folder.path / "released.safetensors")


@pytest.mark.slow
def test_the_file_has_the_names_that_hosts_read(released: Path, tmp_path: Path) -> None:
    trainer = Trainer(lora_recipe(released), tmp_path, "cpu")  # type: ignore[arg-type]
    tensors = load_file(trainer.run())  # type: ignore[arg-type]
    weights = trainer.model.part("unet").state_dict()
    layer = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k_ip"
    assert {f"{layer}.lora_up.weight", f"{layer}.lora_down.weight", f"{layer}.alpha"} <= tensors.keys()
    for name, tensor in tensors.items():
        if name.endswith(".lora_up.weight"):
            layer = name.removesuffix(".lora_up.weight")
            product = tensor @ tensors[f"{layer}.lora_down.weight"]
            assert product.shape == weights[layer.removeprefix("diffusion_model.") + ".weight"].shape
            assert tensors[f"{layer}.alpha"] == 4


@pytest.mark.slow
def test_merged_into_the_weights_it_gives_what_was_trained(released: Path, tmp_path: Path) -> None:
    trainer = Trainer(lora_recipe(released), tmp_path, "cpu")  # type: ignore[arg-type]
    tensors = load_file(trainer.run())  # type: ignore[arg-type]
    plain = Trainer(lora_recipe(released), tmp_path / "other", "cpu").model.part("unet").eval()  # type: ignore[arg-type]
    again = load_model([released], torch.device("cpu"), torch.float32)
    torch.manual_seed(0)
    inputs = (torch.randn(1, 8, 4, 8, 8), torch.tensor([500]), torch.randn(1, 5, 8), torch.randn(1, 4, 2, 8))
    with torch.no_grad():
        trained, before = trainer.model.part("unet").eval()(*inputs), plain(*inputs)
        for name in tensors:
            if name.endswith(".lora_up.weight"):
                layer = name.removesuffix(".lora_up.weight")
                change = tensors[name] @ tensors[f"{layer}.lora_down.weight"] * (4 / 2)
                plain.get_submodule(layer.removeprefix("diffusion_model.")).weight += change
        merged = plain(*inputs)
        merge_lora(again, tmp_path / "model.safetensors")
        assert torch.allclose(again.part("unet").eval()(*inputs), merged, atol=1e-5)
    assert (trained - before).abs().max() > 1e-3
    assert torch.allclose(trained, merged, atol=1e-5)


def test_only_temporal_layers_when_asked_so(released: Path, tmp_path: Path) -> None:
    trainer = Trainer(lora_recipe(released, layers=["temporal"]), tmp_path, "cpu")  # type: ignore[arg-type]
    names = trainer.lora.names  # type: ignore[union-attr]
    assert "middle_block.2.transformer_blocks.0.attn1.to_q" in names
    assert not any(name.startswith("middle_block.1.") for name in names)


@pytest.mark.slow
def test_a_stopped_lora_goes_on_to_the_same_file(released: Path, tmp_path: Path) -> None:
    whole = load_file(Trainer(lora_recipe(released), tmp_path / "whole", "cpu").run())  # type: ignore[arg-type]
    assert Trainer(lora_recipe(released), tmp_path / "parts", "cpu").run(minutes=0) is None  # type: ignore[arg-type]
    parts = load_file(Trainer(lora_recipe(released), tmp_path / "parts", "cpu").run())  # type: ignore[arg-type]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_unknown_layers_are_refused(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'audio'"):
        Trainer(lora_recipe(released, layers=["audio"]), tmp_path, "cpu")  # type: ignore[arg-type]


def test_a_lora_of_another_model_is_not_merged(released: Path, tmp_path: Path) -> None:
    model = load_model([released], torch.device("cpu"), torch.float32)
    layer = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q"
    up, down = torch.zeros(3, 2), torch.zeros(2, 3)
    save_file(
        {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down, f"{layer}.alpha": torch.tensor(1.0)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(InputError, match="not a LoRA of this model, which has no layer .*to_q of 3 by 3"):
        merge_lora(model, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as a LoRA"):
        merge_lora(model, tmp_path / "b.safetensors")
