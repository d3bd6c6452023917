"""Checkpoints become parts: whatever the container, strictly, and without a second copy of the weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CONTEXT, tiny_checkpoint, tiny_configs, tiny_state

from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.part_names import PARTS, PREFIXES

ALL = ("unet", "autoencoder", "text", "vision", "projector")


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Callable[[str], Path]:
    """Each variant's whole checkpoint in fp16, written once."""
    folder = tmp_path_factory.mktemp("stored")

    def path(name: str) -> Path:
        file = folder / f"{name}.safetensors"
        return file if file.exists() else tiny_checkpoint(file, name, torch.float16)

    return path


@pytest.fixture(scope="module")
def half(stored) -> Path:
    return stored("dynamicrafter_512")


@pytest.fixture
def changed(half, tmp_path):
    """Writes the fixture's checkpoint with some of its tensors replaced, added, or (None) left out."""

    def write(name="model.safetensors", **changes) -> Path:
        state = {**load_file(half), **{key.replace("__", "."): value for key, value in changes.items()}}
        save_file({key: value for key, value in state.items() if value is not None}, tmp_path / name)
        return tmp_path / name

    return write


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        load_checkpoint(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(module: torch.nn.Module, part: str, name: str = "dynamicrafter_512", dtype=torch.float32) -> bool:
    stored = tiny_state(name)
    state = module.state_dict()
    return bool(state) and all(torch.equal(state[key], stored[PREFIXES[part] + key].to(dtype)) for key in state)


@pytest.mark.slow
@pytest.mark.parametrize("container", ["safetensors", "lightning", "deepspeed", "raw", "legacy"])
def test_parts_load_from_every_container(tmp_path, container):
    parts = ("autoencoder", "projector")
    path = tiny_checkpoint(tmp_path / "model.ckpt", container=container, parts=parts)
    checkpoint = load_checkpoint(path, "dynamicrafter_512")
    assert checkpoint.parts == parts
    for part in parts:
        module = checkpoint.load(part)
        assert same(module, part)
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_is_found_and_configured_and_its_unet_loaded(stored, name):
    checkpoint = load_checkpoint(stored(name))
    assert checkpoint.family == FAMILIES[name]
    assert checkpoint.configs == tiny_configs(name)
    assert same(checkpoint.load("unet"), "unet", name, torch.float16)


@pytest.mark.slow
def test_every_part_of_a_whole_file_is_loaded_to_the_last_tensor(half):
    checkpoint = load_checkpoint(half)
    assert checkpoint.parts == ALL
    for part in ALL:
        module = checkpoint.load(part)
        assert same(module, part, dtype=torch.float16)
        assert not any(tensor.is_meta for tensor in [*module.parameters(), *module.buffers()])


@pytest.mark.slow
def test_the_loaded_parts_work_together(half):
    checkpoint = load_checkpoint(half)
    parts = {part: checkpoint.load(part, torch.float32) for part in ALL}
    text = parts["text"].encode("a boat on the sea")
    image = parts["projector"](parts["vision"](torch.zeros(1, 3, 28, 28)))
    z = parts["autoencoder"].encode(torch.zeros(1, 3, 64, 64))[0]
    x = torch.cat([torch.randn(1, 4, 16, 8, 8), z.unsqueeze(2).expand(-1, -1, 16, -1, -1)], dim=1)
    out = parts["unet"](x, torch.tensor([500]), text, image, torch.tensor([24]))
    assert text.shape == (1, 77, CONTEXT)
    assert out.shape == (1, 4, 16, 8, 8)
    assert out.isfinite().all()


def test_an_fp16_file_stays_fp16_and_is_the_mapped_file_itself(half):
    checkpoint = load_checkpoint(half)
    module = checkpoint.load("unet")
    view = checkpoint.state_dict("unet")["out.2.weight"]
    assert module.out[2].weight.dtype == torch.float16
    assert module.out[2].weight.data_ptr() == view.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_part_is_loaded_in_the_dtype_asked_for(half, dtype):
    state = load_checkpoint(half).load("projector", dtype).state_dict()
    stored = load_file(half)
    assert all(torch.equal(value, stored["image_proj_model." + key].to(dtype)) for key, value in state.items())
    assert state["latents"].dtype == dtype  # no leaf of a layer, and still cast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_files_of_other_dtypes_load_as_they_are_and_cast(tmp_path, dtype):
    path = tiny_checkpoint(tmp_path / "vae.safetensors", dtype=dtype, parts=("autoencoder",))
    checkpoint = load_checkpoint(path, "dynamicrafter_512")
    assert checkpoint.load("autoencoder").quant_conv.weight.dtype == dtype
    cast = checkpoint.load("autoencoder", torch.float32).state_dict()["quant_conv.bias"]
    assert torch.equal(cast, tiny_state("dynamicrafter_512")["first_stage_model.quant_conv.bias"].to(dtype).float())


def test_memory_given_back_along_the_way_changes_nothing(half, monkeypatch):
    monkeypatch.setattr("dynamicrafter_core.checkpoints.checkpoint.RELEASE_EVERY", 2**18)
    state = load_checkpoint(half).load("autoencoder", torch.float32).state_dict()
    stored = load_file(half)
    assert all(torch.equal(value, stored["first_stage_model." + key].float()) for key, value in state.items())


@pytest.mark.slow
def test_the_256_models_stored_names_become_the_canonical_ones(tmp_path):
    state = tiny_state("dynamicrafter_256")
    state = {key: value for key, value in state.items() if key.startswith("model.")}
    renamed = {key.replace("fps_embedding", "framestride_embed"): value for key, value in state.items()}
    assert set(renamed) != set(state)
    torch.save({"state_dict": renamed}, tmp_path / "model.ckpt")
    checkpoint = load_checkpoint(tmp_path / "model.ckpt")
    assert checkpoint.family.name == "dynamicrafter_256"
    assert "fps_embedding.0.weight" in checkpoint.shapes("unet")
    assert same(checkpoint.load("unet"), "unet", "dynamicrafter_256")


@pytest.mark.slow
def test_scalars_that_belong_to_no_layer_are_loaded(tmp_path):
    state = {key: value for key, value in tiny_state("dynamicrafter_256").items() if key.startswith("model.")}
    alphas = [key for key in state if key.endswith(".alpha")]
    state |= {key: torch.tensor(0.25) for key in alphas}
    torch.save(state, tmp_path / "model.ckpt")
    loaded = load_checkpoint(tmp_path / "model.ckpt").load("unet").state_dict()
    assert len(alphas) == 16
    assert all(loaded[key.removeprefix(PREFIXES["unet"])] == 0.25 for key in alphas)


def test_a_pruned_file_has_the_parts_it_has(tmp_path):
    path = tiny_checkpoint(tmp_path / "pruned_512.safetensors", parts=("unet", "autoencoder", "projector"))
    checkpoint = load_checkpoint(path)
    assert checkpoint.parts == ("unet", "autoencoder", "projector")
    with pytest.raises(
        InputError, match=r"holds no text part, only unet, autoencoder, projector; give an extra file that does"
    ):
        checkpoint.load("text")
    with pytest.raises(InputError, match="There is no part 'vae'"):
        checkpoint.load("vae")


@pytest.mark.parametrize("prefixed", [True, False])
def test_split_files_make_a_whole(tmp_path, prefixed):
    state = tiny_state("dynamicrafter_512")
    paths = {}
    for part in PARTS:
        prefix = PREFIXES[part]
        tensors = {key: value for key, value in state.items() if key.startswith(prefix)}
        if not prefixed:
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
            if part == "vision":
                tensors = {key: value for key, value in tensors.items() if key.startswith("visual.")}
        paths[part] = tmp_path / f"512_{part}.safetensors"
        save_file(tensors, paths[part])
    checkpoint = load_checkpoint(paths.pop("unet"), extra=paths.values())
    assert checkpoint.parts == ALL
    assert all(same(checkpoint.load(part), part) for part in ("projector", "vision"))


def test_one_file_of_both_clip_towers_gives_both(tmp_path, half):
    state = load_file(half)
    clip = {
        key.removeprefix(prefix): value
        for prefix in ("cond_stage_model.model.", "embedder.model.visual")
        for key, value in state.items()
        if key.startswith(prefix)
    }
    clip = {f"visual{key}" if key.startswith(".") else key: value for key, value in clip.items()}
    torch.save(clip, tmp_path / "open_clip_pytorch_model.bin")
    unet = tiny_checkpoint(tmp_path / "512.safetensors", parts=("unet",))
    assert load_checkpoint(unet, extra=[tmp_path / "open_clip_pytorch_model.bin"]).parts == ("unet", "text", "vision")


def test_a_part_in_an_extra_file_replaces_the_first_files(tmp_path, half):
    other = tiny_checkpoint(tmp_path / "vae.safetensors", parts=("autoencoder",), seed=1)
    loaded = load_checkpoint(half, extra=[other]).load("autoencoder")
    assert torch.equal(loaded.quant_conv.weight, load_file(other)["first_stage_model.quant_conv.weight"])


def test_a_lone_part_loads_when_the_variant_is_named(tmp_path):
    path = tiny_checkpoint(tmp_path / "vae.safetensors", "tooncrafter_512", parts=("autoencoder",))
    assert load_checkpoint(path, "tooncrafter_512").parts == ("autoencoder",)
    told = tiny_checkpoint(
        tmp_path / "told.safetensors", "tooncrafter_512", parts=("autoencoder",), metadata={"family": "tooncrafter_512"}
    )
    assert load_checkpoint(told).family.name == "tooncrafter_512"
    assert "autoencoder (VAE) alone" in refusal(path)


def test_what_training_leaves_behind_is_ignored(changed):
    left = {
        "model_ema__decay": torch.ones(()),
        "logvar": torch.ones(1000),
        "first_stage_model__loss__logvar": torch.ones(()),
    }
    assert load_checkpoint(changed("512.safetensors", **left)).parts == ALL


def test_the_unused_rest_of_the_vision_towers_clip_may_be_there_or_not(changed):
    path = changed("512.safetensors", embedder__model__token_embedding__weight=None, embedder__model__logit_scale=None)
    assert "vision" in load_checkpoint(path).parts


@pytest.mark.slow
def test_figures_that_shapes_cannot_tell_come_from_the_metadata(tmp_path):
    own = {"family": "dynamicrafter_512", "figures": {"frames": 8, "fs_range": [1, 9]}, "unet": {"norm_groups": 16}}
    checkpoint = load_checkpoint(
        tiny_checkpoint(tmp_path / "x.safetensors", metadata=own, parts=("unet", "autoencoder"))
    )
    assert (checkpoint.family.frames, checkpoint.family.fs_range, checkpoint.family.steps) == (8, (1, 9), 50)
    assert checkpoint.configs["unet"].norm_groups == 16
    assert checkpoint.configs["autoencoder"].norm_groups == 32
    lightning = tiny_checkpoint(tmp_path / "x.ckpt", container="lightning", metadata=own, parts=("unet",))
    assert load_checkpoint(lightning).family.frames == 8


@pytest.mark.parametrize("figures", [{"fs_range": [1, 2, 3]}, {"fs_default": [3]}, {"cfg": "7"}, {"width": True}])
def test_metadata_whose_figures_are_of_another_kind_is_refused(tmp_path, figures):
    path = tiny_checkpoint(tmp_path / "m.safetensors", metadata={"family": "dynamicrafter_512", "figures": figures})
    with pytest.raises(InputError, match=f"metadata that says {next(iter(figures))} of its figures is"):
        load_checkpoint(path)


def test_metadata_of_unknown_figures_is_refused(tmp_path):
    path = tiny_checkpoint(tmp_path / "x.safetensors", parts=("unet",), metadata={"unet": {"flavour": 3}})
    assert "has metadata of its unet that this version does not know (flavour)" in refusal(path)


@pytest.mark.slow
def test_a_fine_tunes_own_stored_scale_is_its_base_scale(changed):
    scale = torch.cat([torch.linspace(1, 0.5, 400), torch.full((1000,), 0.5)])
    checkpoint = load_checkpoint(changed("512.safetensors", scale_arr=scale), "dynamicrafter_512")
    assert checkpoint.family.base_scale == 0.5
    half_scale = changed("half_512.safetensors", scale_arr=FAMILIES["dynamicrafter_512"].schedule().scale_arr.half())
    assert load_checkpoint(half_scale).family.base_scale == 0.7


UNET = "model.diffusion_model."


@pytest.mark.slow
def test_missing_unknown_and_misshapen_tensors_are_named_and_counted(changed):
    path = changed(
        **{
            UNET + "out.2.bias": None,
            UNET + "out.0.bias": None,
            UNET + "input_blocks.0.0.extra": torch.ones(1),
            UNET + "middle_block.0.in_layers.0.weight": torch.ones(3),
            "image_proj_model.norm_out.bias": None,
        }
    )
    sentence = refusal(path, "dynamicrafter_512")
    assert "unet (model.diffusion_model.*): 2 of 1516 tensors missing (out.0.bias, out.2.bias)" in sentence
    assert "1 unknown (input_blocks.0.0.extra)" in sentence
    assert "1 of another shape (middle_block.0.in_layers.0.weight [3] instead of [128])" in sentence
    assert "projector (image_proj_model.*): 1 of 29 tensors missing" in sentence
    assert "incomplete or altered" in sentence


@pytest.mark.slow
def test_of_many_wrong_tensors_the_first_three_are_named(changed):
    gone = {key: None for key in tiny_state("dynamicrafter_512") if key.startswith(UNET + "output_blocks.7.")}
    sentence = refusal(changed(**gone), "dynamicrafter_512")
    assert f"{len(gone)} of 1516 tensors missing" in sentence
    assert sentence.count("output_blocks.7.") == 3


@pytest.mark.slow
def test_a_tensor_that_tells_the_width_may_be_the_missing_one(changed):
    assert "time_embed.0.weight" in refusal(changed(**{UNET + "time_embed.0.weight": None}), "dynamicrafter_512")
    assert "conv_in" in refusal(changed(**{"first_stage_model.encoder.conv_in.weight": None}), "dynamicrafter_512")
    assert "latents" in refusal(changed(**{"image_proj_model.latents": None}), "dynamicrafter_512")


@pytest.mark.parametrize(
    ("is_one", "named"),
    [
        ("dynamicrafter_512", "dynamicrafter_256"),
        ("dynamicrafter_256", "dynamicrafter_512"),
        ("dynamicrafter_512", "tooncrafter_512"),
        ("tooncrafter_512", "dynamicrafter_512_interp"),
        ("dynamicrafter_512", "videocrafter1_i2v_512"),
        ("videocrafter1_i2v_512", "dynamicrafter_512"),
        ("videocrafter1_t2v_512", "videocrafter1_t2v_1024"),
        ("videocrafter1_t2v_512", "videocrafter2_t2v_512"),
    ],
)
def test_a_variant_that_the_file_is_not_is_refused(stored, is_one, named):
    sentence = refusal(stored(is_one), named)
    assert f"does not fit {named}" in sentence
    assert f"it is nearest to {is_one}" in sentence


def test_parts_that_the_named_variant_does_not_have_are_refused(half):
    sentence = refusal(half, "videocrafter2_t2v_512")
    assert "holds what videocrafter2_t2v_512 does not have (vision, projector)" in sentence


def test_the_named_variant_counts_where_files_are_alike(half):
    checkpoint = load_checkpoint(half, "dynamicrafter_512_interp")
    assert checkpoint.family is not FAMILIES["dynamicrafter_512"]
    assert checkpoint.family.modes == ("interpolate", "loop")
    assert load_checkpoint(half, FAMILIES["dynamicrafter_512_interp"]).family == checkpoint.family
    assert "no variant 'dynamicrafter'" in refusal(half, "dynamicrafter")


def test_tensors_of_no_part_are_refused(changed):
    assert "1 tensors that belong to no part (something.else)" in refusal(changed(something__else=torch.ones(1)))


def test_a_foreign_file_is_refused_as_checkpoint_and_as_extra(tmp_path, half):
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.ones(1)}, tmp_path / "flux.safetensors")
    assert "Flux" in refusal(tmp_path / "flux.safetensors")
    assert "Flux" in refusal(half, extra=[tmp_path / "flux.safetensors"])


