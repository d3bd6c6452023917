"""More images in the context: references whose tokens are mixed with the image's own, as image prompts are (IP-Adapter, Ye et al. 2023).

The projector gives the same queries' answers for every image, token by token, so that their weighted mean stays what the UNet knows:

    tokens = (image + sum w reference) / (1 + sum w)

The references are in the context alone. Visual detail guidance, the latent beside the noise, stays that of the first image.
"""

from collections.abc import Sequence

from torch import Tensor

from ..checks import check_number
from ..errors import InputError

MOST = 16


def mix_tokens(image: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Tokens of the image [b,t,n,d], each row mixed with those of all references [k,t,n,d]."""
    if not len(references):
        return image
    mixed = image
    for reference, weight in zip(references, weights, strict=True):
        mixed = mixed + weight * reference
    return mixed / (1 + sum(weights))


def check_weights(weights: Sequence[object], count: int) -> tuple[float, ...]:
    """A weight for each of `count` references; none, or one alone, is that of all."""
    if count > MOST:
        raise InputError(f"there are {count} references; give up to {MOST}.")
    checked = tuple(check_number("a weight of a reference", weight, 0, 100) for weight in weights) or (1.0,)
    if len(checked) not in (1, count):
        given, wanted = len(checked), "none" if not count else f"one for all {count} references, or one for each"
        raise InputError(f"there are {given} weights of references for {count} references; give {wanted}.")
    return checked * count if len(checked) == 1 else checked
