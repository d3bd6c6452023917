"""A critic beside an autoencoder: neither's loss moves the other, and a run with one is stopped and resumed as any other."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from training_recipes import only

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.critic import Critic, adversarial_loss
from dynamicrafter_core.training.fidelity import detail_of
from dynamicrafter_core.training.trainer import Trainer


def pictures(first: int, count: int = 16) -> torch.Tensor:
    return ProceduralClips(16, 16, 1)("train", range(first, first + count)).pixels[:, :, 0]


def blurred(sharp: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, 1)


def test_neither_loss_moves_the_other() -> None:
    torch.manual_seed(0)
    critic, true = Critic(), pictures(0)
    made = blurred(true).requires_grad_()
    of_maker, of_critic = adversarial_loss(critic, made, true)
    of_maker.backward(retain_graph=True)
    assert float(made.grad.abs().max()) > 0 and all(weight.grad is None for weight in critic.parameters())  # type: ignore[union-attr]
    made.grad = None
    of_critic.backward()
    assert made.grad is None and all(float(weight.grad.abs().max()) > 0 for weight in critic.parameters())  # type: ignore[union-attr]


def test_a_critic_learns_to_tell_a_blur_and_leads_away_from_it() -> None:
    torch.manual_seed(0)
    critic = Critic()
    adam = torch.optim.Adam(critic.parameters(), 2e-3)
    for step in range(120):
        true = pictures(16 * step)
        adam.zero_grad()
        adversarial_loss(critic, blurred(true), true)[1].backward()
        adam.step()
    true = pictures(100_000)
    made = blurred(true).requires_grad_()
    with torch.no_grad():
        better = critic(true).mean((1, 2, 3)) > critic(made).mean((1, 2, 3))
    assert int(better.sum()) >= 15
    adversarial_loss(critic, made, true)[0].backward()
    led = (made - 2 * made.grad / made.grad.abs().mean() * 0.01).detach()  # type: ignore[union-attr, operator]
    assert detail_of(led, true) > detail_of(made.detach(), true)


def test_detail_is_one_of_the_same_and_less_of_a_blur() -> None:
    true = pictures(0)
    assert detail_of(true, true) == pytest.approx(1)
    assert detail_of(0.5 * true, true) == pytest.approx(0.25)
    assert 0.1 < detail_of(blurred(true), true) < 0.8


def test_a_run_with_a_critic_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    recipe = only("autoencoder", steps=3, lr=0.01, warmup=0, adversarial=0.1)
    whole = Trainer(recipe, tmp_path / "whole", "cpu").run()
    assert Trainer(recipe, tmp_path / "parts", "cpu").run(minutes=0) is None
    parts = Trainer(recipe, tmp_path / "parts", "cpu").run()
    plain = Trainer(only("autoencoder", steps=3, lr=0.01, warmup=0), tmp_path / "plain", "cpu").run()
    tensors = []
    for path in (whole, parts, plain):
        with safe_open(path, "pt") as file:
            tensors.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert tensors[0].keys() == tensors[2].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert any(not torch.equal(tensors[0][name], tensors[2][name]) for name in tensors[0])
    assert {"passing", "judging"} <= set((tmp_path / "whole" / "log.jsonl").read_text().split('"'))


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(InputError, match="adversarial"):
        only("autoencoder", adversarial=-1)
