"""The records of the released variants against their manifests and the figures of the released configs."""

from dataclasses import FrozenInstanceError

import pytest
from golden import DATA, manifest

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import FAMILIES, FINE_TUNES, find_family

MANIFESTS = sorted(path.stem for path in (DATA / "manifests").glob("*.json"))
TURBO = ["t2v_turbo_v2_mg", "t2v_turbo_vc2"]  # distilled; their manifest is made of VideoCrafter2's
VARIANTS = TURBO + [name for name in MANIFESTS if "." not in name and name != "tooncrafter_sketch_encoder"]


def test_there_is_one_family_for_each_manifest():
    assert sorted(FAMILIES) == sorted(VARIANTS)
    assert len(VARIANTS) == 11
    assert all(family.name == name for name, family in {**FAMILIES, **FINE_TUNES}.items())


@pytest.mark.parametrize("name", VARIANTS)
def test_checkpoint_shapes_equal_the_manifest(name):
    assert FAMILIES[name].checkpoint_shapes() == manifest(name)


@pytest.mark.parametrize("name", sorted(FINE_TUNES))
def test_a_fine_tune_has_the_keys_of_the_variant_it_comes_from(name):
    base = FAMILIES[FINE_TUNES[name].fine_tune_of]
    assert FINE_TUNES[name].checkpoint_shapes() == base.checkpoint_shapes()
    assert FINE_TUNES[name].analytic_noise == name.endswith("_cil")
    assert not base.analytic_noise


def test_viewcrafter_has_its_published_figures():
    family = FINE_TUNES["viewcrafter_25"]
    assert (family.frames, family.width, family.height, family.fs_default) == (25, 1024, 576, 10)
    assert (family.steps, family.cfg, family.eta, family.guidance_rescale) == (50, 7.5, 1.0, 0.7)
    assert (family.spacing, family.base_scale, family.image_tokens) == ("uniform_trailing", 0.3, "shared")
    small, short = FINE_TUNES["viewcrafter_25_512"], FINE_TUNES["viewcrafter_16"]
    assert (small.frames, small.width, small.height, small.image_tokens) == (25, 512, 320, "shared")
    assert (short.frames, short.width, short.image_tokens) == (16, 1024, "per frame")


def test_records_are_frozen_and_the_mapping_too():
    with pytest.raises(FrozenInstanceError):
        FAMILIES["dynamicrafter_512"].steps = 1
    with pytest.raises(TypeError):
        FAMILIES["mine"] = FAMILIES["dynamicrafter_512"]


# name: width, height, fs, fs range, larger fs moves more, cfg, save fps, modes, image tokens, concat
USE = {
    "dynamicrafter_256": (256, 256, 3, (1, 6), True, 7.5, 8, ("animate",), "per frame", True),
    "dynamicrafter_512": (512, 320, 24, (15, 30), False, 7.5, 8, ("animate",), "per frame", True),
    "dynamicrafter_512_interp": (512, 320, 5, (5, 30), False, 7.5, 8, ("interpolate", "loop"), "per frame", True),
    "dynamicrafter_1024": (1024, 576, 10, (5, 15), False, 7.5, 8, ("animate",), "per frame", True),
    "tooncrafter_512": (512, 320, 10, (5, 30), False, 7.5, 8, ("interpolate", "loop"), "per frame", True),
    "videocrafter1_t2v_512": (512, 320, None, None, None, 12.0, 10, ("generate",), None, False),
    "videocrafter1_t2v_1024": (1024, 576, 28, (4, 32), False, 12.0, 10, ("generate",), None, False),
    "videocrafter1_i2v_512": (512, 320, 8, (4, 32), False, 12.0, 10, ("animate",), "shared", False),
    "videocrafter2_t2v_512": (512, 320, 28, (4, 32), False, 12.0, 10, ("generate",), None, False),
    "t2v_turbo_vc2": (512, 320, 8, (4, 32), False, 7.5, 8, ("generate",), None, False),
    "t2v_turbo_v2_mg": (512, 320, 8, (4, 32), False, 7.5, 8, ("generate",), None, False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_figures_of_use_are_the_released_scripts(name):
    family = FAMILIES[name]
    assert USE[name] == (
        family.width,
        family.height,
        family.fs_default,
        family.fs_range,
        family.fs_larger_moves_more,
        family.cfg,
        family.save_fps,
        family.modes,
        family.image_tokens,
        family.concat,
    )
    steps, motion = (4, 0.05 if "mg" in name else None) if name in TURBO else (50, None)
    assert (family.frames, family.steps, family.eta, family.start_step) == (16, steps, 1.0, 1000)
    assert (family.consistency, family.motion_scale, family.motion_share) == (name in TURBO, motion, 0.5)


# name: prediction, zero-SNR, base scale, stored scale_arr, spacing, guidance rescale
DIFFUSION = {
    "dynamicrafter_256": ("eps", False, None, 0, "uniform", 0.0),
    "dynamicrafter_512": ("v", True, 0.7, 1400, "uniform_trailing", 0.7),
    "dynamicrafter_512_interp": ("v", True, 0.7, 1400, "uniform_trailing", 0.7),
    "dynamicrafter_1024": ("v", True, 0.3, 1400, "uniform_trailing", 0.7),
    "tooncrafter_512": ("v", True, 0.7, 1400, "uniform_trailing", 0.7),
    "videocrafter1_t2v_512": ("eps", False, None, 0, "uniform", 0.0),
    "videocrafter1_t2v_1024": ("eps", False, 0.3, 1000, "uniform", 0.0),
    "videocrafter1_i2v_512": ("eps", False, 0.7, 1400, "uniform", 0.0),
    "videocrafter2_t2v_512": ("eps", False, 0.7, 1400, "uniform", 0.0),
    "t2v_turbo_vc2": ("eps", False, None, 0, "uniform", 0.0),
    "t2v_turbo_v2_mg": ("eps", False, None, 0, "uniform", 0.0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_figures_of_diffusion_are_the_released_configs(name):
    family = FAMILIES[name]
    assert DIFFUSION[name] == (
        family.parameterization,
        family.zero_snr,
        family.base_scale,
        family.scale_length,
        family.spacing,
        family.guidance_rescale,
    )
    stored = family.schedule().registered_buffers().get("scale_arr")
    assert (0 if stored is None else len(stored)) == family.scale_length


def test_fs_of_the_256_model_is_a_stride_and_of_the_others_a_rate():
    assert FAMILIES["dynamicrafter_256"].fs_meaning == "frame stride"
    assert {family.fs_meaning for name, family in FAMILIES.items() if name.startswith("dynamicrafter_5")} == {"fps"}
    assert FAMILIES["videocrafter1_t2v_512"].fs_meaning is None


def test_cil_weights_start_at_the_last_step_and_original_ones_are_livelier_from_940():
    assert FINE_TUNES["dynamicrafter_512_cil"].start_step == 1000
    assert FAMILIES["dynamicrafter_512"].livelier_start_step == 940
    assert FAMILIES["dynamicrafter_512_interp"].livelier_start_step is None


def test_a_family_is_found_by_any_spelling_of_its_name():
    assert find_family("DynamiCrafter-512") is FAMILIES["dynamicrafter_512"]
    assert find_family("dynamicrafter_1024_cil") is FINE_TUNES["dynamicrafter_1024_cil"]


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others():
    with pytest.raises(InputError, match="'dynamicrafter_521'.*the nearest is dynamicrafter_512.*tooncrafter_512"):
        find_family("dynamicrafter_521")
    with pytest.raises(InputError, match="no variant ''"):
        find_family("")
