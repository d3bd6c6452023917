"""The host's nodes that patch a MODEL change this one as they change Stable Diffusion 2, or refuse in a sentence."""

from types import SimpleNamespace

import pytest
import torch

STEPS = 2
STRONG = {
    "FreeU": ("nodes_freelunch", {"b1": 1.4, "b2": 1.6, "s1": 0.5, "s2": 0.2}),
    "FreeU_V2": ("nodes_freelunch", {"b1": 1.4, "b2": 1.6, "s1": 0.5, "s2": 0.2}),
    "PerturbedAttentionGuidance": ("nodes_pag", {"scale": 5.0}),
    "SelfAttentionGuidance": ("nodes_sag", {"scale": 2.0, "blur_sigma": 2.0}),
    "HyperTile": ("nodes_hypertile", {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False}),
    "TomePatchModel": ("nodes_tomesd", {"ratio": 0.6}),
    "PatchModelAddDownscale": (
        "nodes_model_downscale",
        {
            "block_number": 3,
            "downscale_factor": 2.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
            "downscale_after_skip": True,
            "downscale_method": "bicubic",
            "upscale_method": "bicubic",
        },
    ),
    "NAGuidance": ("nodes_nag", {"nag_scale": 8.0, "nag_alpha": 1.0, "nag_tau": 5.0}),
    "RenormCFG": ("nodes_lumina2", {"cfg_trunc": 1000.0, "renorm_cfg": 0.5}),
}


@pytest.fixture(scope="module")
def made(load, scene, image) -> SimpleNamespace:
    """Large enough for tiles and for the blur of self-attention guidance; sides that differ."""
    return scene(load(), images=image(128, 192), width=192, height=128, frames=3)


@pytest.fixture
def patched(made, extras, run):
    def patch(node: str, model=None):
        module, settings = STRONG[node]
        extras(module)
        return run(node, model=model or made.model, **settings)[0]

    return patch


@pytest.fixture(scope="module", params=["KSampler", "DynamiCrafterSampler"])
def sampler(request, made, sample) -> SimpleNamespace:
    # RenormCFG takes the place of the guidance, and so of its rescaling too.
    settings = {} if request.param == "KSampler" else {"guidance_rescale": 0.0}

    def by(model=None) -> torch.Tensor:
        torch.manual_seed(0)  # token merging draws from the global state
        return sample(made, request.param, model=model, steps=STEPS, **settings)

    return SimpleNamespace(sample=by, plain=by())


@pytest.mark.parametrize("node", STRONG)
def test_every_patching_node_has_its_effect(node, patched, sampler) -> None:
    out = sampler.sample(patched(node))
    assert out.isfinite().all()
    assert (out - sampler.plain).abs().mean() > 1e-3 * sampler.plain.abs().mean()


def test_a_patched_clone_leaves_the_model_as_it_was(patched, sampler) -> None:
    for node in STRONG:
        patched(node)
    assert torch.equal(sampler.sample(), sampler.plain)


def spy(made, sample, register) -> list[dict]:
    """What patches read, copied at each call, in a run of one step by the paper's sampler."""
    seen: list[dict] = []
    model = made.model.clone()
    register(model, seen)
    sample(made, model=model, steps=1)
    return seen


def copy(options: dict) -> dict:
    names = ("block", "block_index", "transformer_index", "n_heads", "dim_head", "original_shape", "activations_shape")
    return {name: options.get(name) for name in (*names, "cond_or_uncond", "sigmas")}


def test_attention_patches_read_what_the_host_s_own_unet_writes(made, sample) -> None:
    def register(model, seen):
        def patch(n, context, value, options):
            seen.append({**copy(options), "tokens": n.shape, "context": context.shape})
            return n, context, value

        model.set_model_attn2_patch(patch)

    seen = spy(made, sample, register)
    latent = made.latent["samples"].shape
    rows = len(seen[0]["cond_or_uncond"]) * latent[0]
    places = [entry["block"] for entry in seen]
    assert places[:6] == [("input", number) for number in (1, 2, 4, 5, 7, 8)]
    assert places[6] == ("middle", 0)
    assert places[7:] == [("output", number) for number in range(3, 12)]
    assert [entry["transformer_index"] for entry in seen] == list(range(16))
    assert sorted(seen[0]["cond_or_uncond"]) == [0, 1, 2]
    for entry in seen:
        assert entry["original_shape"] == [rows, 8, *latent[2:]]
        height, width = entry["activations_shape"][2:]
        assert entry["activations_shape"][:2] == [rows, entry["n_heads"] * entry["dim_head"]]
        assert entry["tokens"] == (rows, height * width, entry["n_heads"] * entry["dim_head"])
        assert entry["context"][0] == rows
        assert entry["block_index"] == 0
        assert len(entry["sigmas"])


def test_block_patches_read_their_block(made, sample) -> None:
    def register(model, seen):
        def stream(h, options):
            seen.append(copy(options))
            return h

        def join(h, skip, options):
            seen.append(copy(options))
            return h, skip

        model.set_model_input_block_patch(stream)
        model.set_model_output_block_patch(join)

    seen = spy(made, sample, register)
    assert [entry["block"] for entry in seen] == [(k, n) for k in ("input", "output") for n in range(12)]


