"""Which parts of a model are on the device: all of them where there is room, else one after the other.

A whole model in fp16 is 5 GB; its UNet, the largest part, needs only 2.9 of them.
"""

from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import torch
from torch import nn

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.sketch_file import open_sketch_encoder
from ..devices import free_memory, release_memory
from ..errors import InputError
from ..models.chunks import OutOfMemory
from ..models.sketch import SketchEncoder
from ..part_names import PartName

Result = TypeVar("Result")

_FOR_THE_WORK = 6 * 2**30  # bytes that activations may need beside the weights


class Residency:
    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, keep: bool | None = None
    ) -> None:
        """`keep` None: parts stay on the device if all of them and the work fit."""
        self.checkpoint = checkpoint
        self.device = device
        self.dtype = dtype
        self.keep = self._fits() if keep is None else keep
        self._kept: dict[PartName, nn.Module] = {}
        self._sketch: tuple[str, SketchEncoder] | None = None

    def use(self, part: PartName, work: Callable[[Any], Result]) -> Result:
        """`work(module)`; the module must not leave it."""
        module = self._kept.get(part)
        try:
            if module is None:
                module = self.checkpoint.load(part, self.dtype, self.device)
                if self.keep:
                    self._kept[part] = module
            return work(module)
        except OutOfMemory as error:
            kept = ", keep_loaded=False" if self.keep else ""
            raise InputError(
                f"{self.device} ran out of memory in the {part} part; use a smaller size, fewer frames, dtype "
                f"fp16{kept} or another device."
            ) from error
        finally:
            del module
            if not self.keep:
                release_memory(self.device)

    def sketch_encoder(self, path: str) -> SketchEncoder:
        """Of a file of its own, to work beside the UNet; kept as the parts are."""
        if self._sketch is not None and self._sketch[0] == path:
            return self._sketch[1]
        encoder = open_sketch_encoder(path).load(self.dtype, self.device)
        self._sketch = (path, encoder) if self.keep else None
        return encoder

    def release(self) -> None:
        """Let go of every part; the next use loads it again."""
        self._kept.clear()
        self._sketch = None
        release_memory(self.device)

    def _fits(self) -> bool:
        free = free_memory(self.device)
        elements = sum(prod(shape) for part in self.checkpoint.parts for shape in self.checkpoint.shapes(part).values())
        return free is not None and elements * self.dtype.itemsize + _FOR_THE_WORK < free
