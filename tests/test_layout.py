"""Token layouts: what is where, and that nothing is lost on the way there and back."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY

from flagdit.engine.layout import TokenLayout
from flagdit.export import FlagDiT

layouts = st.builds(
    lambda lines, columns, patch, channels: TokenLayout(lines * patch, columns * patch, patch, channels=channels),
    st.integers(1, 7),
    st.integers(1, 7),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4),
)


@given(layouts, st.integers(1, 3))
@settings(deadline=None)
def test_patches_are_the_image(layout: TokenLayout, samples: int) -> None:
    shape = (samples, layout.channels, layout.height, layout.width)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    patches = layout.patchify(images)
    assert patches.shape == (layout.patches, samples, layout.patch_values)
    np.testing.assert_array_equal(layout.unpatchify(patches), images)


@given(layouts)
@settings(deadline=None)
def test_slots_are_a_permutation_that_begins_with_the_line_ends(layout: TokenLayout) -> None:
    slots = layout.slots()
    assert sorted(slots) == list(range(layout.tokens))
    line_ends = [(line + 1) * (layout.columns + 1) - 1 for line in range(layout.lines)]
    assert list(slots[: layout.pinned]) == line_ends
    assert list(layout.patch_index(slots[layout.pinned :])) == list(range(layout.patches))


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 2, 8, 32]), st.booleans())
@settings(deadline=None)
def test_tokens_without_a_place_fill_up(lines: int, columns: int, multiple: int, closes: bool) -> None:
    """Behind the last patch; pinned as those that close lines are, and first in the slots with them."""
    plain = TokenLayout(lines, columns, 1, channels=1, closes_lines=closes)
    layout = TokenLayout(lines, columns, 1, channels=1, closes_lines=closes, multiple=multiple)
    more = -plain.tokens % multiple
    assert (layout.tokens, layout.pinned) == (plain.tokens + more, plain.pinned + more)
    places = layout.places()
    np.testing.assert_array_equal(places[: plain.tokens], plain.places())
    rest = [(plain.tokens + i, -1, -1, -1) for i in range(more)]
    np.testing.assert_array_equal(places[plain.tokens :], np.array(rest, np.int64).reshape(-1, 4))
    slots = layout.slots()
    assert sorted(slots) == list(range(layout.tokens))
    assert (layout.patch_index(slots[: layout.pinned]) == -1).all()
    assert list(layout.patch_index(slots[layout.pinned :])) == list(range(layout.patches))
    assert layout == TokenLayout.like(layout) and (layout == plain) == (multiple == 1)


def test_lumina_at_1024_pixels_has_4160_tokens() -> None:
    layout = TokenLayout(128, 128, patch=2, channels=4)
    assert (layout.tokens, layout.pinned) == (4160, 64)


def test_patches_are_the_models(flag_dit: FlagDiT) -> None:
    """The patch vectors have the order that the trained embedding expects."""
    images = torch.randn(2, 3, 8, 12)
    layout = TokenLayout(8, 12, 4, channels=3)
    ours = torch.from_numpy(layout.patchify(images.numpy()))
    embedded = flag_dit.patchify(images).view(2, 4, 2, TINY.dim)[:, :3].flatten(0, 1)
    torch.testing.assert_close(flag_dit.x_embedder(ours), embedded)
