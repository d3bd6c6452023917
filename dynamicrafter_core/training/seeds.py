"""Random numbers by name: the seed of a draw is made from what it is for, never from what was drawn before.

So step 1000 of a run draws the same whether the run came there in one go, was resumed at 990, or is shared by two processes.
"""

import hashlib

import torch
from torch import Tensor

Word = int | str


def seed_of(*words: Word) -> int:
    """63 bits from any names and numbers; neighbouring ones have nothing in common."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*words: Word) -> torch.Generator:
    """On the CPU, whose numbers are the same on every machine."""
    return torch.Generator().manual_seed(seed_of(*words))


def uniform(rows: list[tuple[Word, ...]], *shape: int) -> Tensor:
    """[len(rows), *shape] of numbers in 0..1, each row from its own seed."""
    return torch.stack([torch.rand(shape, generator=generator(*row)) for row in rows])


def normal(rows: list[tuple[Word, ...]], *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """The same of normal numbers. A GPU draws all rows at once, from the first one's seed: much faster, and as repeatable."""
    if torch.device(device).type == "cuda":
        drawn = torch.Generator(device).manual_seed(seed_of(*rows[0], len(rows)))
        return torch.randn(len(rows), *shape, generator=drawn, device=device)
    return torch.stack([torch.randn(shape, generator=generator(*row)) for row in rows]).to(device)
