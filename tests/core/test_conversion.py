"""Conversion writes what was there, in the dtype and layout asked for, or nothing; and it needs little memory."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, tiny_state

from dynamicrafter_core.atomic import written_whole
from dynamicrafter_core.checkpoints import conversion
from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.checkpoints.conversion import convert
from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.encoders import TextTowerConfig
from dynamicrafter_core.models.parts import shapes_of
from dynamicrafter_core.part_names import BUFFERS, PREFIXES

NAME = "dynamicrafter_512"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A whole DynamiCrafter 512, as trainers save it."""
    return tiny_checkpoint(tmp_path_factory.mktemp("source") / f"{NAME}.ckpt", NAME, torch.float16, "lightning")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Only its projector and vision tower: for what does not depend on the parts."""
    path = tmp_path_factory.mktemp("small") / f"{NAME}.safetensors"
    return tiny_checkpoint(path, parts=("projector", "vision"), metadata={"family": NAME})


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        convert(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def metadata(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.slow
def test_kept_dtype_is_bit_equal_and_loads_strictly_again(source, tmp_path):
    (written,) = convert(source, tmp_path / "out.safetensors", dtype="keep")
    state = load_file(written)
    expected = open_file(source).tensors
    assert set(state) == set(expected) == set(tiny_state(NAME))
    assert all(state[key].dtype == expected[key].dtype and torch.equal(state[key], expected[key]) for key in state)
    assert load_checkpoint(written).parts == ("unet", "autoencoder", "text", "vision", "projector")


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_rounds_the_weights_and_keeps_the_schedule(small, tmp_path, dtype, torch_dtype):
    (written,) = convert(small, tmp_path / "out.safetensors", dtype=dtype)
    state, before = load_file(written), load_file(small)
    assert set(state) == set(before) > set(BUFFERS)
    for key, value in before.items():
        kept = torch.float32 if key in BUFFERS else torch_dtype
        assert state[key].dtype == kept
        assert torch.equal(state[key], value.to(kept))


def test_from_half_to_full_precision(tmp_path, small):
    (half,) = convert(small, tmp_path / "half.safetensors", dtype="bf16")
    (full,) = convert(half, tmp_path / "full.safetensors", dtype="fp32")
    assert all(value.dtype == torch.float32 for value in load_file(full).values())
    assert torch.equal(load_file(full)["image_proj_model.latents"], load_file(half)["image_proj_model.latents"].float())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamicrafter_512_interp", "videocrafter1_t2v_1024"])
def test_a_variant_is_told_by_its_converted_files_metadata(tmp_path, name):
    path = tiny_checkpoint(tmp_path / f"{name}.ckpt", name, torch.float16, "raw", parts=("unet",))
    (written,) = convert(path, tmp_path / "renamed.safetensors", dtype="keep")
    found = load_checkpoint(written)
    assert (found.family, found.detection.ambiguous) == (load_checkpoint(path).family, False)
    assert json.loads(metadata(written)["dynamicrafter"]) == {"family": name}


def test_a_guess_is_not_written_down_as_a_fact(tmp_path):
    path = tiny_checkpoint(tmp_path / "model.safetensors", NAME, torch.float16, parts=("unet",))
    (written,) = convert(path, tmp_path / "guess.safetensors")
    assert "family" not in json.loads(metadata(written)["dynamicrafter"])
    (written,) = convert(path, tmp_path / "told.safetensors", variant="dynamicrafter_512_interp")
    assert load_checkpoint(written).family.name == "dynamicrafter_512_interp"


def test_what_a_file_states_of_itself_and_its_other_metadata_are_carried_over(tmp_path):
    own = {"family": NAME, "figures": {"frames": 8}, "unet": {"norm_groups": 16}}
    path = tiny_checkpoint(tmp_path / "own.safetensors", parts=("unet",), metadata=own)
    (written,) = convert(path, tmp_path / "out.safetensors")
    assert json.loads(metadata(written)["dynamicrafter"]) == own
    assert load_checkpoint(written).configs == load_checkpoint(path).configs


def test_pruned_leaves_the_clip_towers_out(source, tmp_path):
    (written,) = convert(source, tmp_path / "out.safetensors", layout="pruned")
    keys = set(load_file(written))
    assert keys == {key for key in tiny_state(NAME) if not key.startswith((PREFIXES["text"], PREFIXES["vision"]))}
    assert load_checkpoint(written).parts == ("unet", "autoencoder", "projector")


@pytest.mark.slow
def test_split_writes_a_file_for_each_part_and_together_they_are_the_whole(source, tmp_path):
    written = convert(source, tmp_path / "out.safetensors", dtype="keep", layout="split")
    assert [path.name for path in written] == [
        f"out.{part}.safetensors" for part in ("unet", "autoencoder", "text", "vision", "projector")
    ]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    whole = load_checkpoint(source)
    split = load_checkpoint(written[0], extra=written[1:])
    assert split.family == whole.family
    for part in whole.parts:
        before, after = whole.load(part).state_dict(), split.load(part).state_dict()
        assert list(before) == list(after)
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_separate_files_become_one(tmp_path, source):
    written = convert(source, tmp_path / "out.safetensors", dtype="keep", layout="split")
    (whole,) = convert(written[0], tmp_path / "whole.safetensors", dtype="keep", extra=written[1:])
    assert load_checkpoint(whole).parts == load_checkpoint(source).parts


@pytest.mark.slow
def test_names_on_disk_become_canonical(tmp_path):
    state = tiny_state("dynamicrafter_256")
    unet = {key: value.half() for key, value in state.items() if key.startswith("model.")}
    stored = {key.replace("fps_embedding", "framestride_embed"): value for key, value in unet.items()}
    torch.save(stored, tmp_path / "model.ckpt")
    (written,) = convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors")
    assert set(load_file(written)) == set(unet)


def test_every_tensor_lies_aligned_to_its_elements(small, tmp_path):
    (written,) = convert(small, tmp_path / "out.safetensors", dtype="fp16")
    content = written.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    sizes = {"F32": 4, "F16": 2}
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    assert {entry["dtype"] for entry in tensors} == set(sizes)
    assert all((8 + length + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0 for entry in tensors)


def test_fp8_files_can_be_read_and_kept(tmp_path):
    path = tiny_checkpoint(
        tmp_path / "x.safetensors", dtype=torch.float8_e4m3fn, parts=("projector",), metadata={"family": NAME}
    )
    (kept,) = convert(path, tmp_path / "kept.safetensors", dtype="keep")
    assert load_file(kept)["image_proj_model.latents"].dtype == torch.float8_e4m3fn
    (wide,) = convert(path, tmp_path / "wide.safetensors", dtype="fp16")
    assert torch.equal(
        load_file(wide)["image_proj_model.latents"], load_file(path)["image_proj_model.latents"].to(torch.float16)
    )


def test_progress_ends_at_the_total_and_never_goes_back(small, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_PIECE", 1000)
    monkeypatch.setattr(conversion, "RELEASE_EVERY", 100_000)
    seen = []
    (written,) = convert(small, tmp_path / "out.safetensors", on_progress=lambda *at: seen.append(at))
    done = [at for at, _ in seen]
    total = sum(math.prod(value.shape) * value.element_size() for value in load_file(written).values())
    assert done == sorted(done)
    assert seen[-1] == (total, total)
    assert len(seen) > 100


def test_a_value_beyond_fp16_is_refused_and_named(tmp_path, small):
    state = load_file(small)
    state["image_proj_model.latents"][0, 0, 0] = 70000.0
    save_file(state, tmp_path / "big.safetensors", metadata=metadata(small))
    sentence = refusal(tmp_path / "big.safetensors", tmp_path / "out.safetensors")
    assert "image_proj_model.latents holds 7e+04" in sentence
    assert "bf16" in sentence
    assert not (tmp_path / "out.safetensors").exists()
    assert convert(tmp_path / "big.safetensors", tmp_path / "out.safetensors", dtype="bf16")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("out.ckpt", "give a name that ends in .safetensors"),
        ("missing/out.safetensors", "does not exist"),
        ("there.safetensors", "exists; give another name"),
        ("folder.safetensors", "is a folder"),
    ],
)
def test_targets_that_cannot_be_are_refused_beforehand(small, tmp_path, target, words):
    (tmp_path / "there.safetensors").write_text("mine")
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert words in refusal(small, tmp_path / target)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_an_existing_file_is_replaced_when_told_so_but_never_the_source(small, tmp_path):
    target = tmp_path / "out.safetensors"
    target.write_text("mine")
    convert(small, target, overwrite=True)
    assert load_checkpoint(target).parts == ("vision", "projector")
    assert "is the file to be converted" in refusal(target, tmp_path / "." / target.name, overwrite=True)
    (tmp_path / "link.safetensors").symlink_to(target)
    assert "is the file to be converted" in refusal(target, tmp_path / "link.safetensors", overwrite=True)


def test_unknown_words_are_answered_with_the_known(small, tmp_path):
    assert "fp16, bf16, fp32, keep" in refusal(small, tmp_path / "out.safetensors", dtype="int4")
    assert "whole, pruned, split" in refusal(small, tmp_path / "out.safetensors", layout="half")


@pytest.mark.slow
def test_too_little_room_is_found_before_anything_is_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "GB free" in refusal(small, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["whole", "split"])
@pytest.mark.parametrize(
    ("failure", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space left on device"), InputError)],
)
def test_nothing_is_left_when_writing_ends_early(small, tmp_path, layout, failure, raised):
    (tmp_path / "out.safetensors").write_text("mine")

    def fail(done: int, total: int) -> None:
        if done > total / 2:
            raise failure

    with pytest.raises(raised):
        convert(small, tmp_path / "out.safetensors", layout=layout, on_progress=fail, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    assert (tmp_path / "out.safetensors").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its peak memory is read from the resource module")
def test_memory_stays_far_below_the_size_of_the_model(tmp_path):
    width = 2**18  # of three layers whose two matrices have 64 MiB each
    config = TextTowerConfig(64, 3, 1, width, vocabulary=16, embed_dim=64)
    state = {PREFIXES["text"] + key: torch.zeros(shape) for key, shape in shapes_of(config).items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state}, tmp_path / "b.ckpt")
    size = (tmp_path / "b.ckpt").stat().st_size
    del state
    code = f"""
import resource, sys
import open_clip.model
from dynamicrafter_core.checkpoints.conversion import convert
from dynamicrafter_core.models.encoders import TextTowerConfig
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
for name in ("a.safetensors", "b.ckpt"):
    convert(name, name[0] + ".fp16.safetensors", variant={NAME!r})
sys.stdout.write(str(peak() - before))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(conversion.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert size > 400e6
    assert int(ran.stdout) < 0.8 * size


@pytest.mark.skipif(os.name != "posix", reason="permissions are a thing of POSIX")
def test_the_result_is_for_whoever_may_read_new_files(tmp_path: Path) -> None:
    with written_whole(tmp_path / "private") as part:
        part.touch(mode=0o600)
    (tmp_path / "usual").touch()
    assert (tmp_path / "private").stat().st_mode == (tmp_path / "usual").stat().st_mode
