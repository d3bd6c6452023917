"""AdamW on full-precision copies of the weights, and their running average.

The model computes in its own precision (bf16 halves the traffic and doubles the speed); what is learned in a step is often less
than bf16 can tell from nothing, so the weights that learn are float32.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .recipe import Stage


class Optimiser:
    def __init__(self, parameters: Mapping[str, nn.Parameter], stage: Stage) -> None:
        self.stage = stage
        self.names = list(parameters)
        self.working = list(parameters.values())
        self.masters = [parameter.detach().float().clone() for parameter in self.working]
        self.average = [master.clone() for master in self.masters]
        self.gradients = [torch.zeros_like(master) for master in self.masters]
        decayed = [master for master in self.masters if master.ndim > 1]
        plain = [master for master in self.masters if master.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=stage.lr, betas=(0.9, stage.beta2), foreach=True
        )
        for master in self.masters:  # Adam's state exists from the start, so that every save holds the same tensors
            self.adam.state[master] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

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
            for master, gradient in zip(self.masters, self.gradients, strict=True):
                master.grad = gradient
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
            torch._foreach_copy_(self.working_data(), self.masters)
            keep = min(self.stage.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, self.masters, 1 - keep)
        torch._foreach_zero_(self.gradients)
        return norm, rate

    def working_data(self) -> list[Tensor]:
        return [parameter.data for parameter in self.working]

    def averaged(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.average, strict=True))

    @torch.no_grad()
    def adopt_average(self) -> None:
        """End in the averaged weights."""
        torch._foreach_copy_(self.working_data(), self.average)
        torch._foreach_copy_(self.masters, self.average)

    def state(self) -> dict[str, Tensor]:
        held: dict[str, Tensor] = {}
        for name, master, average in zip(self.names, self.masters, self.average, strict=True):
            adam = self.adam.state[master]
            held |= {
                f"master.{name}": master,
                f"average.{name}": average,
                f"step.{name}": adam["step"],
                f"first.{name}": adam["exp_avg"],
                f"second.{name}": adam["exp_avg_sq"],
            }
        return held

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(tensors[name])
        torch._foreach_copy_(self.working_data(), self.masters)


def learning_rate(stage: Stage, step: int) -> float:
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    if stage.decay == "constant":
        return stage.lr
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.lr * (stage.last_lr + (1 - stage.last_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
