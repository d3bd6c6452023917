"""Files appear whole or not at all, and a folder is written by one process at a time."""

import os
import sys
from pathlib import Path

import pytest
import torch

from dynamicrafter_core import atomic
from dynamicrafter_core.atomic import only_here
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.film.store import Store
from dynamicrafter_core.tensor_files import write_tensors

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and locks are a POSIX system's here")


@posix
def test_a_lock_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("not to be touched")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="lock cannot be written"), only_here(out):
        pass
    assert (tmp_path / "victim").read_text() == "not to be touched"


@posix
def test_a_lock_that_was_removed_before_it_was_held_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = atomic._lock, []

    def late(file: object) -> None:
        if not removed:
            removed.append(1)
            (tmp_path / ".lock").unlink()
        real(file)  # type: ignore[arg-type]

    monkeypatch.setattr(atomic, "_lock", late)
    with only_here(tmp_path):
        assert (tmp_path / ".lock").exists()
        with pytest.raises(InputError, match="is being written by another process"), only_here(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


def test_tensors_on_a_full_disk_are_refused_as_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="cannot be written .*no space left on device"):
        write_tensors(tmp_path / "m.safetensors", {"a": torch.ones(1)}, {})
    with pytest.raises(InputError, match="cannot be written .*no space left on device"):
        Store(tmp_path, {}).save("take", torch.ones(1, 1, 1, 3), None)
    assert os.listdir(tmp_path) == []
