"""The released variants, one frozen record each: every figure a variant needs, from its schedule to its default cfg.

Figures come from the released configs and inference scripts. Adding a variant is adding a record.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from .diffusion.schedule import NoiseSchedule, Spacing
from .errors import InputError
from .models.autoencoder import AutoencoderConfig
from .models.encoders import TextTowerConfig, VisionTowerConfig
from .models.parts import PartConfig, Shapes, shapes_of, unused_by_vision
from .models.projector import ProjectorConfig
from .models.unet_config import UNetConfig
from .part_names import PREFIXES, PartName

Mode = Literal["animate", "interpolate", "loop", "generate", "fly"]


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    published: str  # repository and file on the Hugging Face hub

    # diffusion
    parameterization: Literal["v", "eps"]
    zero_snr: bool
    base_scale: float | None  # dynamic rescale; None: none
    scale_length: int  # of the stored scale_arr; 0: none is stored
    spacing: Spacing
    guidance_rescale: float

    # the condition the models call fs: a frame stride or frames per second, entering the UNet as a bare integer
    fs_meaning: Literal["frame stride", "fps"] | None
    fs_default: int | None
    fs_range: tuple[int, int] | None
    fs_larger_moves_more: bool | None

    # what it was trained for, and the defaults of its scripts
    width: int
    height: int
    frames: int
    modes: tuple[Mode, ...]
    steps: int
    cfg: float
    eta: float
    save_fps: int

    # its parts
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: TextTowerConfig
    projector: ProjectorConfig | None  # None, as the vision tower: no image condition
    vision: VisionTowerConfig | None

    # Conditional image leakage (Zhao et al. 2024): begin below the last timestep, where the image does not show everything, from
    # Gaussian noise with the training videos' mean and variance.
    start_step: int = 1000
    analytic_noise: bool = False
    livelier_start_step: int | None = None  # the paper's advice for these weights as they are; None: it has none
    noise_published: str | None = None  # where that mean and variance are
    fine_tune_of: str | None = None  # the variant whose architecture it has

    # Consistency distillation with motion guidance (T2V-Turbo-v2, Li et al. 2024): the default of the scale that the UNet
    # takes, and the first share of the timesteps in which it counts.
    motion_scale: float | None = None
    motion_share: float = 0.5

    @property
    def consistency(self) -> bool:
        """Distilled: the UNet takes cfg as an input, and makes a video in few steps of one pass each."""
        return self.unet.guidance_dim > 0

    @property
    def concat(self) -> bool:
        """Visual detail guidance: the image's latent enters the UNet beside the noise."""
        return self.unet.in_channels > self.unet.out_channels

    @property
    def image_tokens(self) -> Literal["per frame", "shared"] | None:
        """Whether each frame has context tokens of its own, or all frames the same."""
        if self.projector is None:
            return None
        return "shared" if self.projector.frames is None else "per frame"

    @property
    def configs(self) -> Mapping[PartName, PartConfig]:
        """The parts this variant has, in released order."""
        configs: dict[PartName, PartConfig | None] = {name: getattr(self, name) for name in PREFIXES}
        return {name: config for name, config in configs.items() if config is not None}

    def schedule(self) -> NoiseSchedule:
        length = {"scale_length": self.scale_length} if self.scale_length else {}
        return NoiseSchedule(self.parameterization, zero_snr=self.zero_snr, base_scale=self.base_scale, **length)

    def checkpoint_shapes(self) -> dict[str, tuple[int, ...]]:
        """Key -> shape of the whole released checkpoint, from modules on `meta` and the stored schedule."""
        shapes = {name: tuple(buffer.shape) for name, buffer in self.schedule().registered_buffers().items()}
        for part, config in self.configs.items():
            stored: Shapes = shapes_of(config)
            if part == "vision":
                stored = {**unused_by_vision(self.text), **stored}
            shapes |= {PREFIXES[part] + key: shape for key, shape in stored.items()}
        return shapes


_DYNAMICRAFTER_512 = Family(
    name="dynamicrafter_512",
    title="DynamiCrafter 512",
    published="Doubiiu/DynamiCrafter_512: model.ckpt",
    parameterization="v",
    zero_snr=True,
    base_scale=0.7,
    scale_length=1400,
    spacing="uniform_trailing",
    guidance_rescale=0.7,
    fs_meaning="fps",
    fs_default=24,
    fs_range=(15, 30),
    fs_larger_moves_more=False,
    width=512,
    height=320,
    frames=16,
    modes=("animate",),
    steps=50,
    cfg=7.5,
    eta=1.0,
    save_fps=8,
    unet=UNetConfig(default_fs=24, dropout=0.1),
    autoencoder=AutoencoderConfig(),
    text=TextTowerConfig(),
    projector=ProjectorConfig(),
    vision=VisionTowerConfig(),
    livelier_start_step=940,
    noise_published="GraceZhao/DynamiCrafter-Analytic-Init",
)

