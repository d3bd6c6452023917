"""Muon, which the matrices of a training may learn by."""

import torch

from dynamicrafter_core.training import muon
from dynamicrafter_core.training.optimiser import Optimiser
from dynamicrafter_core.training.ranks import Ranks
from dynamicrafter_core.training.recipe import Stage

STAGE = Stage("s", "diffusion", (), 100, 1, lr=0.01, warmup=0, optimiser="muon")


def test_muon_goes_in_all_directions_of_a_gradient_alike() -> None:
    torch.manual_seed(5)
    left, right = (torch.linalg.qr(torch.randn(32, 32))[0] for _ in range(2))
    gradient = left @ torch.diag(torch.linspace(1, 0.05, 32)) @ right
    moved = muon.orthogonal(gradient)
    values = torch.linalg.svdvals(moved)
    assert values.min() > 0.6 and values.max() < 1.3
    assert torch.allclose((left.T @ moved @ right.T).diagonal(), values.mean().expand(32), atol=0.4)
    for tall in (gradient[:, :20], gradient[:20]):
        assert torch.allclose(muon.orthogonal(tall).T, muon.orthogonal(tall.T), atol=1e-5)


def test_muon_learns_matrices_and_adam_the_rest_and_both_go_on_where_they_stopped() -> None:
    def optimiser() -> Optimiser:
        torch.manual_seed(6)
        sizes = {
            "conv": (16, 24, 3, 3),
            "linear": (32, 16),
            "bias": (16,),
            "token_embedding": (40, 16),
            "thin": (4, 64),
        }
        weights = {name: torch.nn.Parameter(torch.randn(size)) for name, size in sizes.items()}
        return Optimiser(weights, STAGE, Ranks(torch.device("cpu")))

    def learn(one: Optimiser, steps: range) -> None:
        for step in steps:
            for gradient, master in zip(one.gradients, one.masters, strict=True):
                gradient.copy_(master)  # of half the sum of squares
            one.step(step)

    whole, stopped = optimiser(), optimiser()
    assert [
        whole.names[whole.own[row]]
        for row, each in enumerate(whole.masters)
        if any(each is one for one in whole.matrices)
    ] == ["conv", "linear"]
    before = [float(master.norm()) for master in whole.masters]
    learn(whole, range(6))
    assert all(float(master.norm()) < old for master, old in zip(whole.masters, before, strict=True))
    learn(stopped, range(3))
    resumed = optimiser()
    resumed.load_state(stopped.state())
    learn(resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.masters, resumed.masters, strict=True))
