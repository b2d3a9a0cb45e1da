"""Next-DiT: diffusers' LuminaNextDiT2DModel, whose 2-D RoPE turns by line and column; there is no [nextline] token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import LuminaNextDiT2DModel
from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina
from torch import Tensor, nn

from flagdit.export import FlagDiT
from flagdit.export.parts.layers import text_mask_bias
from painters.painter import CHANNELS, HEADS, LAYERS, PATCH, SIZE, TEXT, WIDTH, Painter, attention, initialise

SHAPE: dict[str, Any] = {
    "sample_size": SIZE,
    "patch_size": PATCH,
    "in_channels": CHANNELS,
    "hidden_size": WIDTH,
    "num_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_kv_heads": HEADS,
    "multiple_of": 128,
    "learn_sigma": False,
    "cross_attention_dim": TEXT,
}
SIDE = 64
"""Lines and columns that there are angles for."""
ZERO = ("norm1.linear", "norm_out.linear_1", "norm_out.linear_2", "caption_embedder.1")
GATE = 3.0
"""What gates are divided by, so that tanh leaves them nearly as they are; the norms are multiplied by it."""

NAMES = (
    (r"^x_embedder\.", "patch_embedder.proj."),
    (r"^t_embedder\.mlp\.0\.", "time_caption_embed.timestep_embedder.linear_1."),
    (r"^t_embedder\.mlp\.2\.", "time_caption_embed.timestep_embedder.linear_2."),
    (r"^cap_embedder\.", "time_caption_embed.caption_embedder."),
    (r"\.attention\.gate$", ".gate"),
    (r"\.attention\.w([kv])_y\.", r".attn2.to_\1."),
    (r"\.attention\.w([qkv])\.", r".attn1.to_\1."),
    (r"\.attention\.wo\.", ".attn2.to_out.0."),
    (r"\.attention\.ky_norm\.", ".attn2.norm_k."),
    (r"\.attention\.([qk])_norm\.", r".attn1.norm_\1."),
    (r"\.feed_forward\.w", ".feed_forward.linear_"),
    (r"\.attention_norm\.", ".norm1.norm."),
    (r"\.ffn_norm\.", ".ffn_norm1."),
    (r"\.attention_y_norm\.", ".norm1_context."),
    (r"^final_layer\.linear\.", "norm_out.linear_2."),
)
"""Tensors of a Flag-DiT that are also a Next-DiT's, and what they are called there."""
MODULATION = re.compile(r"(?:(layers\.\d+)|final_layer)\.adaLN_modulation\.1\.(weight|bias)")


def turn(x: Tensor, rope: Tensor) -> Tensor:
    """Adjacent channels of x (B, N, H, d) turned by angles (1, N, d/2, 2), their cos and sin."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rope[:, :, None].unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def _sizes(model: FlagDiT) -> list[tuple[float, float]]:
    """Of what every layer's attention and feed-forward layer make of noise, the root of the mean square."""
    kept: list[float] = []

    def keep(module: nn.Module, given: Any, made: Tensor) -> None:
        kept.append(made.square().mean().sqrt().item())

    parts = [part for block in model.blocks for part in (block.attention.wo, block.feed_forward)]
    hooks = [part.register_forward_hook(keep) for part in parts]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, CHANNELS, SIZE, SIZE, generator=generator)
    model(noise, torch.linspace(0, 0.5, 4), torch.zeros(4, 2, model.config.cap_feat_dim), torch.ones(4, 2) > 0)
    for hook in hooks:
        hook.remove()
    return list(zip(kept[::2], kept[1::2], strict=True))


class PlainProcessor:
    """diffusers' LuminaAttnProcessor2_0 without complex numbers, which do not compile, and in plain matmuls.

    Angles are real: view_as_real of what diffusers makes.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        query_rotary_emb: Tensor,
        key_rotary_emb: Tensor | None,
    ) -> Tensor:
        """Attention (B, N, H, d) of x (B, N, D) to itself, or to text (B, T, Y), which has no angles."""
        split = (attn.heads, -1)
        q = turn(attn.norm_q(attn.to_q(hidden_states)).unflatten(-1, split), query_rotary_emb)
        k = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(-1, split)
        v = attn.to_v(encoder_hidden_states).unflatten(-1, split)
        bias = None
        if key_rotary_emb is not None:
            k = turn(k, key_rotary_emb)
        else:
            bias = text_mask_bias(attention_mask, q.dtype)
        out = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn.scale, bias)
        return out.transpose(1, 2)


class NextPainter(Painter):
    """A Next-DiT. Both attentions of a layer have one projection of queries, which diffusers holds twice."""

    def __init__(self, shape: Mapping[str, Any] = SHAPE, *, plain: bool = True) -> None:
        """plain: attention in matmuls; else diffusers' own, in complex numbers."""
        super().__init__()
        self.net = LuminaNextDiT2DModel(**shape)
        nn.init.normal_(self.net.pad_token, std=0.02)
        initialise(self.net, ZERO)
        for layer in self.net.layers:
            layer.attn2.to_q, layer.attn2.norm_q = layer.attn1.to_q, layer.attn1.norm_q
            if plain:
                layer.attn1.set_processor(PlainProcessor())
                layer.attn2.set_processor(PlainProcessor())
        angles = get_2d_rotary_pos_embed_lumina(self.net.head_dim, SIDE, SIDE)
        self.register_buffer("angles", torch.view_as_real(angles).float() if plain else angles, persistent=False)

    def forward(self, image: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.net(
            image, t, text, mask, self.get_buffer("angles"), cross_attention_kwargs={}, return_dict=False
        )[0]
        return out

    def config(self) -> Mapping[str, Any]:
        return {"_class_name": "LuminaNextDiT2DModel", **self.net.config}

    @torch.no_grad()
    def begin_with(self, model: FlagDiT) -> None:
        """Embeddings, attention and feed-forward layers; of the modulations scales and gates.

        New are the norms behind attention and feed-forward layers, which start at the size of what the Flag-DiT's make
        of noise; gates, which go through tanh; and places: the angles are those of lines and columns.
        """
        own = self.net.state_dict()
        for name, tensor in model.state_dict().items():
            found = MODULATION.fullmatch(name)
            if found and found[1]:
                parts = tensor.unflatten(0, (6, -1))[[1, 2, 4, 5]]  # (shift, scale, gate) twice, of which no shift
                parts[[1, 3]] /= GATE
                own[f"{found[1]}.norm1.linear.{found[2]}"].copy_(parts.flatten(0, 1))
            elif found:
                own[f"norm_out.linear_1.{found[2]}"].copy_(tensor.chunk(2)[1])
            else:
                theirs = name
                for pattern, said in NAMES:
                    theirs = re.sub(pattern, said, theirs)
                if theirs in own:
                    own[theirs].copy_(tensor)
        for layer, (mixed, fed) in zip(self.net.layers, _sizes(model), strict=True):
            layer.norm2.weight.fill_(GATE * mixed)
            layer.ffn_norm2.weight.fill_(GATE * fed)

    def blocks(self) -> list[nn.Module]:
        return [*self.net.layers]

    def tokens(self, made: Any, image: Tensor) -> Tensor:
        """All there are."""
        assert isinstance(made, Tensor)
        return made

    def compile_parts(self, device: str) -> None:
        """One block for all layers."""
        for layer in self.net.layers:
            layer.compile(dynamic=device != "cpu")
