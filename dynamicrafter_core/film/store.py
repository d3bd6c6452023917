"""Takes on the disk, each under a name made from all that it comes from: what is there needs not be made again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import cannot_write, check_writable
from ..errors import InputError
from ..tensor_files import write_tensors
from .takes import Take

HANDED_ON = 4  # last frames that the next take may begin with


class Store:
    """A folder of takes. `known`: what they all come from besides their own settings, such as the model."""

    def __init__(self, folder: Path, known: Mapping[str, Any]) -> None:
        self.folder = folder
        self.known = known

    def prepare(self) -> None:
        check_writable(self.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file, and the takes need a folder; give another one.")
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def names(self, takes: Sequence[Take], pictures: Mapping[str, bytes]) -> list[str]:
        """A file name for each; one that goes on has the take before among its origins. `pictures`: their contents."""
        names: list[str] = []
        for take in takes:
            told = {key: value for key, value in vars(take).items() if key not in ("where", "image", "dissolve")}
            before = names[-1] if take.goes_on else ""
            digest = hashlib.sha256(json.dumps([self.known, told, before], sort_keys=True, default=str).encode())
            digest.update(pictures[take.image] if take.image else b"")
            names.append(digest.hexdigest()[:32])
        return names

    def has(self, name: str) -> bool:
        """Whole files only: one that was cut short since it was written counts as none."""
        try:
            with safe_open(self._path(name), "pt") as file:
                return "frames" in file.keys()  # noqa: SIM118
        except (OSError, SafetensorError):
            return False

    def save(self, name: str, frames: Tensor, latents: Tensor | None) -> None:
        held = {"frames": frames.contiguous()}
        if latents is not None:
            held["latents"] = latents[:, -HANDED_ON:].contiguous()
        write_tensors(self._path(name), held)

    def frames(self, name: str) -> Tensor:
        with safe_open(self._path(name), "pt") as file:
            return file.get_tensor("frames")

    def end(self, name: str) -> tuple[Tensor, Tensor | None]:
        """The last frames, and their latents where the take has them."""
        with safe_open(self._path(name), "pt") as file:
            latents = file.get_tensor("latents") if "latents" in file.keys() else None  # noqa: SIM118
            count = file.get_slice("frames").get_shape()[0]
            return file.get_slice("frames")[max(0, count - HANDED_ON) :], latents

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