_DYNAMICRAFTER_256 = replace(
    _DYNAMICRAFTER_512,
    name="dynamicrafter_256",
    title="DynamiCrafter 256",
    published="Doubiiu/DynamiCrafter: model.ckpt",
    parameterization="eps",
    zero_snr=False,
    base_scale=None,
    scale_length=0,
    spacing="uniform",
    guidance_rescale=0.0,
    fs_meaning="frame stride",
    fs_default=3,
    fs_range=(1, 6),
    fs_larger_moves_more=True,
    width=256,
    height=256,
    unet=UNetConfig(default_fs=3, dropout=0.1, image_scale_learnable=True),
    livelier_start_step=None,
    noise_published=None,
)

_DYNAMICRAFTER_1024 = replace(
    _DYNAMICRAFTER_512,
    name="dynamicrafter_1024",
    title="DynamiCrafter 1024",
    published="Doubiiu/DynamiCrafter_1024: model.ckpt",
    base_scale=0.3,
    fs_default=10,
    fs_range=(5, 15),
    width=1024,
    height=576,
    unet=UNetConfig(default_fs=10, dropout=0.1),
)

_DYNAMICRAFTER_512_INTERP = replace(
    _DYNAMICRAFTER_512,
    name="dynamicrafter_512_interp",
    title="DynamiCrafter 512 interpolation",
    published="Doubiiu/DynamiCrafter_512_Interp: model.ckpt",
    fs_default=5,
    fs_range=(5, 30),
    modes=("interpolate", "loop"),
    livelier_start_step=None,
    noise_published=None,
)

_TOONCRAFTER_512 = replace(
    _DYNAMICRAFTER_512_INTERP,
    name="tooncrafter_512",
    title="ToonCrafter 512",
    published="Doubiiu/ToonCrafter: model.ckpt",
    fs_default=10,
    autoencoder=AutoencoderConfig(dual_reference=True),
)

_VIDEOCRAFTER2_T2V_512 = replace(
    _DYNAMICRAFTER_512,
    name="videocrafter2_t2v_512",
    title="VideoCrafter2 text-to-video 512",
    published="VideoCrafter/VideoCrafter2: model.ckpt",
    parameterization="eps",
    zero_snr=False,
    spacing="uniform",
    guidance_rescale=0.0,
    fs_default=28,
    fs_range=(4, 32),
    modes=("generate",),
    cfg=12.0,
    save_fps=10,
    unet=UNetConfig(in_channels=4, image_attention=False),
    projector=None,
    vision=None,
    livelier_start_step=None,
    noise_published=None,
)

_VIDEOCRAFTER1_T2V_1024 = replace(
    _VIDEOCRAFTER2_T2V_512,
    name="videocrafter1_t2v_1024",
    title="VideoCrafter1 text-to-video 1024",
    published="VideoCrafter/Text2Video-1024: model.ckpt",
    base_scale=0.3,
    scale_length=1000,
    width=1024,
    height=576,
    unet=UNetConfig(in_channels=4, image_attention=False, temporal_conv=False, relative_reach=16),
)

_VIDEOCRAFTER1_T2V_512 = replace(
    _VIDEOCRAFTER2_T2V_512,
    name="videocrafter1_t2v_512",
    title="VideoCrafter1 text-to-video 512",
    published="VideoCrafter/Text2Video-512: model.ckpt",
    base_scale=None,
    scale_length=0,
    fs_meaning=None,
    fs_default=None,
    fs_range=None,
    fs_larger_moves_more=None,
    unet=replace(_VIDEOCRAFTER1_T2V_1024.unet, fs_condition=False),
)

_VIDEOCRAFTER1_I2V_512 = replace(
    _VIDEOCRAFTER2_T2V_512,
    name="videocrafter1_i2v_512",
    title="VideoCrafter1 image-to-video 512",
    published="VideoCrafter/Image2Video-512: model.ckpt",
    fs_default=8,
    modes=("animate",),
    unet=UNetConfig(in_channels=4),
    projector=ProjectorConfig(frames=None),
    vision=VisionTowerConfig(),
    livelier_start_step=940,
    noise_published="GraceZhao/VideoCrafter-Analytic-Init",
)

# Released as a UNet alone; the autoencoder and the text tower are VideoCrafter2's.
_T2V_TURBO_VC2 = replace(
    _VIDEOCRAFTER2_T2V_512,
    name="t2v_turbo_vc2",
    title="T2V-Turbo (VideoCrafter2)",
    published="jiachenli-ucsb/T2V-Turbo-v2-no-MG: unet_no_mg.pt",
    base_scale=None,
    scale_length=0,
    fs_default=8,
    steps=4,
    cfg=7.5,
    save_fps=8,
    unet=replace(_VIDEOCRAFTER2_T2V_512.unet, guidance_dim=256),
)

