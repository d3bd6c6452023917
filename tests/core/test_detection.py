"""Which variant a checkpoint is, from its keys and shapes alone, and from hints where those do not tell."""

import json

import pytest
import torch
from golden import manifest
from tiny import tiny_configs, tiny_shapes

from dynamicrafter_core.checkpoints.detection import detect, read_own_metadata
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.part_names import PREFIXES

SAME_SHAPES = {"dynamicrafter_512", "dynamicrafter_512_interp", "dynamicrafter_1024"}
CLEAR = sorted(set(FAMILIES) - SAME_SHAPES)


def only(shapes, *parts):
    return {key: shape for key, shape in shapes.items() if key.startswith(tuple(PREFIXES[part] for part in parts))}


def refusal(shapes, **hints) -> str:
    with pytest.raises(InputError) as error:
        detect(shapes, **hints)
    return str(error.value)


@pytest.mark.parametrize("name", CLEAR)
def test_structure_alone_tells_variants_of_a_structure_of_their_own(name):
    found = detect(manifest(name))
    assert (found.name, found.candidates, found.ambiguous) == (name, (name,), False)
    assert found.evidence[0].startswith("Structure")


def test_the_256_model_is_found_by_its_names_on_disk():
    found = detect(manifest("dynamicrafter_256.on_disk"))
    assert (found.name, found.ambiguous) == ("dynamicrafter_256", False)
    assert "learned factor" in found.evidence[0]


def test_without_hints_the_three_twins_are_reported_as_ambiguous():
    found = detect(manifest("dynamicrafter_1024"))
    assert found.name == "dynamicrafter_512"
    assert set(found.candidates) == SAME_SHAPES
    assert found.ambiguous
    assert "name the variant" in found.evidence[-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_stored_scale_tells_1024_from_512(dtype):
    large = FAMILIES["dynamicrafter_1024"].schedule().scale_arr.to(dtype)
    found = detect(manifest("dynamicrafter_1024"), scale_arr=large)
    assert (found.name, found.ambiguous) == ("dynamicrafter_1024", False)
    assert "scale_arr" in found.evidence[-1]
    small = FAMILIES["dynamicrafter_512"].schedule().scale_arr.to(dtype)
    found = detect(manifest("dynamicrafter_512"), scale_arr=small)
    assert set(found.candidates) == {"dynamicrafter_512", "dynamicrafter_512_interp"}


@pytest.mark.parametrize("name", sorted(SAME_SHAPES))
@pytest.mark.parametrize(
    "metadata", [lambda name: {"dynamicrafter": json.dumps({"family": name})}, lambda name: {"variant": name}]
)
def test_metadata_tells_the_twins_apart(name, metadata):
    found = detect(manifest(name), metadata=metadata(name))
    assert (found.name, found.ambiguous) == (name, False)
    assert found.evidence[-1].startswith("Metadata")


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("checkpoints/dynamicrafter_512_v1/model.ckpt", "dynamicrafter_512"),
        ("checkpoints/dynamicrafter_512_interp_v1/model.ckpt", "dynamicrafter_512_interp"),
        ("checkpoints/dynamicrafter_1024_v1/model.ckpt", "dynamicrafter_1024"),
        ("models--Doubiiu--DynamiCrafter_512_Interp/snapshots/0a1b/model.ckpt", "dynamicrafter_512_interp"),
        ("dynamicrafter_512_interp_v1_bf16.safetensors", "dynamicrafter_512_interp"),
        ("dynamicrafter_1024_fp16_pruned.safetensors", "dynamicrafter_1024"),
        ("my-Interpolation.safetensors", "dynamicrafter_512_interp"),
        ("dynamicrafter-CIL-512-no-watermark-fixed-pruned-fp16.safetensors", "dynamicrafter_512_cil"),
        ("dynamicrafter-CIL-1024-no-watermark-pruned-fp16.safetensors", "dynamicrafter_1024_cil"),
    ],
)
def test_the_file_name_or_its_folders_tell_the_twins_apart(filename, name):
    found = detect(manifest("dynamicrafter_512"), filename=filename)
    assert (found.name, found.candidates, found.ambiguous) == (name, (name,), False)
    assert found.evidence[-1].startswith("File name")


def test_a_folder_that_only_happens_to_hold_a_number_tells_nothing():
    assert detect(manifest("dynamicrafter_512"), filename="/data/job-1024/interp/model.ckpt").ambiguous


@pytest.mark.parametrize("entry", ["[" * 100_000, "{", "[1]"])
def test_metadata_of_our_own_that_is_no_object_says_nothing(entry):
    assert read_own_metadata({"dynamicrafter": entry}) == {}


def test_structure_outweighs_metadata_and_file_name():
    hints = {"metadata": {"variant": "dynamicrafter_1024"}, "filename": "dynamicrafter_1024.safetensors"}
    found = detect(manifest("videocrafter1_i2v_512"), **hints)
    assert found.name == "videocrafter1_i2v_512"
    assert "is ignored" in found.evidence[-1]


