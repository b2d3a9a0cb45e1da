"""What the official files of each family hold: names and shapes, written by hand after the code that made them.

Sizes are those of the tiny models in diffused.py. Numbers are random.
"""

from __future__ import annotations

import torch
from torch import Tensor

D, TEXT, VALUES, LAYERS = 48, 24, 16, 2
Shapes = dict[str, tuple[int, ...]]


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linear(name: str, out: int, of: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, of), **({f"{name}.bias": (out,)} if bias else {})}


def one_stream(adaln: int, middle: int, index: int, hidden: int, kv: int) -> Shapes:
    """Lumina-Image 2.0 and Z-Image; `index` is where the modulation lies behind a SiLU or none."""
    shapes = {"cap_embedder.0.weight": (TEXT,), "norm_final.weight": (D,)}
    shapes |= linear("x_embedder", D, VALUES) | linear("cap_embedder.1", D, TEXT)
    shapes |= linear("t_embedder.mlp.0", middle, 256) | linear("t_embedder.mlp.2", adaln, middle)
    shapes |= linear("final_layer.linear", VALUES, D) | linear("final_layer.adaLN_modulation.1", D, adaln)
    for block in ("noise_refiner.0", "context_refiner.0", *(f"layers.{i}" for i in range(LAYERS))):
        shapes |= linear(f"{block}.attention.qkv", D + 2 * kv, D, False) | linear(f"{block}.attention.out", D, D, False)
        shapes |= {f"{block}.attention.{x}_norm.weight": (12,) for x in "qk"}
        shapes |= {f"{block}.{x}_norm{i}.weight": (D,) for x in ("attention", "ffn") for i in (1, 2)}
        for name, sizes in {"w1": (hidden, D), "w2": (D, hidden), "w3": (hidden, D)}.items():
            shapes |= linear(f"{block}.feed_forward.{name}", *sizes, False)
        if "context" not in block:
            shapes |= linear(f"{block}.adaLN_modulation.{index}", 4 * D, adaln)
    return shapes


def lumina2() -> Shapes:
    return one_stream(48, 48, 1, 192, 24)


def z_image() -> Shapes:
    return one_stream(48, 1024, 0, 128, 48) | {"x_pad_token": (1, D), "cap_pad_token": (1, D)}


def sd3(layers: int = 3, dual: int = 1, head: int = 16) -> Shapes:
    """Of Stable Diffusion 3.5, whose first `dual` layers have a second attention."""
    shapes: Shapes = {
        "pos_embed": (1, 24 * 24, D),
        "x_embedder.proj.weight": (D, 4, 2, 2),
        "x_embedder.proj.bias": (D,),
    }
    shapes |= linear("t_embedder.mlp.0", D, 256) | linear("t_embedder.mlp.2", D, D)
    shapes |= linear("y_embedder.mlp.0", D, 32) | linear("y_embedder.mlp.2", D, D) | linear("context_embedder", D, 64)
    shapes |= linear("final_layer.linear", VALUES, D) | linear("final_layer.adaLN_modulation.1", 2 * D, D)
    for i in range(layers):
        for kind in ("x", "context"):
            block, last = f"joint_blocks.{i}.{kind}_block", kind == "context" and i == layers - 1
            chunks = 2 if last else 9 if kind == "x" and i < dual else 6
            shapes |= linear(f"{block}.adaLN_modulation.1", chunks * D, D)
            for attn in ("attn", "attn2")[: 2 if chunks == 9 else 1]:
                shapes |= linear(f"{block}.{attn}.qkv", 3 * D, D)
                shapes |= {f"{block}.{attn}.ln_{x}.weight": (head,) for x in "qk"}
                shapes |= {} if last else linear(f"{block}.{attn}.proj", D, D)
            if not last:
                shapes |= linear(f"{block}.mlp.fc1", 4 * D, D) | linear(f"{block}.mlp.fc2", D, 4 * D)
    return shapes


NEXT_DIT = {
    "pad_token": "pad_token",
    "x_embedder.": "patch_embedder.proj.",
    "t_embedder.mlp.0.": "time_caption_embed.timestep_embedder.linear_1.",
    "t_embedder.mlp.2.": "time_caption_embed.timestep_embedder.linear_2.",
    "cap_embedder.": "time_caption_embed.caption_embedder.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear_1.",
    "final_layer.linear.": "norm_out.linear_2.",
    **{f"layers.{i}.{ours}": f"layers.{i}.{theirs}" for i in range(LAYERS) for ours, theirs in (
        ("attention.gate", "gate"), ("attention.wq.", "attn1.to_q."), ("attention.wk.", "attn1.to_k."),
        ("attention.wv.", "attn1.to_v."), ("attention.wk_y.", "attn2.to_k."), ("attention.wv_y.", "attn2.to_v."),
        ("attention.wo.", "attn2.to_out.0."), ("attention.q_norm.", "attn1.norm_q."),
        ("attention.k_norm.", "attn1.norm_k."), ("attention.ky_norm.", "attn2.norm_k."),
        ("attention_norm1.", "norm1.norm."), ("attention_norm2.", "norm2."), ("attention_y_norm.", "norm1_context."),
        ("adaLN_modulation.1.", "norm1.linear."), ("ffn_norm1.", "ffn_norm1."), ("ffn_norm2.", "ffn_norm2."),
        ("feed_forward.w1.", "feed_forward.linear_1."), ("feed_forward.w2.", "feed_forward.linear_2."),
        ("feed_forward.w3.", "feed_forward.linear_3."),
    )},
}  # fmt: skip
"""Official names of Next-DiT and diffusers', which has no converter of its own that still works."""
