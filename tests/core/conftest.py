"""Small models of every variant, made once a session, a stand-in for the UNet that records its inputs, and Ctrl-C."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from micro import Spy, micro_checkpoint

from dynamicrafter_core.models.unet import VideoUNet


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        return path if path.exists() else micro_checkpoint(path, name)

    return make


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spy]:
    spy = Spy()
    monkeypatch.setattr(VideoUNet, "forward", lambda *args, **named: spy(*args, **named))
    yield spy


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Pressed, also where it is switched off, as it is for what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)