_T2V_TURBO_V2_MG = replace(
    _T2V_TURBO_VC2,
    name="t2v_turbo_v2_mg",
    title="T2V-Turbo-v2 with motion guidance",
    published="jiachenli-ucsb/T2V-Turbo-v2: unet_mg.pt",
    unet=replace(_T2V_TURBO_VC2.unet, motion_dim=256),
    motion_scale=0.05,
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            _DYNAMICRAFTER_256,
            _DYNAMICRAFTER_512,
            _DYNAMICRAFTER_512_INTERP,
            _DYNAMICRAFTER_1024,
            _TOONCRAFTER_512,
            _VIDEOCRAFTER1_T2V_512,
            _VIDEOCRAFTER1_T2V_1024,
            _VIDEOCRAFTER1_I2V_512,
            _VIDEOCRAFTER2_T2V_512,
            _T2V_TURBO_VC2,
            _T2V_TURBO_V2_MG,
        )
    }
)

# ViewCrafter (Yu et al. 2024): DynamiCrafter that completes views rendered along a camera's path. For 25 frames the original code
# shows each frame the image tokens of all, since it divides them among 16 frames only.
_VIEWCRAFTER_16 = replace(
    _DYNAMICRAFTER_1024,
    name="viewcrafter_16",
    fine_tune_of="dynamicrafter_1024",
    title="ViewCrafter 16",
    published="Drexubery/ViewCrafter_16: model.ckpt",
    modes=("fly",),
    livelier_start_step=None,
    noise_published=None,
)
_ALL_TOKENS = ProjectorConfig(queries=256, frames=None)
_VIEWCRAFTER_25 = replace(
    _VIEWCRAFTER_16,
    name="viewcrafter_25",
    title="ViewCrafter 25",
    published="Drexubery/ViewCrafter_25: model.ckpt",
    frames=25,
    projector=_ALL_TOKENS,
)
_VIEWCRAFTER_25_512 = replace(
    _DYNAMICRAFTER_512,
    name="viewcrafter_25_512",
    fine_tune_of="dynamicrafter_512",
    title="ViewCrafter 25, 512",
    published="Drexubery/ViewCrafter_25_512: model.ckpt",
    fs_default=10,
    fs_range=(5, 15),
    frames=25,
    modes=("fly",),
    unet=replace(_DYNAMICRAFTER_512.unet, default_fs=10),
    projector=_ALL_TOKENS,
    livelier_start_step=None,
    noise_published=None,
)

# Same layers and keys as the variant each comes from. CIL: trained, or meant, to start from analytic noise.
FINE_TUNES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            replace(
                _DYNAMICRAFTER_512,
                name="dynamicrafter_512_cil",
                fine_tune_of="dynamicrafter_512",
                title="DynamiCrafter 512 CIL",
                published="GraceZhao/DynamiCrafter-CIL-512: timenoise.ckpt",
                analytic_noise=True,
                livelier_start_step=None,
            ),
            replace(
                _DYNAMICRAFTER_1024,
                name="dynamicrafter_1024_cil",
                fine_tune_of="dynamicrafter_1024",
                title="DynamiCrafter 1024 CIL",
                published="Kijai/DynamiCrafter_pruned: dynamicrafter-CIL-1024-no-watermark-pruned-fp16.safetensors",
                analytic_noise=True,
                livelier_start_step=None,
            ),
            replace(
                _VIDEOCRAFTER1_I2V_512,
                name="videocrafter1_i2v_512_cil",
                fine_tune_of="videocrafter1_i2v_512",
                title="VideoCrafter1 image-to-video 512 CIL",
                published="GraceZhao/VideoCrafter1-naive-finetune",
                fs_default=24,
                start_step=940,
                analytic_noise=True,
                livelier_start_step=None,
            ),
            _VIEWCRAFTER_25,
            _VIEWCRAFTER_25_512,
            _VIEWCRAFTER_16,
        )
    }
)

_RECORDS = {**FAMILIES, **FINE_TUNES}


def find_family(name: str) -> Family:
    """The record of that name, fine-tunes included; `-` and capitals do not matter."""
    wanted = str(name).lower().replace("-", "_").replace(" ", "_")
    if wanted in _RECORDS:
        return _RECORDS[wanted]
    close = difflib.get_close_matches(wanted, _RECORDS, n=1, cutoff=0.5)
    hint = f"; the nearest is {close[0]}" if close else ""
    raise InputError(f"There is no variant {name!r}{hint}; the variants are {', '.join(_RECORDS)}.")
