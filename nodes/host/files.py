"""Where the host keeps model files, and the message for one that is missing."""

from pathlib import Path

import folder_paths

from ... import dynamicrafter_core
from ...dynamicrafter_core.checkpoints.detection import viewcrafter_named
from ...dynamicrafter_core.checkpoints.sketch_file import PUBLISHED
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.families import FAMILIES, FINE_TUNES, Family

EMBEDDED = "embedded"
IN_THE_SAME_FILE = "in the same file"
NONE = "none"
PART_FOLDERS = ("diffusion_models", "checkpoints")
SKETCH_FOLDERS = ("controlnet", "checkpoints")


def checkpoints() -> list[str]:
    return [EMBEDDED, *folder_paths.get_filename_list("checkpoints")]


def parts() -> list[str]:
    """Files that may hold a UNet or a projector: diffusion models first, then checkpoints of other names."""
    return list(dict.fromkeys(name for folder in PART_FOLDERS for name in folder_paths.get_filename_list(folder)))


def find(name: str, folders: tuple[str, ...]) -> str:
    for folder in folders:
        if path := folder_paths.get_full_path(folder, name):
            return path
    raise InputError(missing(name, folders))


def missing(name: str, folders: tuple[str, ...]) -> str:
    """Which file is not there, where it is looked for, and where to get it."""
    family = guess_family(name)
    known = family or FAMILIES["dynamicrafter_512"]
    there = " or ".join(f"models/{folder}" for folder in folders)
    guess = "By its name it is" if family else "Its name does not show the variant; one is"
    return (
        f"{name} is not in {there}. {guess} {known.title}, published on the Hugging Face hub as {known.published}: put "
        "the file there under this name, or choose another."
    )


def sketch_encoders() -> list[str]:
    """ToonCrafter's published name, where there is none: it says what to get."""
    beside = [name for name in folder_paths.get_filename_list("checkpoints") if "sketch" in name.lower()]
    return list(dict.fromkeys([*folder_paths.get_filename_list("controlnet"), *beside])) or ["sketch_encoder.ckpt"]


def has_sketch_encoder(name: str) -> bool:
    return any(folder_paths.get_full_path(folder, name) for folder in SKETCH_FOLDERS)


def find_sketch_encoder(name: str) -> str:
    found = (folder_paths.get_full_path(folder, name) for folder in SKETCH_FOLDERS)
    if path := next(filter(None, found), None):
        return path
    raise InputError(missing_sketch_encoder(name))


def missing_sketch_encoder(name: str) -> str:
    return (
        f"{name} is not in models/controlnet. ToonCrafter's sketch encoder is published on the Hugging Face hub as {PUBLISHED}: put the "
        "file there under this name, or choose another."
    )


def noises() -> list[str]:
    return [NONE, *parts()]


def find_noise(name: str) -> str:
    found = (folder_paths.get_full_path(folder, name) for folder in PART_FOLDERS)
    if path := next(filter(None, found), None):
        return path
    raise InputError(missing_noise(name))


def missing_noise(name: str) -> str:
    there = " or ".join(f"models/{folder}" for folder in PART_FOLDERS)
    published = dict.fromkeys(record.noise_published for record in FAMILIES.values() if record.noise_published)
    return (
        f"{name} is not in {there}. Files of initial noise are published on the Hugging Face hub, as "
        f"{' (DynamiCrafter) and '.join(published)} (VideoCrafter): put one there under this name, or choose another or none."
    )


def guess_family(name: str) -> Family | None:
    """The variant whose name's words a file name holds most of."""
    text = name.lower().replace("-", "_")
    if "viewcrafter" in text:
        return FINE_TUNES[viewcrafter_named(text)]
    if "turbo" in text or "unet_mg" in text:
        return FAMILIES["t2v_turbo_v2_mg" if "mg" in text and "no_mg" not in text else "t2v_turbo_vc2"]
    marks = {"toon": "tooncrafter_512", "interp": "dynamicrafter_512_interp", "1024": "dynamicrafter_1024"}
    marks |= {"256": "dynamicrafter_256", "512": "dynamicrafter_512", "dynamicrafter": "dynamicrafter_512"}
    if "videocrafter" in text or "t2v" in text or "i2v" in text:
        marks = {"i2v": "videocrafter1_i2v_512", "videocrafter2": "videocrafter2_t2v_512"}
        marks |= {"1024": "videocrafter1_t2v_1024", "": "videocrafter2_t2v_512"}
    found = next((record for word, record in marks.items() if word in text), None)
    if found and "cil" in text:
        found = found + "_cil" if found + "_cil" in FINE_TUNES else found
    return {**FAMILIES, **FINE_TUNES}.get(found or "")


def embedded_path() -> str:
    """The small model that ships with the pack."""
    folder = Path(dynamicrafter_core.__file__).parent / "embedded"
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(
            f"The embedded model is not in {folder}: this copy of the pack came without it; install the pack again, or "
            "choose a checkpoint."
        )
    return str(found[0])
