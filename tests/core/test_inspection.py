"""What `describe` tells of a file is plain data, and names the problem where there is one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint

from dynamicrafter_core.checkpoints.inspection import describe

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "dynamicrafter_512.safetensors"
    return tiny_checkpoint(path, "dynamicrafter_512", torch.float16)


def test_describe_tells_what_a_file_is_as_plain_data(half):
    told = describe(half)
    assert json.loads(json.dumps(told)) == told
    assert (told["family"], told["title"], told["problem"]) == ("dynamicrafter_512", "DynamiCrafter 512", None)
    assert told["evidence"]
    unet = told["parts"]["unet"]
    tensors = [value for key, value in load_file(half).items() if key.startswith(UNET)]
    assert unet == {
        "tensors": 1516,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "bytes": sum(tensor.nbytes for tensor in tensors),
        "dtypes": {"float16": 1516},
    }


@pytest.mark.slow
def test_describe_names_the_problem_of_a_file_that_does_not_load(half, tmp_path):
    state = load_file(half)
    del state[UNET + "out.2.bias"]
    save_file(state, tmp_path / "512.safetensors")
    told = describe(tmp_path / "512.safetensors")
    assert told["family"] is None
    assert "out.2.bias" in told["problem"]
    assert told["parts"]["unet"]["tensors"] == 1515
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.ones(1)}, tmp_path / "flux.safetensors")
    assert "Flux" in describe(tmp_path / "flux.safetensors")["problem"]
