"""First weights, where none are loaded: residual branches start at zero, so that a new layer changes nothing."""

import torch
from torch import nn

from ..models.resblock import ResBlock
from ..models.transformers import SpatialTransformer, TemporalTransformer
from ..models.unet import VideoUNet
from ..part_names import PartName

_LOG_VARIANCE = -6.0  # an autoencoder that begins near certainty learns faster


@torch.no_grad()
def initialise(part: PartName, module: nn.Module) -> None:
    """In place, after PyTorch's own initialisation; the caller has seeded the generator."""
    if isinstance(module, VideoUNet):
        for layer in module.modules():
            match layer:
                case ResBlock():
                    _silence(layer.out_layers[3])
                    if hasattr(layer, "temopral_conv"):
                        _silence(layer.temopral_conv.conv4[-1])
                case SpatialTransformer() | TemporalTransformer():
                    _silence(layer.proj_out)
        _silence(module.out[2])
    elif part == "autoencoder":
        moments = module.get_submodule("quant_conv")
        weight, bias = moments.get_parameter("weight"), moments.get_parameter("bias")
        half = weight.shape[0] // 2
        weight[half:].mul_(0.1)
        bias[half:].fill_(_LOG_VARIANCE)


@torch.no_grad()
def silence_block(block: nn.Module) -> None:
    """An autoencoder's residual block that gives what it gets."""
    _silence(block.get_submodule("conv2"))


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