def test_branches_are_numbered_as_the_host_numbers_them(made, sample) -> None:
    """0 is the conditional and 1 the unconditional: patches such as NAG look for them."""
    texts: dict[int, torch.Tensor] = {}

    def patch(n, context, value, options):
        rows = context.chunk(len(options["cond_or_uncond"]))
        texts.update(dict(zip(options["cond_or_uncond"], rows, strict=True)))
        return n, context, value

    model = made.model.clone()
    model.set_model_attn2_patch(patch)
    sample(made, model=model, steps=1)
    torch.testing.assert_close(texts[0][0], made.positive[0][0][0])
    torch.testing.assert_close(texts[1][0], made.negative[0][0][0])
    torch.testing.assert_close(texts[2][0], made.negative[0][0][0])  # the image alone has the negative's text


def nothing_shared(model):
    """A clone with a patch that changes nothing, for runs to compare with: plain passes, as with any attention patch.

    At zero terminal SNR the first step multiplies rounding by thousands, and sharing a beginning rounds differently.
    """
    model = model.clone()
    model.set_model_attn1_patch(lambda n, context, value, options: (n, context, value))
    return model


def test_replacing_attention_is_perturbed_attention_s_formula(made, sample, monkeypatch) -> None:
    model = made.model.clone()
    model.set_model_attn1_replace(lambda q, k, v, options: v, "middle", 0)
    ours = sample(made, "KSampler", model=model, steps=STEPS)
    attention = made.model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1
    monkeypatch.setattr(attention, "forward", lambda x, signals: attention.to_out(attention.to_v(x)))
    expected = sample(made, "KSampler", model=nothing_shared(made.model), steps=STEPS)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_self_attention_guidance_is_its_formula(made, sample, patched, monkeypatch) -> None:
    """Hong et al. 2023: blur what the middle block of the unconditional branch looks at, and go away from the outcome."""
    from comfy.samplers import calc_cond_batch
    from torchvision.transforms.functional import gaussian_blur

    late = {"steps": STEPS, "denoise": 0.3}  # past zero terminal SNR, where rounding is multiplied by thousands
    ours = sample(made, "KSampler", model=patched("SelfAttentionGuidance"), **late)
    attention = made.model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1
    forward, maps = attention.forward, {}

    def watch(x, signals):
        branches = signals.options["cond_or_uncond"]
        if 1 not in branches:
            return forward(x, signals)
        layers = (attention.to_q, attention.to_k, attention.to_v)
        q, k, v = (layer(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for layer in layers)
        looks = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)  # rows, heads, from token, to token
        maps.update(dict(zip(branches, looks.mean(1).chunk(len(branches)), strict=True)))
        return attention.to_out((looks @ v).transpose(1, 2).flatten(2))

    def guide(args):
        clean = args["uncond_denoised"]
        looked_at = (maps[1].sum(1) > 1).float()  # rows, tokens
        shrink = round((clean[0, 0].numel() / looked_at.shape[1]) ** 0.5)
        grid = looked_at.unflatten(1, (-1, clean.shape[-1] // shrink))
        mask = grid.repeat_interleave(shrink, 1).repeat_interleave(shrink, 2)[:, None]
        blurred = torch.lerp(clean, gaussian_blur(clean, [9, 9], [2.0, 2.0]), mask)
        noisy = args["input"] - clean + blurred
        (again,) = calc_cond_batch(args["model"], [args["uncond"]], noisy, args["sigma"], args["model_options"])
        return args["denoised"] + 2.0 * (blurred - again)

    monkeypatch.setattr(attention, "forward", watch)
    model = nothing_shared(made.model)
    model.set_model_sampler_post_cfg_function(guide, disable_cfg1_optimization=True)
    expected = sample(made, "KSampler", model=model, **late)
    scale = ours.abs().mean().item()
    torch.testing.assert_close(ours / scale, expected / scale, rtol=1e-4, atol=1e-4)


def test_an_attn2_patch_of_extra_tokens_is_a_longer_prompt(made, sample) -> None:
    """IPAdapter's way; here both prompts get the tokens, so that a longer CONDITIONING must do the same."""
    extra = torch.randn(1, 4, made.positive[0][0].shape[-1], generator=torch.Generator().manual_seed(0))

    def append(n, context, value, options):
        more = extra.to(context).repeat(len(context), 1, 1)
        return n, torch.cat([context, more], 1), torch.cat([value, more], 1)

    model = made.model.clone()
    model.set_model_attn2_patch(append)

    def longer(conditioning):
        return [[torch.cat([text, extra], 1), options] for text, options in conditioning]

    by_prompt = {"positive": longer(made.positive), "negative": longer(made.negative)}
    expected = sample(made, model=nothing_shared(made.model), steps=STEPS, **by_prompt)
    torch.testing.assert_close(sample(made, model=model, steps=STEPS), expected, rtol=1e-4, atol=1e-4)


def test_renorm_cfg_limits_the_norm_of_each_clip(ours, patched) -> None:
    """The guided difference of a clip is as long as its conditional sample at most, times the node's factor."""
    random = torch.Generator().manual_seed(0)
    clips, frames = 2, 3
    x, cond, uncond = (torch.randn(clips * frames, 4, 8, 8, generator=random) for _ in range(3))
    guider = SimpleNamespace(
        conds={"positive": [{"model_conds": {"dynamicrafter_frames": SimpleNamespace(cond=clips)}}]}
    )
    function = patched("RenormCFG").model_options["sampler_cfg_function"]
    guide = ours("nodes.host.host_guidance").once_a_clip(function, guider)
    given = {"input": x, "cond": x - cond, "uncond": x - uncond, "cond_denoised": cond, "uncond_denoised": uncond}
    guided = x - guide({**given, "cond_scale": 6.0, "timestep": torch.tensor([1.0])})
    for clip in range(clips):
        rows = slice(clip * frames, (clip + 1) * frames)
        plain = uncond[rows] + 6.0 * (cond[rows] - uncond[rows])
        expected = plain * 0.5 * cond[rows].norm() / plain.norm()
        torch.testing.assert_close(guided[rows], expected)


def test_renorm_cfg_with_guidance_rescale_is_refused(made, patched, sample) -> None:
    with pytest.raises(ValueError, match="RescaleCFG or the like"):
        sample(made, model=patched("RenormCFG"), steps=1, guidance_rescale=0.7)


@pytest.mark.parametrize("node", ["FreeU_V2", "PerturbedAttentionGuidance", "HyperTile", "NAGuidance"])
def test_patches_work_on_weights_that_stay_offloaded(node, patched, made, sampler) -> None:
    model = patched(node)
    full = sampler.sample(model)
    model.detach()
    try:
        model.load(lowvram_model_memory=model.model_size() // 3, force_patch_weights=False)
        assert any(getattr(layer, "comfy_cast_weights", False) for layer in model.model.modules())
        with torch.inference_mode():
            partly = sampler.sample(model)
    finally:
        model.detach()
    torch.testing.assert_close(partly, full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("node", ["FreeU_V2", "PerturbedAttentionGuidance", "TomePatchModel", "PatchModelAddDownscale"])
def test_patches_work_in_every_context_window(node, patched, load, scene, image, sample, run, extras) -> None:
    extras("nodes_context_windows")
    longer = scene(load(), images=image(128, 192), width=192, height=128, frames=7)
    windows = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    windows |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False}

    def clip(model) -> torch.Tensor:
        torch.manual_seed(0)
        (model,) = run("ContextWindowsManual", model=model, **windows)
        return sample(longer, model=model, steps=STEPS)

    plain, out = clip(longer.model), clip(patched(node, longer.model))
    assert out.isfinite().all()
    moved = (out - plain).abs().flatten(1).mean(1) / plain.abs().mean()
    assert (moved > 1e-3).all()  # in every frame


@pytest.mark.parametrize("node", ["FreeU_V2", "PerturbedAttentionGuidance", "NAGuidance"])
def test_patches_work_on_weights_in_fp8_and_with_a_lora(node, patched, made, load, scene, image, sample) -> None:
    def with_lora(model):
        model = model.clone()
        weights = model.model.diffusion_model.middle_block[0].state_dict()
        key, value = "diffusion_model.middle_block.0.out_layers.3.weight", weights["out_layers.3.weight"]
        model.add_patches({key: (torch.full(value.shape, 0.05),)}, 1.0)
        return model

    eighth = load(weight_dtype="fp8_e4m3fn")
    small = scene(eighth, images=image(128, 192), width=192, height=128, frames=3)
    for given in (eighth.model, with_lora(made.model)):
        plain, out = (sample(small, model=model, steps=STEPS) for model in (given, patched(node, given)))
        assert out.isfinite().all()
        assert (out - plain).abs().mean() > 1e-3 * plain.abs().mean()


@pytest.mark.once
def test_a_patched_model_can_be_compiled(made, patched, sample, monkeypatch) -> None:
    import comfy.ldm.modules.attention as attention
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    # What the host takes on CUDA. What it takes on a CPU asks for free memory, which no graph can hold.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)

    plain = patched("FreeU_V2")
    compiled = plain.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    expected, out = (sample(made, "KSampler", model=model, steps=1, cfg=1.0) for model in (plain, compiled))
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["emb_patch", "double_block"])
def test_a_patch_of_another_kind_of_model_is_refused(made, sample, kind) -> None:
    model = made.model.clone()
    model.set_model_patch(lambda *given: given[0], kind)
    with pytest.raises(ValueError, match=f"patches '{kind}', which the video UNet does not have"):
        sample(made, "KSampler", model=model, steps=1)


def test_a_replacement_of_another_kind_of_model_is_refused(made, sample) -> None:
    model = made.model.clone()
    model.set_model_patch_replace(lambda *given: given[0], "dit", "double_block", 0)
    with pytest.raises(ValueError, match="patches 'dit', which the video UNet does not have"):
        sample(made, "KSampler", model=model, steps=1)
