"""A model of one stream: its weights under the official names, but for queries, keys and values apart."""

from __future__ import annotations

import torch
from torch import nn

from flagdit.export.parts.joint.config import JointConfig
from flagdit.export.parts.layers import RMSNorm, TimestepEmbedder
from flagdit.export.parts.sandwich import SandwichBlock


class JointFinal(nn.Module):
    """Modulated LayerNorm and the projection to patches, in the order (ph, pw, channel)."""

    def __init__(self, c: JointConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(c.dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(c.dim, c.patch_values)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.adaln_dim, c.dim))


class Joint(nn.Module):
    """Weights of a model of one stream."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = c = config
        self.x_embedder = nn.Linear(c.patch_values, c.dim)
        self.t_embedder = TimestepEmbedder(c.adaln_dim, c.time_dim, stored=c.time_scale != 1)
        self.cap_embedder = nn.Sequential(RMSNorm(c.cap_feat_dim, c.norm_eps), nn.Linear(c.cap_feat_dim, c.dim))
        self.noise_refiner = nn.ModuleList(self._block(modulated=True) for _ in range(c.n_refiners))
        self.context_refiner = nn.ModuleList(self._block(modulated=False) for _ in range(c.n_refiners))
        self.layers = nn.ModuleList(self._block(modulated=True) for _ in range(c.n_layers))
        self.final_layer = JointFinal(c)
        if c.multiple > 1:
            self.x_pad_token = nn.Parameter(torch.empty(1, c.dim))
            self.cap_pad_token = nn.Parameter(torch.empty(1, c.dim))

    def _block(self, *, modulated: bool) -> SandwichBlock:
        c, adaln = self.config, None
        if modulated:
            linear = nn.Linear(c.adaln_dim, 4 * c.dim)
            adaln = nn.Sequential(nn.SiLU(), linear) if c.adaln_silu else nn.Sequential(linear)
        return SandwichBlock(c.dim, c.n_heads, c.n_kv_heads, c.ffn_dim, c.norm_eps, adaln)

    @property
    def modulated(self) -> list[SandwichBlock]:
        """The blocks that image tokens go through, in their order: refiners, then layers."""
        return [block for block in (*self.noise_refiner, *self.layers) if isinstance(block, SandwichBlock)]
