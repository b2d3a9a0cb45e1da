"""The families that can be exported, and what others look like."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from flagdit.export.errors import CheckpointError
from flagdit.export.families.class_dit import CLASS_DIT
from flagdit.export.families.family import Family, Layout
from flagdit.export.families.flag_dit import FLAG_DIT
from flagdit.export.families.lumina2 import LUMINA2
from flagdit.export.families.mmdit import MMDIT
from flagdit.export.families.next_dit import NEXT_DIT
from flagdit.export.families.z_image import Z_IMAGE

FAMILIES: tuple[Family, ...] = (FLAG_DIT, NEXT_DIT, LUMINA2, Z_IMAGE, MMDIT, CLASS_DIT)

STRANGERS = {
    "double_blocks.0.img_attn.qkv.weight": "FLUX or a relative of it",
    "single_transformer_blocks.0.attn.to_q.weight": "FLUX or a relative of it, as diffusers saves it",
    "input_blocks.0.0.weight": "a U-Net of Stable Diffusion",
    "down_blocks.0.resnets.0.conv1.weight": "a U-Net of Stable Diffusion, as diffusers saves it",
    "blocks.0.self_attn.q.weight": "Wan",
    "transformer_blocks.0.attn1.to_q.weight": "PixArt, Sana or another model with cross-attention of diffusers",
    "text_model.embeddings.token_embedding.weight": "a text encoder (CLIP)",
    "model.embed_tokens.weight": "a language model",
    "decoder.conv_in.weight": "an autoencoder",
}
"""Tensors that name what is not exported."""

MARKS = (".lora_A.", ".lora_B.", "lora_down.", "lora_up.")


def recognise(names: Collection[str], path: Path) -> tuple[Family, Layout]:
    """The family and layout that tensors of these names are. Raises CheckpointError with what it looks like."""
    for family in FAMILIES:
        for layout in family.layouts:
            if layout.recognises(names):
                return family, layout
    looks = next((what for name, what in STRANGERS.items() if name in names), None)
    if any(mark in name for name in names for mark in MARKS):
        looks = "a LoRA: merge it into its model first"
    some = ", ".join(sorted(names)[:3]) or "none"
    raise CheckpointError(
        f"{path}: no model that can be exported{'' if looks is None else f'; it looks like {looks}'} "
        f"(tensors: {some}); exported are {', '.join(family.title for family in FAMILIES)}"
    )
