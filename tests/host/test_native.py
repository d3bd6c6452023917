"""MODEL is a native one: what ComfyUI's own nodes do to models, they do to this one."""

import inspect
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def made(load, scene):
    return scene(load(), frames=2)


@pytest.fixture(scope="module")
def plain(made, sample) -> torch.Tensor:
    return sample(made, "KSampler", steps=2)


@pytest.mark.once
def test_every_sampler_and_scheduler_of_the_host_gives_a_video(made, sample) -> None:
    import comfy.samplers

    given = [("euler", scheduler) for scheduler in comfy.samplers.KSampler.SCHEDULERS]
    given += [(sampler, "simple") for sampler in comfy.samplers.KSampler.SAMPLERS]
    wrong = {}
    for sampler, scheduler in given:
        out = sample(made, "KSampler", steps=3, cfg=1.0, sampler_name=sampler, scheduler=scheduler)
        if not out.isfinite().all() or not 0.01 < (out * 0.18215).std() < 30:
            wrong[sampler, scheduler] = out.std().item()
    # Heun's first step averages over an all but infinite sigma: with zero terminal SNR it overshoots in any model.
    assert set(wrong) <= {("heun", "simple")}
    assert len(given) > 40


def lora_file(model, style: str, alpha: float = 2.0) -> dict[str, torch.Tensor]:
    key = "middle_block.1.transformer_blocks.0.attn2.to_k_ip"
    weight = model.model.diffusion_model.get_submodule(key).weight
    prefix = f"diffusion_model.{key}" if style == "diffusion_model" else "lora_unet_" + key.replace(".", "_")
    generator = torch.Generator().manual_seed(0)
    return {
        f"{prefix}.lora_up.weight": torch.randn(weight.shape[0], 2, generator=generator),
        f"{prefix}.lora_down.weight": torch.randn(2, weight.shape[1], generator=generator),
        f"{prefix}.alpha": torch.tensor(alpha),
    }


@pytest.fixture
def with_lora(run, made):
    """MODEL behind the host's LoRA loader, with a LoRA of two ranks in the given style."""
    import folder_paths
    from safetensors.torch import save_file

    def load(style: str = "diffusion_model", strength: float = 1.0, model=None, alpha: float = 2.0):
        folder = Path(folder_paths.get_folder_paths("loras")[0])
        folder.mkdir(parents=True, exist_ok=True)
        save_file(lora_file(made.model, style, alpha), folder / f"{style}.safetensors")
        folder_paths.filename_list_cache.clear()
        inputs = {"lora_name": f"{style}.safetensors", "strength_model": strength}
        return run("LoraLoaderModelOnly", model=model or made.model, **inputs)[0]

    return load


def test_lora_of_either_key_style_changes_the_video_alike(made, plain, sample, with_lora) -> None:
    by_path = sample(made, "KSampler", model=with_lora("diffusion_model"), steps=2)
    by_name = sample(made, "KSampler", model=with_lora("lora_unet"), steps=2)
    assert (by_path - plain).abs().max() > 1e-3
    torch.testing.assert_close(by_path, by_name)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_lora_that_gives_nan_is_named_as_a_cause(made, run, sample, with_lora, alpha) -> None:
    model = with_lora(alpha=alpha)
    with pytest.raises(ValueError, match="hold NaN or infinity.* a LoRA or another patch"):
        sample(made, model=model, steps=1)
    latents = sample(made, "KSampler", model=model, steps=1)  # the host's own sampler looks at nothing
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        run("DynamiCrafterDecode", vae=made.vae, latent={"samples": latents})


@pytest.mark.parametrize("weight", ["nan", "inf", "1e39"])
def test_so_is_a_weight_in_a_prompt(load, scene, sample, weight) -> None:
    with pytest.raises(ValueError, match="hold NaN or infinity.*a weight in a prompt"):
        sample(scene(load(), prompt=f"a (dog:{weight}) runs"), steps=1)


def test_lora_of_strength_zero_changes_nothing(made, plain, sample, with_lora) -> None:
    torch.testing.assert_close(sample(made, "KSampler", model=with_lora(strength=0.0), steps=2), plain)
    assert torch.equal(sample(made, "KSampler", steps=2), plain)


