"""Frames through the host's VAE: encoded the same every time, decoded in portions that fit the memory there is."""

from collections.abc import Callable

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from .encoders import ReferenceVAE
from .images import size_in_pixels


def check_vae(vae: comfy.sd.VAE | None, node: str) -> comfy.sd.VAE:
    if vae is None or vae.first_stage_model is None:
        raise InputError(
            f"{node} has no VAE: the loaded file holds none; use VAELoader with Stable Diffusion's (vae-ft-mse-840000)."
        )
    if vae.latent_channels != 4 or vae.latent_dim != 2:
        raise InputError(
            f"This VAE makes latents of {vae.latent_channels} channels in {vae.latent_dim} dimensions, and this "
            "family needs Stable Diffusion's, of 4 channels in 2: use the VAE of DynamiCrafterLoad, or "
            "vae-ft-mse-840000 in VAELoader."
        )
    return vae


def encode(vae: comfy.sd.VAE, images: Tensor) -> Tensor:
    """IMAGE [N,H,W,3] -> latents [N,4,h,w]. The encoder's small noise is drawn alike every time."""
    with torch.random.fork_rng([vae.device] if vae.device.type == "cuda" else []):
        torch.manual_seed(0)
        return vae.encode(images)


def decode(vae: comfy.sd.VAE, latents: Tensor) -> Tensor:
    """Latents [N,4,h,w] -> IMAGE [N,H,W,3], as many frames at a time as fit."""
    needed = vae.memory_used_decode((1, *latents.shape[1:]), vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
    fitting = int(vae.patcher.get_free_memory(vae.device) / needed)
    bar = comfy.utils.ProgressBar(len(latents))
    portions: list[Tensor] = []

    def run(part: Tensor) -> Tensor:
        pixels = vae.first_stage_model.decode(part.to(vae.device, vae.vae_dtype)).to(vae.output_device, torch.float32)
        bar.update(len(part))
        return vae.process_output(pixels)

    portions = halving(run, latents, max(1, min(fitting, len(latents))), vae.downscale_ratio)
    return torch.cat(portions).movedim(1, -1)


def halving(run: Callable[[Tensor], Tensor], rows: Tensor, portion: int, cell: int) -> list[Tensor]:
    """Run over the rows in portions, smaller ones when memory runs out: every row is done once, and done the same.

    `cell`: pixels a side for each of the latent's values.
    """
    done: list[Tensor] = []
    first = 0
    while first < len(rows):
        try:
            done.append(run(rows[first : first + portion]))
            first += portion
            continue
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
            if portion == 1:
                raise comfy.model_management.OOM_EXCEPTION(
                    f"There is not enough memory to decode even one frame of {size_in_pixels(rows, cell)} pixels: use "
                    "'VAE Decode (Tiled)' instead of DynamiCrafterDecode, or a smaller width and height."
                ) from error
        portion = max(1, portion // 2)  # out of the except block, which holds on to what was allocated
    return done


def decode_with_references(vae: ReferenceVAE, latents: Tensor, references: Tensor) -> Tensor:
    """One ToonCrafter clip [T,4,h,w] with its first and last picture [2,H,W,3] -> IMAGE [T,H,W,3].

    As released: the clip is decoded as a whole, and once more without its second and its second last frame, whose decoding
    gives the two frames in the middle.
    """
    frames = len(latents)
    patcher = vae.reference_patcher
    module, device = patcher.model, patcher.load_device
    needed = vae.memory_used_decode(latents.shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu([patcher], memory_required=needed)
    pictures = vae.process_input(references.movedim(-1, 1)).to(device, vae.vae_dtype)
    hidden = module.references(module.encode(pictures, return_hidden=True)[2])

    def run(rows: Tensor) -> Tensor:
        rows = rows.to(device, vae.vae_dtype)
        return halving_chunk(lambda chunk: module.decode(rows, hidden, chunk=chunk), len(rows), rows)

    bar = comfy.utils.ProgressBar(2)
    pixels = run(latents)
    bar.update(1)
    if frames >= 6:
        middle = frames // 2
        again = run(torch.cat([latents[:1], latents[2:-2], latents[-1:]]))
        pixels[middle - 1 : middle + 1] = again[middle - 2 : middle]
    bar.update(1)
    return vae.process_output(pixels.to(vae.output_device, torch.float32)).movedim(1, -1)


def halving_chunk(run: Callable[[int], Tensor], chunk: int, rows: Tensor) -> Tensor:
    """A joint decoding, whose layers that see single frames take them in ever smaller portions until it fits."""
    while True:
        try:
            return run(chunk)
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
            if chunk == 1:
                raise comfy.model_management.OOM_EXCEPTION(
                    f"There is not enough memory to decode {len(rows)} frames of {size_in_pixels(rows, 8)} pixels jointly, "
                    "as ToonCrafter does: make the video smaller or shorter, or decode without references."
                ) from error
        chunk = max(1, chunk // 2)
