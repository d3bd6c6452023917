"""Tensors to a file that appears whole or not at all; a full disk is told as everywhere else."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .atomic import written_whole


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written_whole(path) as part:
        try:
            save_file(dict(tensors), part, None if metadata is None else dict(metadata))
        except SafetensorError as error:  # which its library makes of the system's own
            raise OSError(str(error)) from error