def test_nothing_is_read_before_all_is_checked(half, monkeypatch):
    from dynamicrafter_core.checkpoints.reading import LazyTensors

    read = []
    original = LazyTensors.__getitem__
    monkeypatch.setattr(LazyTensors, "__getitem__", lambda self, key: read.append(key) or original(self, key))
    load_checkpoint(half)
    assert read == ["scale_arr"]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("a Stable Video Diffusion checkpoint", (UNET + "input_blocks.1.0.time_stack.x", "conditioner.embedders.0.x")),
        ("an SDXL checkpoint", (UNET + "label_emb.0.0.weight", "conditioner.embedders.0.x")),
        (
            "a Stable Diffusion 1.x checkpoint",
            (
                UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
                "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
            ),
        ),
    ],
)
@pytest.mark.parametrize("variant", ["auto", "dynamicrafter_512"])
def test_a_whole_file_of_another_family_is_named_though_it_has_parts_like_ours(tmp_path, words, keys, variant):
    path = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(2, 768) for key in (*keys, "first_stage_model.encoder.conv_in.weight")}, path)
    assert f"is {words}, not a checkpoint of this family" in refusal(path, variant)


def test_comfyuis_own_marks_in_saved_models_are_passed_over(half, tmp_path):
    state = load_file(half)
    save_file({**state, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, tmp_path / "saved.safetensors")
    assert load_checkpoint(tmp_path / "saved.safetensors", "dynamicrafter_512").parts == load_checkpoint(half).parts


def test_a_file_quantised_for_comfyui_is_told_apart_and_not_taken_for_plain_weights(half, tmp_path):
    state = load_file(half)
    key = "model.diffusion_model.middle_block.1.proj_in"
    scales = {f"{key}.scale_weight": torch.ones(()), "model.diffusion_model.scaled_fp8": torch.zeros(2)}
    save_file({**state, **scales}, tmp_path / "quantised.safetensors")
    checkpoint = load_checkpoint(tmp_path / "quantised.safetensors", "dynamicrafter_512")
    assert set(checkpoint.scales("unet")) == {"middle_block.1.proj_in.scale_weight", "scaled_fp8"}
    assert not checkpoint.scales("text")
    checkpoint.load("projector")
    with pytest.raises(InputError, match="is quantised .2 scales beside the unet's weights., which ComfyUI loads"):
        checkpoint.load("unet")
