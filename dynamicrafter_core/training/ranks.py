"""Several processes, one training: each draws its share of every batch, they agree on the gradients, and each learns its share
of the weights, so that what the optimiser keeps of a weight is kept once among all of them.

Started by `torchrun`; with one process this does nothing.
"""

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed

from ..errors import InputError

BUCKET = 2**25  # numbers in one message


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

    def owners(self, sizes: Sequence[int]) -> list[int]:
        """The process that learns each of the weights of these sizes; all get about as much."""
        held = [0] * self.count
        owners = [0] * len(sizes)
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            owners[index] = held.index(min(held))
            held[owners[index]] += sizes[index]
        return owners

    def average(self, tensors: Sequence[Tensor]) -> None:
        """In place."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            _unpack(flat / self.count, bucket)

    def spread(self, tensors: Sequence[Tensor], owners: Sequence[int]) -> None:
        """In place: every tensor becomes what its owner has."""
        if self.count == 1:
            return
        for owner in range(self.count):
            for bucket in _buckets([tensor for tensor, its in zip(tensors, owners, strict=True) if its == owner]):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                distributed.broadcast(flat, owner)
                _unpack(flat, bucket)

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


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """A few tensors at a time: one message for many small ones, and never a copy of them all."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(each.numel() for each in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _unpack(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, where torchrun started one for each."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
