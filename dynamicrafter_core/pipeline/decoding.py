"""From latents to the pictures people see: uint8 frames, in portions that fit the memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..devices import free_memory
from ..errors import InputError
from ..models.autoencoder import LATENT_SCALE, Autoencoder
from ..models.dual_reference import DualReferenceAutoencoder

_CHANNELS_AT_ONCE = 8 * 256  # numbers a pixel, at the decoder's widest place: several tensors of 256 channels


def to_pictures(pixels: Tensor) -> Tensor:
    """[t,3,H,W] in about [-1,1] -> uint8 [t,H,W,3] on the CPU; cut off, not rounded, as the reference saves them."""
    return ((pixels.float().clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def decode_clip(
    autoencoder: Autoencoder,
    latents: Tensor,
    references: Sequence[Tensor] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Latents [1,4,T,h,w] -> uint8 [T,H,W,3]."""
    dtype = autoencoder.decoder.conv_in.weight.dtype
    z = (latents[0].transpose(0, 1) / LATENT_SCALE).to(dtype)  # t c h w
    chunk = frames_at_once(z, autoencoder.config.size_factor)
    if isinstance(autoencoder, DualReferenceAutoencoder):
        return _decode_jointly(autoencoder, z, references, chunk)
    done: list[Tensor] = []
    for portion in z.split(chunk):
        done.append(to_pictures(_finite(autoencoder.decode(portion))))
        report(sum(map(len, done)), len(z))
    return torch.cat(done)


def check_latents(latents: Tensor, dtype: torch.dtype) -> None:
    if not latents.isfinite().all():
        raise InputError(
            f"The UNet gave NaN in {_short(dtype)}: its weights hold NaN or infinity, or numbers too large for the arithmetic. "
            "Use bf16 or fp32, or get its file again."
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _finite(pixels: Tensor) -> Tensor:
    """As bytes NaN would be black, and nobody would know why."""
    if not pixels.isfinite().all():
        raise InputError(
            f"The autoencoder gave NaN in {_short(pixels.dtype)}; use bf16 or fp32, or get its file again."
        )
    return pixels


def frames_at_once(frames: Tensor, factor: int = 1) -> int:
    """How many of these frames [t,c,h,w], or latents of a `factor`th of their size, fit the memory at a time."""
    free = free_memory(frames.device)
    if frames.device.type == "cpu" or free is None:  # a CPU is not faster with more
        return 1
    needed = frames.shape[2] * frames.shape[3] * factor**2 * _CHANNELS_AT_ONCE * frames.element_size()
    return max(1, min(len(frames), free // needed))


def _decode_jointly(
    autoencoder: DualReferenceAutoencoder, z: Tensor, references: Sequence[Tensor] | None, chunk: int
) -> Tensor:
    """ToonCrafter's two passes: the middle frames come from a second one without the frames next to the ends.

    Of 16 frames, 7 and 8 become 6 and 7 of the 14 that are left without 1 and 14: the same content, nearer to the
    references.
    """
    count = len(z)
    pictures = to_pictures(_finite(autoencoder.decode(z, references, chunk=chunk)))
    if count < 5:  # the middle would itself be left out
        return pictures
    left = [index for index in range(count) if index not in (1, count - 2)]
    again = to_pictures(_finite(autoencoder.decode(z[left], references, chunk=chunk)))
    for middle in {(count - 1) // 2, count // 2}:
        pictures[middle] = again[left.index(middle)]
    return pictures
