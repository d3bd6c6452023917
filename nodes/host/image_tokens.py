"""Images to context tokens: CLIP's image tower and the projector, both loaded by the host's memory management."""

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.nn import functional as F

from ...dynamicrafter_core.errors import InputError

AT_ONCE = 16  # images through the tower


def squeeze_to_square(pixels: Tensor, size: int) -> Tensor:
    """[B,3,H,W] of any size -> [B,3,size,size] without a crop, as the released models saw images.

    Bicubic with aligned corners behind a Gaussian, which is what kornia's resize does with antialias: written out here, so
    that ComfyUI needs no kornia.
    """
    factors = [side / size for side in pixels.shape[-2:]]
    if max(factors) > 1:
        for dim, factor in zip((2, 3), factors, strict=True):
            sigma = max((factor - 1) / 2, 0.001)
            width = int(max(4 * sigma, 3)) | 1  # odd
            at = torch.arange(width, dtype=pixels.dtype, device=pixels.device) - width // 2
            kernel = torch.exp(-(at**2) / (2 * sigma**2))
            pixels = blur(pixels, kernel / kernel.sum(), dim)
    return F.interpolate(pixels, (size, size), mode="bicubic", align_corners=True)


def blur(pixels: Tensor, kernel: Tensor, dim: int) -> Tensor:
    channels, reach = pixels.shape[1], kernel.numel() // 2
    border, shape = ((0, 0, reach, reach), (1, 1, -1, 1)) if dim == 2 else ((reach, reach, 0, 0), (1, 1, 1, -1))
    return F.conv2d(
        F.pad(pixels, border, mode="reflect"), kernel.view(shape).expand(channels, -1, -1, -1), groups=channels
    )


def encode_images(vision: ClipVisionModel, pixels: Tensor) -> Tensor:
    """Pixels [B,3,H,W] in [-1,1] -> the tower's tokens [B+1,1+patches,width]; the last are those of no image, mid-grey."""
    comfy.model_management.load_model_gpu(vision.patcher)
    square = squeeze_to_square(pixels.to(vision.load_device, torch.float32), vision.image_size)
    square = torch.cat([square, torch.zeros_like(square[:1])])
    mean, std = (square.new_tensor(values).view(3, 1, 1) for values in (vision.image_mean, vision.image_std))
    square = ((square + 1) / 2 - mean) / std
    parts = [vision.model(pixel_values=part, intermediate_output=-2)[0].float() for part in square.split(AT_ONCE)]
    return torch.cat(parts)


def project(projector: ModelPatcher, tokens: Tensor) -> Tensor:
    """The tower's tokens -> context tokens [B,T or 1,N,D], where the host keeps what passes between nodes."""
    module = projector.model
    wanted = module.config.embedding_dim
    if tokens.shape[-1] != wanted:
        raise InputError(
            f"This CLIP_VISION gives {tokens.shape[-1]} values a token, and the model's projector reads {wanted}: use the "
            "CLIP_VISION of DynamiCrafterLoad, or CLIPVisionLoader with CLIP-ViT-H-14-laion2B."
        )
    # Its widest layer holds four numbers for each of a token's.
    comfy.model_management.load_models_gpu([projector], memory_required=8 * 4 * tokens.nelement())
    return module(tokens.to(projector.load_device)).to(comfy.model_management.intermediate_device())
