"""A run's folder: its state, its log, its report and its result.

state.safetensors   everything needed to go on; replaced as a whole, so that a kill leaves the one before
log.jsonl           a line for every report of the loss, and for every evaluation
report.html         the same as curves, with samples
so-far.safetensors  the averaged weights of a run that was stopped
model.safetensors   the result, once there is one
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import cannot_write, written_whole
from ..errors import InputError
from ..tensor_files import write_tensors


@dataclass
class Position:
    """Where a run is: `step` steps of the stage `stage` are done."""

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    clips: int = 0


class RunFolder:
    def __init__(self, path: Path, recipe_source: str) -> None:
        self.path, self.recipe_source = path, recipe_source
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The folder {path} cannot be made ({error.strerror}); give another.") from error

    @property
    def state_file(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def so_far(self) -> Path:
        return self.path / "so-far.safetensors"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    def save(self, tensors: Mapping[str, Tensor], position: Position) -> None:
        held = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        metadata = {"position": json.dumps(vars(position)), "recipe": self.recipe_source}
        write_tensors(self.state_file, held, metadata)

    def load(self) -> tuple[dict[str, Tensor], Position] | None:
        """The state of a run that started here; refused when it was a run of another recipe."""
        from safetensors import safe_open

        if not self.state_file.exists():
            return None
        with safe_open(self.state_file, framework="pt") as file:
            metadata = file.metadata()
            if metadata["recipe"] != self.recipe_source:
                raise InputError(
                    f"{self.path} holds a run of another recipe; give another folder, or the recipe it was started "
                    "with."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return tensors, Position(**json.loads(metadata["position"]))

    def log(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({name: _plain(value) for name, value in entry.items()})
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise cannot_write(self.log_file, error) from error

    def entries(self) -> list[dict[str, Any]]:
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]  # the last may be cut short by a kill

    def forget_after(self, total_steps: int) -> None:
        """Drop what a killed run logged after its last save: it is about to be done again."""
        kept = [entry for entry in self.entries() if entry["total"] <= total_steps]
        with written_whole(self.log_file) as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value


def seconds_as_words(seconds: float) -> str:
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 5400 else f"{whole // 3600} h {whole % 3600 // 60} min"
