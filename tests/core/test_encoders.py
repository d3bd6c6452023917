"""The CLIP towers: released names and shapes, open_clip's weights, and the formula of the papers written out."""

import math

import pytest
import torch
from golden import manifest
from torch.nn import functional as F

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.encoders import TextTower, TextTowerConfig, VisionTower, VisionTowerConfig, tokenize

START, END = 49406, 49407
TEXT = TextTowerConfig(width=24, layers=3, heads=2, mlp_width=40, vocabulary=50, context_length=9, embed_dim=10)
VISION = VisionTowerConfig(width=18, layers=2, heads=3, mlp_width=30, patch_size=4, image_size=12, embed_dim=10)


def shapes_of(module):
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def part(variant, prefix):
    shapes = manifest(variant).items()
    return {key.removeprefix(prefix): shape for key, shape in shapes if key.startswith(prefix)}


def randomised(module):
    """Weights of a size at which every term of the formula counts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


def norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"])


def blocks_by_hand(x, weights, prefix, layers, heads, causal):
    """Pre-norm transformer blocks with exact GELU, from their definition."""
    for layer in range(layers):
        w = {key.removeprefix(f"{prefix}.{layer}."): value for key, value in weights.items()}
        h = norm(x, w, "ln_1") @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"]
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in h.chunk(3, -1))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
            logits = logits.masked_fill(later, -math.inf)
        h = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + h @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
        h = norm(x, w, "ln_2") @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"]
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        x = x + h @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]
    return x


def text_by_hand(tokens, weights, config):
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][: tokens.shape[1]]
    x = blocks_by_hand(x, weights, "transformer.resblocks", config.layers - 1, config.heads, causal=True)
    return norm(x, weights, "ln_final")


def vision_by_hand(pixels, weights, config):
    w = {key.removeprefix("visual."): value for key, value in weights.items()}
    size, grid = config.patch_size, config.image_size // config.patch_size
    patches = pixels.reshape(-1, 3, grid, size, grid, size).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    x = patches @ w["conv1.weight"].flatten(1).T
    x = torch.cat([w["class_embedding"].expand(x.shape[0], 1, -1), x], 1) + w["positional_embedding"]
    return blocks_by_hand(norm(x, w, "ln_pre"), w, "transformer.resblocks", config.layers, config.heads, causal=False)


def assert_close(actual, expected, dtype):
    bound = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype] * expected.abs().max()
    assert actual.dtype == dtype
    assert (actual.float() - expected).abs().max() <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_tokens_are_the_penultimate_blocks_normed(dtype):
    tower = randomised(TextTower(TEXT)).to(dtype)
    weights = {key: value.float() for key, value in tower.state_dict().items()}
    tokens = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_close(tower(tokens), text_by_hand(tokens, weights, TEXT), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_image_tokens_are_all_the_last_blocks_unnormed(dtype):
    tower = randomised(VisionTower(VISION)).to(dtype)
    weights = {key: value.float() for key, value in tower.state_dict().items()}
    pixels = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        tokens = tower(pixels)
    assert tokens.shape == (2, 1 + 9, 18)
    assert_close(tokens, vision_by_hand(pixels.float(), weights, VISION), dtype)


def test_text_released_shapes_tell_the_config_and_are_met():
    shapes = part("videocrafter2_t2v_512", "cond_stage_model.model.")
    assert TextTowerConfig.from_shapes(shapes) == TextTowerConfig()
    assert shapes_of(TextTower(TextTowerConfig(), device="meta")) == shapes


def test_vision_released_shapes_tell_the_config_and_are_met():
    shapes = part("dynamicrafter_512", "embedder.model.")
    assert VisionTowerConfig.from_shapes(shapes) == VisionTowerConfig()
    visual = shapes_of(VisionTower(VisionTowerConfig(), device="meta"))
    assert visual == {key: shape for key, shape in shapes.items() if key.startswith("visual.")}
    text = shapes_of(TextTower(TextTowerConfig(), device="meta"))
    unread = {key: shape for key, shape in text.items() if not key.startswith("transformer.")}
    assert {**visual, **unread} == shapes


@pytest.mark.parametrize(("tower", "config"), [(TextTower, TEXT), (VisionTower, VISION)])
def test_a_tower_built_without_memory_is_whole_once_weights_are_assigned(tower, config):
    real, empty = randomised(tower(config)), tower(config, device="meta", dtype=torch.bfloat16)
    assert {value.dtype for value in empty.state_dict().values()} == {torch.bfloat16}
    empty.load_state_dict(real.state_dict(), assign=True)
    assert not [name for name, tensor in [*empty.named_parameters(), *empty.named_buffers()] if tensor.is_meta]
    data = torch.arange(9)[None] if tower is TextTower else torch.ones(1, 3, 12, 12)
    with torch.inference_mode():
        assert torch.equal(empty.eval()(data), real(data))


@pytest.mark.parametrize(("tower", "config"), [(TextTower, TEXT), (VisionTower, VISION)])
def test_small_towers_are_told_by_their_shapes_and_heads(tower, config):
    shapes = shapes_of(tower(config, device="meta"))
    assert type(config).from_shapes(shapes, heads=config.heads) == config
    with pytest.raises(InputError, match=f"width {config.width} does not show how many heads"):
        type(config).from_shapes(shapes)
    with pytest.raises(InputError, match="are not a CLIP .* is missing"):
        type(config).from_shapes({"latents": (1, 2, 3)})


def test_an_empty_prompt_is_start_end_and_zeros():
    assert tokenize("").tolist() == tokenize([""]).tolist() == [[[START, END, *[0] * 75]]]


def test_tokens_are_open_clips():
    from open_clip.tokenizer import SimpleTokenizer

    prompts = ["a man playing guitar, 4k", "  Ein  Pferd &amp; ein Reiter\n", "日本語 \U0001f600", ""]
    assert torch.equal(tokenize(prompts)[:, 0], SimpleTokenizer()(prompts, context_length=77))


@pytest.mark.parametrize(("words", "chunks"), [(0, 1), (74, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_long_prompts_go_on_in_further_chunks(words, chunks):
    tokens = tokenize([" ".join(["cat"] * words)])
    assert tokens.shape == (1, chunks, 77)
    cat = int(tokenize(["cat"])[0, 0, 1])
    assert (tokens == cat).sum() == words
    for row in tokens[0].tolist():
        used = row.count(cat)
        assert row == [START, *[cat] * used, END, *[0] * (75 - used)]


@pytest.fixture(scope="module")
def reader():
    return randomised(TextTower(TextTowerConfig(16, 2, 2, mlp_width=32, context_length=12, embed_dim=4)))


def test_every_chunk_is_encoded_by_itself(reader):
    words = ["a", "small", "red", "boat", "sails", "past", "the", "old", "stone", "lighthouse", "at", "dawn"]
    with torch.inference_mode():
        whole = reader.encode(" ".join(words))
        chunks = [reader.encode(" ".join(words[:10])), reader.encode(" ".join(words[10:]))]
    assert whole.shape == (1, 24, 16)
    torch.testing.assert_close(whole, torch.cat(chunks, dim=1))


def test_company_in_the_batch_changes_nothing_that_attention_can_see(reader):
    short, long = "a cat", " ".join(["dog"] * 25)
    query = torch.randn(1, 1, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = reader.encode([short, "", long]), reader.encode([short])
    assert together.shape == (3, 36, 16)
    seen, expected = (
        F.scaled_dot_product_attention(query, kv[None], kv[None]) for kv in (together[0][None], alone[0][None])
    )
    torch.testing.assert_close(seen, expected)


def test_misfits_are_told_in_a_sentence():
    with pytest.raises(InputError, match="knows 50 tokens, fewer than the tokenizer makes"):
        TextTower(TEXT, device="meta").encode(["a cat"])
    with pytest.raises(InputError, match=r"takes \[batch, 3, 12, 12\], not \[1, 3, 224, 224\]"):
        VisionTower(VISION, device="meta")(torch.zeros(1, 3, 224, 224, device="meta"))


def test_prompts_whose_chunks_never_meet_are_refused():
    with pytest.raises(InputError, match="take 17 and 19 chunks of 75 tokens, whose least common multiple is 323"):
        tokenize(["a " * 75 * 17, "a " * 75 * 19])
    assert tokenize(["a " * 75 * 17, "a " * 75 * 34]).shape == (2, 34, 77)
