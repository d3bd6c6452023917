"""A critic of pictures: it learns to tell what an autoencoder made from what is true, patch by patch, and the autoencoder learns to pass.

The mean of all pictures that a latent could stand for is the least wrong in squares, and a blur. Where detail is lost the critic asks
for some that could be true (Isola et al. 2017; Esser et al. 2021).
"""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


class Critic(nn.Module):
    """Pictures [N,3,H,W] -> a score for each patch, high where it looks true."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 3 * channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3 * channels, 1, 3, padding=1),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures)
        return scores


def adversarial_loss(critic: Critic, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """(What the maker of `made` is to minimise, what the critic is): neither sends a gradient to the other's weights."""
    held = {name: weight.detach() for name, weight in critic.named_parameters()}
    passes: Any = functional_call(critic, held, (made,))
    of_maker = F.softplus(-passes).mean()
    of_critic = F.softplus(critic(made.detach())).mean() + F.softplus(-critic(true)).mean()
    return of_maker, of_critic
