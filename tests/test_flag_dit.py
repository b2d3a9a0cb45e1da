"""Flag-DiT against an independent implementation, and against the published counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import velocity
from tiny import TINY, random_flag_dit

from flagdit.export import FlagDiT, FlagDiTConfig
from flagdit.export.parts.layers import RMSNorm

VARIANTS = {
    "tiny": TINY,
    "grouped heads, sigma": replace(TINY, n_kv_heads=2, learn_sigma=True, in_channels=4, patch_size=2),
    "patch 8": replace(TINY, patch_size=8),
}


def inputs(config: FlagDiTConfig, height: int = 16, width: int = 24) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(3)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    text = torch.randn(2, 7, config.cap_feat_dim)
    return torch.randn(2, config.in_channels, height, width), torch.tensor([0.2, 0.7]), text, mask


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_matches_the_independent_implementation(config: FlagDiTConfig) -> None:
    model = random_flag_dit(config)
    image, t, text, mask = inputs(config)
    with torch.no_grad():
        ours = model(image, t, text, mask)
    expected = velocity(model.state_dict(), image, t, text, mask, config.patch_size)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_has_the_published_size() -> None:
    """Lumina-T2I 5B: 5,046,643,744 parameters in 688 tensors."""
    with torch.device("meta"):
        state = FlagDiT(FlagDiTConfig()).state_dict()
    assert len(state) == 688
    assert sum(tensor.numel() for tensor in state.values()) == 5_046_643_744
    assert state["layers.31.attention.wk_y.weight"].shape == (3072, 4096)
    assert state["final_layer.linear.weight"].shape == (32, 3072)


def test_padding_does_not_change_an_image() -> None:
    """Images of different sizes, padded to one length, come out as they do alone."""
    model = random_flag_dit(TINY).double()
    _, t, text, mask = (x.double() if x.is_floating_point() else x for x in inputs(TINY))
    small, large = torch.randn(3, 8, 16).double(), torch.randn(3, 32, 16).double()
    with torch.no_grad():
        together = model([small, large], t, text, mask)
        for i, image in enumerate((small, large)):
            alone = model(image[None], t[i : i + 1], text[i : i + 1], mask[i : i + 1])
            torch.testing.assert_close(together[i], alone[0], atol=1e-10, rtol=0)


def test_text_padding_does_not_change_an_image() -> None:
    model = random_flag_dit(TINY)
    image, t, text, mask = inputs(TINY)
    with torch.no_grad():
        padded = model(image, t, text, mask)[1]
        cut = model(image[1:], t[1:], text[1:, :4], mask[1:, :4])[0]
    torch.testing.assert_close(padded, cut, atol=1e-5, rtol=1e-5)


def test_starts_as_zero() -> None:
    """The official initialisation: zero output, whatever the input."""
    assert not FlagDiT(TINY)(*inputs(TINY)).any()


def test_proportional_attention_is_neutral_at_its_base() -> None:
    model = random_flag_dit(TINY)
    image, t, text, mask = inputs(TINY)
    tokens = 4 * 7
    with torch.no_grad():
        plain = model(image, t, text, mask)
        torch.testing.assert_close(model(image, t, text, mask, base_tokens=tokens), plain)
        assert (model(image, t, text, mask, base_tokens=tokens // 2) - plain).abs().max() > 1e-4


def test_rms_norm_is_torchs() -> None:
    x = torch.randn(5, 16)
    norm, expected = RMSNorm(16, 1e-5), torch.nn.RMSNorm(16, 1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(16))
        expected.weight.copy_(norm.weight)
    torch.testing.assert_close(norm(x), expected(x))


def test_refuses_what_does_not_tile() -> None:
    with pytest.raises(ValueError, match="18x16 does not tile into 4x4"):
        FlagDiT(TINY).patchify(torch.zeros(1, 3, 16, 18))


def test_refuses_odd_heads() -> None:
    with pytest.raises(ValueError, match="dim 48 is not 5 heads"):
        FlagDiTConfig(dim=48, n_heads=5)
