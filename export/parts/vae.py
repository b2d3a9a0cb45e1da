"""AutoencoderKL, the autoencoder of Stable Diffusion and its descendants; latents of any number of channels.

Module and parameter names are diffusers'. Scale and shift of latents are inside the graphs: a flow ends in what
`decode` takes. Letters: B pictures, C channels, H, W of latents, Y, X of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


@dataclass(frozen=True)
class VaeConfig:
    """widths: channels of the blocks, from the picture down. layers: residual blocks of one of them in the encoder."""

    latent_channels: int
    widths: tuple[int, ...]
    layers: int
    groups: int
    scale: float
    shift: float = 0.0
    quant: bool = True
    post_quant: bool = True
    attention: bool = True

    @property
    def downscale(self) -> int:
        """Pixels of a latent's side."""
        return 1 << (len(self.widths) - 1)


class Residual(nn.Module):
    """Two convolutions behind norms, and what they are added to."""

    def __init__(self, of: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, of, EPS), nn.GroupNorm(groups, out, EPS)
        self.conv1, self.conv2 = nn.Conv2d(of, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        if of != out:
            self.conv_shortcut = nn.Conv2d(of, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        out: Tensor = (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + y
        return out


class PixelAttention(nn.Module):
    """Attention of one head over all pixels."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (part(pixels)[:, None] for part in (self.to_q, self.to_k, self.to_v))
        mixed: Tensor = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    """Two residual blocks, and attention between them."""

    def __init__(self, width: int, c: VaeConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(width, width, c.groups) for _ in range(2))
        self.attentions = nn.ModuleList([PixelAttention(width, c.groups)] if c.attention else [])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class Sampled(nn.Module):
    """A convolution that halves, or one behind a doubling."""

    def __init__(self, width: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, padding=1) if up else nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class Level(nn.Module):
    """Residual blocks of one size, and the way to the next."""

    def __init__(self, of: int, out: int, layers: int, groups: int, *, up: bool, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(of if i == 0 else out, out, groups) for i in range(layers))
        samplers = nn.ModuleList([] if last else [Sampled(out, up=up)])
        if up:
            self.upsamplers = samplers
        else:
            self.downsamplers = samplers
        self.samplers = [samplers]  # in a list: under one name alone

    def forward(self, x: Tensor) -> Tensor:
        for part in (*self.resnets, *self.samplers[0]):
            x = part(x)
        return x


class Half(nn.Module):
    """Encoder or decoder."""

    def __init__(self, c: VaeConfig, *, up: bool) -> None:
        super().__init__()
        widths = c.widths[::-1] if up else c.widths
        ends = (c.latent_channels, 3) if up else (3, 2 * c.latent_channels)
        self.up = up
        self.conv_in = nn.Conv2d(ends[0], widths[0], 3, padding=1)
        pairs = list(zip((widths[0], *widths), widths, strict=False))
        layers = c.layers + (1 if up else 0)
        levels = nn.ModuleList(
            Level(of, out, layers, c.groups, up=up, last=i == len(pairs) - 1) for i, (of, out) in enumerate(pairs)
        )
        if up:
            self.up_blocks = levels
        else:
            self.down_blocks = levels
        self.levels = [levels]
        self.mid_block = Middle(c.widths[-1], c)
        self.conv_norm_out = nn.GroupNorm(c.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], ends[1], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        if self.up:
            x = self.mid_block(x)
        for level in self.levels[0]:
            x = level(x)
        if not self.up:
            x = self.mid_block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


class Vae(nn.Module):
    """Both halves."""

    def __init__(self, c: VaeConfig) -> None:
        super().__init__()
        self.config = c
        self.encoder, self.decoder = Half(c, up=False), Half(c, up=True)
        if c.quant:
            self.quant_conv = nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1)
        if c.post_quant:
            self.post_quant_conv = nn.Conv2d(c.latent_channels, c.latent_channels, 1)


class Decode(nn.Module):
    """Pictures (B, 3, Y, X) in about -1 to 1 of latents (B, C, H, W)."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        c = self.model.config
        x = latents / c.scale + c.shift
        out: Tensor = self.model.decoder(self.model.post_quant_conv(x) if c.post_quant else x)
        return out


class Encode(nn.Module):
    """Latents (B, C, H, W), the mean of what pictures (B, 3, Y, X) may be."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor) -> Tensor:
        c = self.model.config
        moments = self.model.encoder(picture)
        mean = (self.model.quant_conv(moments) if c.quant else moments)[:, : c.latent_channels]
        out: Tensor = (mean - c.shift) * c.scale
        return out


class TinyBlock(nn.Module):
    """Three convolutions, and what they are added to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class TinyDecoder(nn.Module):
    """The decoder of TAESD (AutoencoderTiny of diffusers), for previews: latents as the flow has them."""

    def __init__(self, channels: int, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for number, count in enumerate(blocks):
            layers += [TinyBlock(width) for _ in range(count)]
            last = number == len(blocks) - 1
            layers += [] if last else [nn.Upsample(scale_factor=2, mode="nearest")]
            layers.append(nn.Conv2d(width, 3 if last else width, 3, padding=1, bias=last))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.tanh(latents / 3) * 3)
        return out * 2 - 1
