"""Which weights of the UNet look at single frames and which at time, and what the former are called in an image model's UNet."""

from collections.abc import Iterator

from torch import nn

from .resblock import TemporalConv
from .transformers import TemporalTransformer
from .unet import VideoUNet


def temporal_layers(unet: nn.Module) -> list[str]:
    """Names of the layers that mix frames."""
    return [name for name, module in unet.named_modules() if isinstance(module, TemporalTransformer | TemporalConv)]


def temporal_keys(unet: VideoUNet) -> frozenset[str]:
    """Keys of the layers that mix frames, and of the embedding of fs, which they move by."""
    prefixes = tuple(f"{name}." for name in [*temporal_layers(unet), "fps_embedding"])
    return frozenset(key for key in unet.state_dict() if key.startswith(prefixes))


def image_model_keys(unet: VideoUNet) -> dict[str, str]:
    """Spatial key -> its key in Stable Diffusion 2's UNet, which numbers the layers of a block without the temporal ones."""
    moved = dict(_moved_layers(unet))
    keys = {}
    for key in unet.state_dict().keys() - temporal_keys(unet):
        if key.startswith("init_attn.") or any(part in key for part in ("to_k_ip.", "to_v_ip.", "attn2.alpha")):
            continue
        layer = next((name for name in moved if key.startswith(f"{name}.")), "")
        keys[key] = moved[layer] + key[len(layer) :] if layer else key
    return keys


def _moved_layers(unet: VideoUNet) -> Iterator[tuple[str, str]]:
    """Layers that stand at another index without the temporal ones before them."""
    blocks: dict[str, nn.ModuleList] = {"middle_block": unet.middle_block}
    for name in ("input_blocks", "output_blocks"):
        blocks |= {f"{name}.{index}": block for index, block in enumerate(getattr(unet, name))}
    for name, block in blocks.items():
        spatial = [index for index, layer in enumerate(block) if not isinstance(layer, TemporalTransformer)]
        yield from ((f"{name}.{old}", f"{name}.{new}") for new, old in enumerate(spatial) if new != old)
