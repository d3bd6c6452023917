"""Several processes, one training: each draws its share of every batch, and they agree on the gradients.

Started by `torchrun`; with one process this does nothing.
"""

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed

from ..errors import InputError


class Ranks:
    def __init__(self, device: torch.device) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, numbers: range) -> range:
        """This process's part of a batch's numbers."""
        if len(numbers) % self.count:
            raise InputError(f"A batch of {len(numbers)} clips does not divide among {self.count} processes.")
        each = len(numbers) // self.count
        return numbers[self.rank * each : (self.rank + 1) * each]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """In place, in one message."""
        if self.count == 1:
            return
        held = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in held])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, part in zip(held, flat.split([tensor.numel() for tensor in held]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, flag: bool) -> bool:
        """Whether any process says so: all must stop at the same step."""
        if self.count == 1:
            return flag
        told = torch.tensor(float(flag), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return bool(told)

    def close(self) -> None:
        if self.count > 1:
            distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, where torchrun started one for each."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