def test_the_schedule_outweighs_metadata_and_metadata_the_file_name():
    scale = FAMILIES["dynamicrafter_512"].schedule().scale_arr
    found = detect(manifest("dynamicrafter_512"), {"variant": "dynamicrafter_1024"}, scale, "interp.ckpt")
    assert found.name == "dynamicrafter_512_interp"
    found = detect(manifest("dynamicrafter_512"), {"variant": "dynamicrafter_512"}, scale, "interp.ckpt")
    assert found.name == "dynamicrafter_512"


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("ViewCrafter_25/model.ckpt", "viewcrafter_25"),
        ("viewcrafter-25-sparse.ckpt", "viewcrafter_25"),
        ("ViewCrafter_16.ckpt", "viewcrafter_16"),
        ("ViewCrafter_25_512/model.ckpt", "viewcrafter_25_512"),
    ],
)
@pytest.mark.parametrize("scale", [0.3, 0.7])
def test_viewcrafter_is_found_by_its_name(filename, name, scale):
    found = detect(manifest("dynamicrafter_1024"), scale_arr=torch.tensor([1.0, scale]), filename=filename)
    assert (found.name, found.ambiguous) == (name, False)
    assert "ViewCrafter's is the same" in detect(manifest("dynamicrafter_1024")).evidence[0]


def test_viewcrafter_is_found_by_metadata():
    assert detect(manifest("dynamicrafter_1024"), {"variant": "viewcrafter_16"}).name == "viewcrafter_16"


def test_a_cil_fine_tune_is_found_by_metadata():
    found = detect(manifest("videocrafter1_i2v_512"), {"variant": "videocrafter1_i2v_512_cil"})
    assert (found.name, found.ambiguous) == ("videocrafter1_i2v_512_cil", False)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_pruned_and_unet_only_files_are_found_with_or_without_prefix(name):
    shapes = manifest(name)
    pruned = only(shapes, "unet", "autoencoder", "projector")
    assert name in detect(pruned).candidates
    unet = only(shapes, "unet")
    assert name in detect(unet).candidates
    bare = {key.removeprefix(PREFIXES["unet"]): shape for key, shape in unet.items()}
    assert detect(bare) == detect(unet)
    assert detect(bare, filename=f"{name}.safetensors").name == name


@pytest.mark.parametrize("name", CLEAR)
def test_a_smaller_model_of_the_same_kind_is_found(name):
    assert tiny_configs(name)["unet"].model_channels < 320
    found = detect(tiny_shapes(name))
    assert (found.name, found.ambiguous) == (name, False)


def test_a_unet_that_no_released_variant_has_is_told_from_the_nearest():
    shapes = {key: shape for key, shape in manifest("videocrafter2_t2v_512").items() if "fps_embedding" not in key}
    sentence = refusal(shapes)
    assert "nearest to videocrafter2_t2v_512" in sentence
    assert "not conditioned on fs" in sentence


def test_a_damaged_unet_of_this_family_is_not_taken_for_another():
    shapes = {key: shape for key, shape in manifest("dynamicrafter_256").items() if ".attn1." not in key}
    assert detect(shapes).name == "dynamicrafter_256"
    assert "lacks the UNet's 'out.2.weight'" in refusal(
        {key: shape for key, shape in shapes.items() if not key.endswith("out.2.weight")}
    )


UNET = "model.diffusion_model."
FOREIGN = {
    "Stable Diffusion 1.x": {
        UNET + "input_blocks.0.0.weight": (320, 4, 3, 3),
        UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    },
    "Stable Diffusion 2.x": {
        UNET + "input_blocks.0.0.weight": (320, 4, 3, 3),
        UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
    },
    "SDXL": {
        UNET + "label_emb.0.0.weight": (1280, 2816),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768),
    },
    "Stable Video Diffusion": {
        UNET + "input_blocks.1.0.time_stack.in_layers.0.weight": (320,),
        UNET + "label_emb.0.0.weight": (1280, 768),
    },
    "Wan": {"blocks.0.self_attn.q.weight": (1536, 1536), "patch_embedding.weight": (1536, 16, 1, 2, 2)},
    "AnimateDiff motion module": {
        "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,),
    },
    "Flux": {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)},
    "Stable Diffusion 3": {UNET + "joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)},
    "LoRA": {"lora_unet_input_blocks_1_1_proj_in.lora_up.weight": (320, 4)},
    "ControlNet": {key: tuple(shape) for key, shape in manifest("tooncrafter_sketch_encoder").items()},
    "ModelScope": {UNET + "input_blocks.0.1.norm.weight": (320,), UNET + "input_blocks.0.0.weight": (320, 4, 3, 3)},
    "diffusers": {"down_blocks.0.resnets.0.norm1.weight": (320,)},
    "T5": {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
    "Hugging Face's layout": {"text_model.encoder.layers.0.layer_norm1.weight": (1024,)},
    "autoencoder (VAE) alone": only(manifest("dynamicrafter_512"), "autoencoder"),
    "CLIP text tower alone": only(manifest("dynamicrafter_512"), "text"),
    "CLIP image tower alone": only(manifest("dynamicrafter_512"), "vision"),
    "image projector alone": only(manifest("dynamicrafter_512"), "projector"),
    "without a UNet": only(manifest("dynamicrafter_512"), "projector", "autoencoder"),
    "CIL": {"Expectation_X0": (1, 4, 16, 40, 64)},
    "of no kind known here": {"fc.weight": (10, 10)},
}


@pytest.mark.parametrize("words", sorted(FOREIGN))
def test_a_foreign_file_is_refused_by_its_name(words):
    sentence = refusal(FOREIGN[words], filename="model.ckpt")
    assert words in sentence
    assert sentence.startswith("model.ckpt is ")
    assert all(name in sentence for name in FAMILIES)


def test_parts_without_prefix_are_named_too():
    bare = {key.removeprefix("first_stage_model."): shape for key, shape in FOREIGN["autoencoder (VAE) alone"].items()}
    assert "autoencoder (VAE) alone" in refusal(bare)
