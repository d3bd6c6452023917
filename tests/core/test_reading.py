"""Files of every container are opened lazily; files that are something else are refused by its name."""

import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.errors import InputError

STATE = {
    "a.weight": torch.arange(6400.0).reshape(64, 100),
    "b": torch.ones(2, dtype=torch.bfloat16),
    "c": torch.tensor(0.5, dtype=torch.float16),
}


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        open_file(path)
    sentence = str(error.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def stored(folder: Path, container: str) -> Path:
    path = folder / f"{container}.ckpt"
    if container == "safetensors":
        save_file(STATE, path, metadata={"made": "here"})
    elif container == "lightning":
        torch.save({"state_dict": STATE, "epoch": 3, "optimizer_states": [{"lr": 1}]}, path)
    elif container == "deepspeed":
        torch.save({"module": {f"_forward_module.{key}": value for key, value in STATE.items()}}, path)
    elif container == "raw":
        torch.save(STATE, path)
    else:
        torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("container", ["safetensors", "lightning", "deepspeed", "raw", "legacy"])
def test_every_container_gives_the_same_tensors(tmp_path, container):
    opened = open_file(stored(tmp_path, container))
    assert set(opened.tensors) == set(STATE)
    assert opened.shapes == {"a.weight": (64, 100), "b": (2,), "c": ()}
    assert opened.dtypes == {key: value.dtype for key, value in STATE.items()}
    for key, value in STATE.items():
        assert torch.equal(opened.tensors[key], value)


@pytest.mark.parametrize("container", ["safetensors", "raw", "legacy"])
def test_tensors_come_again_after_their_memory_was_released(tmp_path, container):
    opened = open_file(stored(tmp_path, container))
    before = opened.tensors["a.weight"]
    opened.tensors.release()
    assert torch.equal(opened.tensors["a.weight"], before)


@pytest.mark.parametrize("container", ["safetensors", "raw"])
def test_a_tensor_is_the_mapped_file_and_writing_into_it_leaves_the_file_alone(tmp_path, container):
    path = stored(tmp_path, container)
    opened = open_file(path)
    opened.tensors["a.weight"].zero_()
    assert torch.equal(open_file(path).tensors["a.weight"], STATE["a.weight"])
    assert opened.tensors.mapped


def test_the_name_of_a_file_does_not_matter(tmp_path):
    path = stored(tmp_path, "safetensors").rename(tmp_path / "model.anything")
    assert open_file(path).container == "safetensors file"


def test_metadata_of_safetensors_and_plain_values_of_pickles_are_kept(tmp_path):
    assert open_file(stored(tmp_path, "safetensors")).metadata == {"made": "here"}
    assert open_file(stored(tmp_path, "lightning")).metadata["epoch"] == "3"


def test_keys_that_only_look_like_a_trainers_are_left_alone(tmp_path):
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.safetensors")
    assert set(open_file(tmp_path / "x.safetensors").tensors) == {"module.a", "b"}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"a": Runs()}}, path, _use_new_zipfile_serialization=zipped)
    sentence = refusal(path)
    assert "system" in sentence
    assert "safe" in sentence
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_with_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"a": Runs()}, protocol=2))
    assert "refused" in refusal(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("container", ["safetensors", "raw", "legacy"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_truncated_file_is_said_to_be_cut_short(tmp_path, container, share):
    path = tmp_path / "part"
    content = stored(tmp_path, container).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"This is my model.\nReally.", "text file (it begins with 'This is my model.')"),
        (b'{"weight_map": {}}', "text file"),
        (b"<!DOCTYPE html><html><title>404</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "git lfs pull"),
        (b"\0" * 4096, "unfinished download"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x7fELF\x02\x01\x01\0", "is not a checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_a_file_that_is_something_else_is_refused_by_its_name(tmp_path, content, words, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("container", ["safetensors", "raw", "legacy"])
def test_whatever_is_damaged_is_refused_or_read_but_nothing_else(tmp_path, container):
    content = stored(tmp_path, container).read_bytes()
    chance = random.Random(0)
    path, refused = tmp_path / "damaged", 0
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[chance.randrange(1000)] = chance.randrange(256)
            damaged[-chance.randrange(1, 500)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            opened = open_file(path)
            assert all(isinstance(tensor, torch.Tensor) for tensor in opened.tensors.values())
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_a_damaged_table_of_contents_is_named(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes((20).to_bytes(8, "little") + b'{"a": not json      ')
    assert "damaged" in refusal(path)


def test_a_zip_of_other_things_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "files.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in refusal(tmp_path / "files.ckpt")


def test_a_pickle_without_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    assert "list" in refusal(tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    assert "no tensors" in refusal(tmp_path / "numbers.pt")


def test_a_folder_is_refused_with_a_file_in_it(tmp_path):
    assert "it holds no checkpoint" in refusal(tmp_path)
    stored(tmp_path, "raw")
    assert str(tmp_path / "raw.ckpt") in refusal(tmp_path)


def test_a_missing_file_is_answered_with_near_names(tmp_path):
    (tmp_path / "dynamicrafter_512.safetensors").touch()
    assert "dynamicrafter_512.safetensors" in refusal(tmp_path / "dynamicrafter512.safetensors")
    (tmp_path / "zzz.ckpt").touch()
    assert "zzz.ckpt" in refusal(tmp_path / "unlike-all-others")
    assert "folder" in refusal(tmp_path / "nowhere" / "model.ckpt")


def test_a_file_that_the_system_will_not_read_is_refused_with_its_reason(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = stored(tmp_path, "raw")
    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(3).to_sparse(), "as a sparse_coo tensor"),
        (torch.empty(3, device="meta"), "as a meta tensor"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "as a quantised tensor"),
        (torch.zeros(1).expand(2**40), "with fewer numbers than that"),
    ],
)
def test_tensors_that_are_no_plain_weights_are_refused(tensor, words, tmp_path):
    torch.save({"state_dict": {"ours": tensor}}, tmp_path / "strange.ckpt")
    assert words in refusal(tmp_path / "strange.ckpt")


def test_what_stands_beside_the_weights_under_no_name_is_passed_over(tmp_path):
    torch.save({"state_dict": STATE, 5: "five", ("a",): 1, "epoch": 3}, tmp_path / "odd.ckpt")
    assert open_file(tmp_path / "odd.ckpt").metadata == {"epoch": "3"}


def test_a_file_replaced_while_it_is_read_is_not_mixed_with_the_new_one(tmp_path):
    path, other = tmp_path / "m.safetensors", tmp_path / "n.safetensors"
    save_file({"a": torch.zeros(4)}, path)
    save_file({"a": torch.ones(4)}, other)
    tensors = open_file(path).tensors
    assert tensors["a"].tolist() == [0] * 4
    tensors.release()
    assert tensors["a"].tolist() == [0] * 4  # the same file, mapped again
    tensors.release()
    os.replace(other, path)
    with pytest.raises(InputError, match="was replaced or changed while it was being read"):
        tensors["a"]
