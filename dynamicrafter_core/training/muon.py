"""Muon (Jordan et al. 2024): a matrix learns in all directions of its momentum alike, however little some of them weigh in it.

Scaled as in "Muon is Scalable for LLM Training" (Liu et al. 2025), so that a step is about as long as one of Adam's at the same rate.
"""

from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_ROUNDS = 5
_CUBIC = (3.4445, -4.7750, 2.0315)  # of Jordan's iteration, which brings every singular value near 1 in a few rounds
_LIKE_ADAM = 0.2
_SMALL = 16  # of fewer rows or columns, Adam does as well


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon is made for it: a linear layer or a convolution, not a table of vectors."""
    return weight.ndim > 1 and "embedding" not in name and min(weight.flatten(1).shape) >= _SMALL


@torch.no_grad()
def step(weight: Tensor, gradient: Tensor, state: dict[str, Any], rate: float, decay: float) -> None:
    """In place; the momentum is kept where Adam keeps its own."""
    momentum = state["exp_avg"].lerp_(gradient, 1 - MOMENTUM)
    wanted = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)
    weight.mul_(1 - rate * decay)
    weight.add_(orthogonal(wanted).view_as(weight), alpha=-rate * _LIKE_ADAM * max(wanted.shape) ** 0.5)
    state["step"] += 1


def orthogonal(matrix: Tensor) -> Tensor:
    """The same singular vectors, with singular values near 1 (about 0.7 to 1.2)."""
    first, third, fifth = _CUBIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.T if tall else x
