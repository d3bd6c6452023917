"""AdamW, or Muon for the matrices, on full-precision copies of the weights, and their running average.

The model computes in its own precision (bf16 halves the traffic and doubles the speed); what is learned in a step is often less
than bf16 can tell from nothing, so the weights that learn are float32. Of several processes each keeps these for its own share of
the weights, and sends the others what it learned.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from . import muon
from .ranks import Ranks
from .recipe import Stage

KEPT = ("master", "average", "first", "second")  # of each weight, beside the steps taken, as a run's state names them


class Optimiser:
    def __init__(self, parameters: Mapping[str, nn.Parameter], stage: Stage, ranks: Ranks) -> None:
        self.stage, self.ranks = stage, ranks
        self.names = list(parameters)
        self.working = list(parameters.values())
        self.gradients = [torch.zeros_like(weight, dtype=torch.float32) for weight in self.working]
        self.owners = ranks.owners([weight.numel() for weight in self.working])
        self.own = [index for index, owner in enumerate(self.owners) if owner == ranks.rank]
        self.masters = [self.working[index].detach().float().clone() for index in self.own]
        self.average = [master.clone() for master in self.masters]
        decayed = [master for master in self.masters if master.ndim > 1]
        plain = [master for master in self.masters if master.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, stage.beta2), foreach=True)
        for master in self.masters:  # Adam's state exists from the start, so that every save holds the same tensors
            self.adam.state[master] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }
        named = [(self.names[index], master) for index, master in zip(self.own, self.masters, strict=True)]
        self.matrices = [master for name, master in named if stage.optimiser == "muon" and muon.is_matrix(name, master)]

    def collect(self) -> None:
        """Add what a backward pass left to the step's gradient."""
        for parameter, gradient in zip(self.working, self.gradients, strict=True):
            if parameter.grad is not None:
                gradient += parameter.grad
                parameter.grad = None

    def step(self, step: int) -> tuple[float, float]:
        """One step of learning from the collected gradient; (its norm, the learning rate)."""
        norm = float(torch.stack(torch._foreach_norm(self.gradients)).norm())
        rate = learning_rate(self.stage, step)
        if math.isfinite(norm):  # an overflow teaches nothing
            torch._foreach_mul_(self.gradients, min(1.0, self.stage.clip_norm / (norm + 1e-6)))
            for master, index in zip(self.masters, self.own, strict=True):
                master.grad = self.gradients[index]
            for master in self.matrices:
                assert master.grad is not None
                muon.step(master, master.grad, self.adam.state[master], rate, self.stage.weight_decay)
                master.grad = None  # so that Adam passes it over
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
            self._work_with(self.masters)
            keep = min(self.stage.ema, (1 + step) / (10 + step))
            for average, master in zip(self.average, self.masters, strict=True):
                average.lerp_(master, 1 - keep)
        torch._foreach_zero_(self.gradients)
        return norm, rate

    def _work_with(self, weights: list[Tensor]) -> None:
        """The model gets these, one for each weight of the own share, and the other processes' of theirs."""
        for index, weight in zip(self.own, weights, strict=True):
            self.working[index].data.copy_(weight)
        self.ranks.spread([weight.data for weight in self.working], self.owners)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model in its averaged weights."""
        self._work_with(self.average)
        yield
        self._work_with(self.masters)

    @torch.no_grad()
    def adopt_average(self) -> None:
        """End in the averaged weights."""
        for master, average in zip(self.masters, self.average, strict=True):
            master.copy_(average)
        self._work_with(self.masters)

    def _kept(self, index: int) -> list[Tensor]:
        """What is kept of a weight: of the own share, or room for another's."""
        if self.owners[index] != self.ranks.rank:
            return [torch.empty_like(self.gradients[index]) for _ in KEPT]
        place = self.own.index(index)
        adam = self.adam.state[self.masters[place]]
        return [self.masters[place], self.average[place], adam["exp_avg"], adam["exp_avg_sq"]]

    def state(self) -> dict[str, Tensor]:
        """Everything that is kept, of all processes' shares; all of them have to ask."""
        held: dict[str, Tensor] = {}
        taken = next((self.adam.state[master]["step"] for master in self.masters), torch.tensor(0.0))
        for index, (name, owner) in enumerate(zip(self.names, self.owners, strict=True)):
            kept = self._kept(index)
            self.ranks.spread(kept, [owner] * len(kept))
            held |= {f"{word}.{name}": tensor.cpu() for word, tensor in zip(KEPT, kept, strict=True)}
            held[f"step.{name}"] = taken.clone()
        return held

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for index in self.own:
            name = self.names[index]
            for word, tensor in zip(KEPT, self._kept(index), strict=True):
                tensor.copy_(tensors[f"{word}.{name}"])
            self.adam.state[self.masters[self.own.index(index)]]["step"].copy_(tensors[f"step.{name}"])
        self._work_with(self.masters)


def learning_rate(stage: Stage, step: int) -> float:
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    if stage.decay == "constant":
        return stage.lr
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.lr * (stage.last_lr + (1 - stage.last_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
