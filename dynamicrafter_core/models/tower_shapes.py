"""The keys and shapes of OpenCLIP's towers, known without open_clip: a file can be checked where its towers run elsewhere."""

from .encoders import TextTowerConfig, VisionTowerConfig

Shapes = dict[str, tuple[int, ...]]


def text_shapes(config: TextTowerConfig) -> Shapes:
    width = config.width
    return {
        "positional_embedding": (config.context_length, width),
        "text_projection": (width, config.embed_dim),
        "logit_scale": (),
        **_blocks("transformer", width, config.layers, config.mlp_width),
        "token_embedding.weight": (config.vocabulary, width),
        **_norm("ln_final", width),
    }


def vision_shapes(config: VisionTowerConfig) -> Shapes:
    width = config.width
    patches = (config.image_size // config.patch_size) ** 2
    return {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (1 + patches, width),
        "visual.proj": (width, config.embed_dim),
        "visual.conv1.weight": (width, 3, config.patch_size, config.patch_size),
        **_norm("visual.ln_pre", width),
        **_blocks("visual.transformer", width, config.layers, config.mlp_width),
        **_norm("visual.ln_post", width),
    }


def _blocks(tower: str, width: int, layers: int, mlp_width: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(layers):
        block = f"{tower}.resblocks.{index}"
        shapes |= {
            **_norm(f"{block}.ln_1", width),
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            **_linear(f"{block}.attn.out_proj", width, width),
            **_norm(f"{block}.ln_2", width),
            **_linear(f"{block}.mlp.c_fc", width, mlp_width),
            **_linear(f"{block}.mlp.c_proj", mlp_width, width),
        }
    return shapes


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, width_in: int, width_out: int) -> Shapes:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}
