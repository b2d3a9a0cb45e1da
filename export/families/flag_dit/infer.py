"""What the shapes of a checkpoint's tensors say of its configuration, where no file beside it does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flagdit.export.errors import CheckpointError
from flagdit.export.families.flag_dit.config import FlagDiTConfig

Shapes = Mapping[str, tuple[int, ...]]

FIRST = "layers.0.attention."
MATRICES = (
    "x_embedder.weight",
    "final_layer.linear.weight",
    FIRST + "wk.weight",
    FIRST + "wk_y.weight",
    "layers.0.feed_forward.w1.weight",
)
GATE = FIRST + "gate"
MOST_CHANNELS = 64  # of a latent, as in model.json


def infer_config(shapes: Shapes, patch_size: int | None) -> FlagDiTConfig:
    """Read the configuration off the tensors; what cannot be seen there has to be said: the patch size.

    RoPE's theta and the epsilon of the norms, which cannot be seen either, are taken to be those of Lumina-T2I.
    Raises CheckpointError if it is no Flag-DiT, or if the patch size is missing or cannot be.
    """
    missing = [
        name for name, axes in {**dict.fromkeys(MATRICES, 2), GATE: 1}.items() if len(shapes.get(name, ())) != axes
    ]
    if missing:
        raise CheckpointError(f"not a Flag-DiT checkpoint: it has no {', '.join(missing)} of the right rank")
    dim, patch_values = shapes["x_embedder.weight"]
    heads, kv = shapes[GATE][0], shapes[FIRST + "wk.weight"][0]
    out = shapes["final_layer.linear.weight"][0]
    if out not in (patch_values, 2 * patch_values):
        raise CheckpointError(
            f"not a Flag-DiT checkpoint: final_layer.linear makes {out} values of a patch of {patch_values}; allowed "
            "are as many, and twice as many (learn_sigma)"
        )
    size = _checked_patch(patch_values, patch_size)
    numbers = [int(found[1]) for found in map(re.compile(r"layers\.(\d+)\.").match, shapes) if found]
    try:
        return FlagDiTConfig(
            dim=dim,
            n_layers=1 + max(numbers),
            n_heads=heads,
            n_kv_heads=kv * heads // dim if dim else 0,
            patch_size=size,
            in_channels=patch_values // size**2,
            learn_sigma=out == 2 * patch_values,
            cap_feat_dim=shapes[FIRST + "wk_y.weight"][1],
            qk_norm=FIRST + "q_norm.weight" in shapes,
            multiple_of=shapes["layers.0.feed_forward.w1.weight"][0],  # the width itself is a multiple of it
        )
    except ValueError as error:
        raise CheckpointError(f"not a Flag-DiT checkpoint: its tensors say that {error}") from None


def _checked_patch(values: int, size: int | None) -> int:
    """The patch size, if patches of so many values can have it."""
    fits = {p: values // p**2 for p in range(1, 65) if values % p**2 == 0 and values // p**2 <= MOST_CHANNELS}
    if size in fits:
        return size
    allowed = " or ".join(f"{p} ({channels} channels)" for p, channels in sorted(fits.items(), reverse=True))
    said = "and its tensors do not say the patch size" if size is None else f"and {size} is no patch size of it"
    raise CheckpointError(
        f"the checkpoint has no configuration beside it, {said}: a patch has {values} values; "
        f"give --patch-size {allowed or 'no such model can be exported'}"
    )
