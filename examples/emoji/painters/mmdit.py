"""MMDiT: diffusers' SD3Transformer2DModel. Text and picture are two streams, which attend to each other.

Its text features are one encoder's, filled up with zeros to TOKENS, and the pooled ones their mean (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from flagdit.export import FlagDiT
from painters.painter import CHANNELS, HEADS, LAYERS, PATCH, SIZE, TEXT, WIDTH, Painter, attention, initialise

SHAPE: dict[str, Any] = {
    "sample_size": SIZE,
    "patch_size": PATCH,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_layers": LAYERS,
    "attention_head_dim": WIDTH // HEADS,
    "num_attention_heads": HEADS,
    "joint_attention_dim": TEXT,
    "pooled_projection_dim": TEXT,
    "caption_projection_dim": WIDTH,
    "pos_embed_max_size": 48,
    "qk_norm": "rms_norm",
}
TOKENS = 32
ZERO = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")


class JointProcessor:
    """diffusers' JointAttnProcessor2_0 in plain matmuls."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> tuple[Tensor, Tensor]:
        """Pictures (B, N, D) and text (B, T, D) after attending to both."""
        own = self._qkv(attn, hidden_states, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"))
        names = ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k")
        other = self._qkv(attn, encoder_hidden_states, *names)
        q, k, v = (torch.cat(pair, 2) for pair in zip(own, other, strict=True))
        mixed = attention(q, k, v, q.shape[-1] ** -0.5).transpose(1, 2).flatten(2)
        image, text = mixed.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], 1)
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)

    def _qkv(self, attn: Any, x: Tensor, names: tuple[str, ...], norms: tuple[str, str]) -> list[Tensor]:
        made = [getattr(attn, name)(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for name in names]
        return [getattr(attn, norm)(each) for norm, each in zip(norms, made[:2], strict=True)] + made[2:]


class MMPainter(Painter):
    """An MMDiT, as Stable Diffusion 3.5 without second attentions."""

    def __init__(self, shape: Mapping[str, Any] = SHAPE, *, plain: bool = True) -> None:
        """plain: attention in matmuls; else diffusers' own."""
        super().__init__()
        self.net = SD3Transformer2DModel(**shape)
        initialise(self.net, ZERO)
        for block in self.net.transformer_blocks if plain else ():
            block.attn.set_processor(JointProcessor())

    def forward(self, image: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """The net's own time is 1000 at noise, and its velocity noise minus data."""
        weights = mask.to(text.dtype)[..., None]
        pooled = (text * weights).sum(1) / weights.sum(1)
        filled = F.pad(text * weights, (0, 0, 0, TOKENS - text.shape[1]))
        out: Tensor = self.net(image, filled, pooled, 1000 * (1 - t), return_dict=False)[0]
        return -out

    def config(self) -> Mapping[str, Any]:
        return {"_class_name": "SD3Transformer2DModel", **self.net.config}

    @torch.no_grad()
    def begin_with(self, model: FlagDiT) -> None:
        """Both ends; of the picture's stream the attention, and the modulations, whose times are yet to be learned.

        A feed-forward layer is another kind, and begins as nothing. So do the text's parts in what pictures become.
        """
        own, theirs, final = self.net, model.blocks, model.final_layer
        kernel = own.pos_embed.proj.weight
        kernel.copy_(model.x_embedder.weight.view(kernel.shape))
        own.pos_embed.proj.bias.copy_(model.x_embedder.bias)
        own.proj_out.weight.copy_(-final.linear.weight)
        own.proj_out.bias.copy_(-final.linear.bias)
        modulation = final.adaLN_modulation[1]
        own.norm_out.linear.weight.copy_(torch.cat(modulation.weight.chunk(2)[::-1]))  # (scale, shift) here
        own.norm_out.linear.bias.copy_(torch.cat(modulation.bias.chunk(2)[::-1]))
        for block, given in zip(own.transformer_blocks, theirs, strict=True):
            block.norm1.linear.load_state_dict(given.adaLN_modulation[1].state_dict())
            for name in "qkv":
                matrix = getattr(given.attention, f"w{name}").weight
                getattr(block.attn, f"to_{name}").weight.copy_(matrix * given.attention_norm.weight)
            for name in "qk":  # one weight a channel of a head here, one a channel of all heads there
                weights = getattr(given.attention, f"{name}_norm").weight.view(HEADS, -1)
                getattr(block.attn, f"norm_{name}").weight.copy_(weights.square().mean(0).sqrt())
            block.attn.to_out[0].weight.copy_(given.attention.wo.weight)
            block.ff.net[2].weight.zero_()

    def blocks(self) -> list[nn.Module]:
        return [*self.net.transformer_blocks]

    def tokens(self, made: Any, image: Tensor) -> Tensor:
        """Those of the picture's stream."""
        x: Tensor = made[1]
        return x

    def compile_parts(self, device: str) -> None:
        """One block for all layers but the last, whose text ends."""
        for block in self.net.transformer_blocks:
            block.compile(dynamic=device != "cpu")
