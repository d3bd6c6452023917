"""The convolutional block: two spatial convolutions under the timestep, then a stack of convolutions over time."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Block, Signals
from .layout import repeat_rows, to_frames, to_volume


class TimeConv(nn.Conv3d):
    """A convolution along time, b c t 1 p, done in two dimensions, in which CPUs are faster."""

    def forward(self, line: Tensor) -> Tensor:
        return F.conv2d(line.squeeze(3), self.weight.squeeze(-1), self.bias, padding=self.padding[:2]).unsqueeze(3)


class TemporalConv(nn.Module):
    """Four convolutions along time, added to their input (ModelScope's temporal layers)."""

    def __init__(self, channels: int, groups: int, dropout: float, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        conv3d = TimeConv if operations is nn else operations.Conv3d

        def step(*between: nn.Module) -> nn.Sequential:
            norm = operations.GroupNorm(groups, channels, eps=1e-5, **make)
            conv = conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), **make)
            return nn.Sequential(norm, nn.SiLU(), *between, conv)

        self.conv1 = step()
        self.conv2 = step(nn.Dropout(dropout))
        self.conv3 = step(nn.Dropout(dropout))
        self.conv4 = step(nn.Dropout(dropout))

    def forward(self, h: Tensor, frames: int) -> Tensor:
        # All pixels in the last axis, the one along which kernels work in blocks.
        line = to_volume(h.flatten(2).unflatten(2, (1, -1)), frames)  # b c t 1 (h w)
        line = line + self.conv4(self.conv3(self.conv2(self.conv1(line))))
        return to_frames(line).reshape(h.shape)


class ResBlock(Block):
    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        embedding: int,
        *,
        temporal_conv: bool = True,
        groups: int = 32,
        dropout: float = 0.0,
        dtype: Any = None,
        device: Any = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        make = {"dtype": dtype, "device": device}
        self.in_layers = nn.Sequential(
            operations.GroupNorm(groups, channels_in, eps=1e-5, **make),
            nn.SiLU(),
            operations.Conv2d(channels_in, channels_out, 3, padding=1, **make),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), operations.Linear(embedding, channels_out, **make))
        self.out_layers = nn.Sequential(
            operations.GroupNorm(groups, channels_out, eps=1e-5, **make),
            nn.SiLU(),
            nn.Dropout(dropout),
            operations.Conv2d(channels_out, channels_out, 3, padding=1, **make),
        )
        same = channels_in == channels_out
        self.skip_connection = nn.Identity() if same else operations.Conv2d(channels_in, channels_out, 1, **make)
        if temporal_conv:  # the name is spelt so in every released file
            self.temopral_conv = TemporalConv(channels_out, groups, dropout, make, operations)

    def forward(self, x: Tensor, signals: Signals) -> Tensor:
        h = self.in_layers(x)
        shift = repeat_rows(self.emb_layers(signals.embedding), h.shape[0] // signals.frames)  # b c
        h = h + shift.repeat_interleave(signals.frames, 0)[:, :, None, None]
        h = self.skip_connection(x) + self.out_layers(h)
        if hasattr(self, "temopral_conv"):
            h = self.temopral_conv(h, signals.frames)
        return h