def test_lora_of_our_own_training_does_in_the_host_what_it_did_in_training(
    load, scene, sample, run, ours, by_the_core, noise_of
) -> None:
    """The file that `dynamicrafter train` writes, with an alpha that is not its rank, by the host's own loader."""
    import folder_paths

    training = ours("dynamicrafter_core.training.lora")
    path = Path(folder_paths.get_folder_paths("loras")[0], "trained.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)

    def attach(unet, family) -> None:
        model = ours("dynamicrafter_core.training.model").Model(family, {"unet": unet})
        lora = training.attach_lora(model, {"rank": 2, "alpha": 3}, seed=0)
        for layer in lora.layers:
            torch.nn.init.normal_(layer.up.weight, std=0.1)
        training.save_lora(path, lora, {"step": 1})

    made = scene(load(), frames=16)
    options = {"steps": 2, "cfg_text": 2.0, "cfg_image": 2.0, "eta": 0.0, "guidance_rescale": 0.0}
    trained = by_the_core("dynamicrafter_512", noise_of(made), 2, change=attach)[0].transpose(0, 1) / 0.18215
    folder_paths.filename_list_cache.clear()

    def with_strength(strength: float) -> torch.Tensor:
        (model,) = run("LoraLoaderModelOnly", model=made.model, lora_name=path.name, strength_model=strength)
        return sample(made, model=model, **options)

    without = sample(made, **options)
    assert (trained - without).abs().max() > 0.1
    torch.testing.assert_close(with_strength(1.0), trained, atol=2e-3, rtol=1e-3)
    assert torch.equal(with_strength(0.0), without)


def test_merging_a_model_with_itself_changes_nothing(made, plain, sample, run, extras, load) -> None:
    extras("nodes_model_merging")
    (merged,) = run("ModelMergeSimple", model1=made.model, model2=load().model, ratio=0.5)
    torch.testing.assert_close(sample(made, "KSampler", model=merged, steps=2), plain, atol=1e-4, rtol=1e-4)


def test_a_saved_model_loads_again_with_its_projector(made, plain, sample, run, extras, ours) -> None:
    extras("nodes_model_merging")
    import comfy_extras.nodes_model_merging as merging
    import folder_paths

    merging.ModelSave().save(made.model, "saved_512")
    (written,) = Path(folder_paths.get_output_directory()).glob("saved_512*")
    written.rename(Path(folder_paths.get_folder_paths("checkpoints")[0], "saved_512.safetensors"))
    folder_paths.filename_list_cache.clear()
    inputs = {"projector": "in the same file", "variant": "dynamicrafter_512", "weight_dtype": "default"}
    (again,) = run("DynamiCrafterLoadParts", unet="saved_512.safetensors", **inputs)
    torch.testing.assert_close(sample(made, "KSampler", model=again, steps=2), plain)
    projector = ours("nodes.host.loading").projector_of(again)
    assert projector is not None and projector.model.latents.shape[1] == 256


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2", "bf16", "fp16"])
def test_weight_dtypes_keep_the_video_close(dtype, load, scene, sample, made) -> None:
    model = load(weight_dtype=dtype).model
    weights = {parameter.dtype for parameter in model.model.diffusion_model.parameters()}
    kinds = {
        "fp8_e4m3fn": torch.float8_e4m3fn,
        "fp8_e5m2": torch.float8_e5m2,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }
    assert weights == {kinds[dtype]}
    out, exact = (sample(made, "KSampler", model=each, steps=2, cfg=1.0) for each in (model, made.model))
    assert torch.nn.functional.cosine_similarity(out.flatten(), exact.flatten(), dim=0) > 0.9
    assert not torch.equal(out, exact)


def test_compute_dtype_node_is_followed(made, run, extras, sample) -> None:
    extras("nodes_model_advanced")
    (model,) = run("ModelComputeDtype", model=made.model, dtype="bf16")
    seen = []
    hook = made.model.model.diffusion_model.out[0].register_forward_hook(
        lambda m, given, out: seen.append(given[0].dtype)
    )
    try:
        out = sample(made, "KSampler", model=model, steps=1)
    finally:
        hook.remove()
    assert out.isfinite().all() and set(seen) == {torch.bfloat16}


def test_unet_function_wrapper_may_take_branches_apart(made, plain, sample) -> None:
    """As packs do that run one branch at a time: the model finds its clips whatever part of the batch it gets."""

    def one_by_one(apply, given):
        count = len(given["cond_or_uncond"])
        conditions = {key: value for key, value in given["c"].items()}
        parts = []
        for index in range(count):
            part = {
                key: value.chunk(count)[index] if torch.is_tensor(value) else value for key, value in conditions.items()
            }
            x, t = given["input"].chunk(count)[index], given["timestep"].chunk(count)[index]
            parts.append(apply(x, t, **part))
        return torch.cat(parts)

    model = made.model.clone()
    model.set_model_unet_function_wrapper(one_by_one)
    torch.testing.assert_close(sample(made, "KSampler", model=model, steps=2), plain, atol=5e-3, rtol=1e-2)


def test_diffusion_model_wrappers_surround_the_unet(made, plain, sample) -> None:
    from comfy.patcher_extension import WrappersMP

    seen = []

    def double(executor, x, timesteps, *args, **kwargs):
        seen.append((x.shape, isinstance(args[-1], dict)))
        return 0.5 * executor(x, timesteps, *args, **kwargs)

    model = made.model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", double)
    out = sample(made, "KSampler", model=model, steps=2)
    assert seen == [(torch.Size([4, 8, 8, 8]), True)] * 2
    assert (out - plain).abs().max() > 1e-3


def test_attention_override_gets_every_attention(made, plain, sample) -> None:
    calls = []

    def override(attention, *args, **kwargs):
        calls.append(kwargs["transformer_options"]["cond_or_uncond"])
        return attention(*args, **kwargs)

    model = made.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    out = sample(made, "KSampler", model=model, steps=1)
    modules = [
        name for name, _ in made.model.model.diffusion_model.named_modules() if name.endswith((".attn1", ".attn2"))
    ]
    dual = [name for name in modules if hasattr(made.model.model.diffusion_model.get_submodule(name), "to_k_ip")]
    assert len(calls) == len(modules) + len(dual)  # text and image are two attentions
    assert out.isfinite().all()


@pytest.mark.once
@pytest.mark.slow
def test_compiled_model_is_the_same_model(load, scene, sample, monkeypatch) -> None:
    import comfy.ldm.modules.attention as attention
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    # What the host takes on CUDA. What it takes on a CPU asks for free memory, which no graph can hold.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)

    made = scene(load("videocrafter1_t2v_512"), frames=2)
    model = made.model.clone()
    set_torch_compile_wrapper(model=model, backend="eager")
    plain, compiled = (sample(made, "KSampler", model=each, steps=1) for each in (made.model, model))
    torch.testing.assert_close(compiled, plain, atol=1e-3, rtol=1e-3)


def test_an_unmerged_clone_never_touches_the_original(made, plain, sample, with_lora) -> None:
    before = {key: value.clone() for key, value in made.model.model.diffusion_model.state_dict().items()}
    clone = with_lora()
    sample(made, "KSampler", model=clone, steps=1)
    assert torch.equal(sample(made, "KSampler", steps=2), plain)
    after = made.model.model.diffusion_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_partly_loaded_model_is_exact(made, plain, sample, with_lora) -> None:
    """Low memory: layers that do not fit are cast when they are used. Emulated as the host marks them (B2 of its notes)."""
    model = with_lora()
    whole = sample(made, "KSampler", model=model, steps=2)
    model.detach()
    try:
        model.load(lowvram_model_memory=model.model_size() // 3, force_patch_weights=False)
        kept = [name for name, m in model.model.named_modules() if getattr(m, "comfy_patched_weights", False)]
        left = [name for name, m in model.model.named_modules() if getattr(m, "comfy_cast_weights", False)]
        assert kept and left
        with torch.inference_mode():
            partly = sample(made, "KSampler", model=model, steps=2)
    finally:
        model.detach()
    torch.testing.assert_close(partly, whole, atol=1e-5, rtol=1e-4)


def test_context_windows_cover_a_longer_clip(load, scene, sample, run, extras) -> None:
    extras("nodes_context_windows")
    longer = scene(load(), frames=10)
    import comfy_extras.nodes_context_windows as windows

    node = windows.ContextWindowsManualNode
    inputs = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    inputs |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False}
    model = node.execute(model=longer.model, **inputs).args[0]
    seen = []
    hook = longer.model.model.diffusion_model.register_forward_hook(lambda m, given, out: seen.append(out.shape[0]))
    try:
        out = sample(longer, model=model, steps=2, cfg_text=2.0, cfg_image=2.0)
    finally:
        hook.remove()
    assert out.shape[0] == 10 and out.isfinite().all()
    assert set(seen) <= {8, 10} and len(seen) >= 8  # two branches of 4 frames, or of 4 and the host's anchor frame


def test_controlnet_of_stable_diffusion_2_shape_guides_the_frames(made, plain, sample) -> None:
    """A control network's residuals reach the skips and the middle, one row for every frame and branch."""

    class Control:
        previous_controlnet = None
        extra_hooks = None
        multigpu_clones: dict = {}

        def get_control(self, x, t, cond, batched_number, transformer_options):
            assert cond["c_crossattn"].shape[0] == x.shape[0]
            skips = [None] * 11 + [torch.ones(x.shape[0], 128, 1, 1)]
            return {"output": skips, "middle": [torch.ones(x.shape[0], 128, 1, 1)]}

        def get_models(self):
            return []

        def get_extra_hooks(self):
            return []

        def inference_memory_requirements(self, dtype):
            return 0

        def pre_run(self, model, percent_to_timestep):
            pass

        def cleanup(self):
            pass

    control = Control()
    positive = [
        [text, {**options, "control": control, "control_apply_to_uncond": True}] for text, options in made.positive
    ]
    out = sample(made, "KSampler", steps=2, positive=positive)
    assert out.isfinite().all() and (out - plain).abs().max() > 1e-3


def test_hosts_lora_training_learns_on_the_model(made, run, extras) -> None:
    extras("nodes_train")
    import comfy_extras.nodes_train as training

    inputs = {
        "batch_size": 2,
        "grad_accumulation_steps": 1,
        "steps": 2,
        "learning_rate": 1e-3,
        "rank": 2,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": False,
    }
    known = inspect.signature(training.TrainLoraNode.execute).parameters  # which differ from host to host
    listed = {key: [value] for key, value in inputs.items() if key in known}
    given = {"model": [made.model], "latents": [made.latent], "positive": [made.positive]}
    with torch.inference_mode():
        lora, losses, steps = training.TrainLoraNode.execute(**given, **listed).args
    assert steps == 2 and all(torch.tensor(losses["loss"]).isfinite())
    assert any(value.abs().max() > 0 for key, value in lora.items() if "lora_up" in key)
