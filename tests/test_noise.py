"""Noise of a seed: Philox against its published vectors, values against torch's and a second implementation."""

from __future__ import annotations

import numpy as np
import pytest
from backends import DEVICES, EMULATED, Backend
from noise import noise_of

from flagdit.cpp_ext import normal_noise, philox

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)

# torch.manual_seed(0); torch.randn(8, 8, device="cuda"), as published with PyTorch's own four digits.
TORCH_CUDA = """
-0.9247 -0.4253 -2.6438  0.1452 -0.1209 -0.5797 -0.6229 -0.3284
-1.0745 -0.3631 -1.6711  2.2655  0.3117 -0.1842  1.2866  1.1820
-0.1271  1.2169  1.4353  1.0605 -0.4941 -1.4244 -0.7244 -1.2973
 0.0697 -0.0074  1.8969  0.6878 -0.0779 -0.8373  1.3506 -0.2879
-0.5965 -0.3283 -0.9086 -0.8059 -0.7407 -0.0504  0.5435  1.5150
 0.0141  0.4532  1.6349  0.7124 -0.1806  1.0252 -1.4622 -0.7554
-0.1836  0.3824  0.3918 -0.0830  0.8971 -1.1123  0.1116  0.4863
-0.5499 -0.3231 -0.5469  0.9049  0.2837  0.1210  0.4730 -1.0823
"""


def drawn(backend: Backend, seeds: list[int], values: int) -> np.ndarray:
    out = backend.put(np.full((len(seeds), values), np.nan, np.float32))
    normal_noise(out, seeds)
    return backend.get(out)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_its_published_vectors(counter: str, key: str, expected: str) -> None:
    """Those of Random123's kat_vectors."""
    given, by, out = ([int(word, 16) for word in words.split()] for words in (counter, key, expected))
    assert list(philox(given, by)) == out


@on_devices
def test_is_torchs_on_cuda(backend: Backend) -> None:
    expected = np.array(TORCH_CUDA.split(), np.float64)
    np.testing.assert_allclose(drawn(backend, [0], 64)[0], expected, rtol=0, atol=0.6e-4)


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 5, 2**63 - 1])
@pytest.mark.skipif(len(DEVICES) == 1 or EMULATED, reason="needs a GPU")
def test_is_torchs_on_this_gpu(seed: int) -> None:
    """Up to the threads of its kernel, which even small GPUs have 16384 of; torch computes in single precision."""
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    expected = torch.randn(16384, generator=generator, device="cuda").cpu().numpy()
    for backend in DEVICES:
        np.testing.assert_allclose(drawn(backend, [seed], 16384)[0], expected, rtol=0, atol=5e-4)
        assert np.mean(np.abs(drawn(backend, [seed], 16384)[0] - expected) > 1e-5) < 1e-3


@on_devices
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_is_the_specified_formula(backend: Backend, seed: int) -> None:
    """Every value, but for the last bit of a few where libraries of mathematics differ."""
    values, expected = drawn(backend, [seed], 100_000)[0], noise_of(seed, (100_000,))
    np.testing.assert_array_max_ulp(values, expected, 1)
    assert (values != expected).sum() <= 2


@on_devices
def test_is_normal(backend: Backend) -> None:
    """Moments, tails and neighbours of a million values, within five standard errors."""
    count = 1_000_000
    (x,) = drawn(backend, [2026], count).astype(np.float64)
    for power, (moment, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert abs((x**power).mean() - moment) < 5 * (variance / count) ** 0.5, power
    for lag in (1, 2, 3, 64):
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 * count**-0.5, lag
    for bound, share in [(1, 0.317311), (2, 0.045500), (3, 0.002700), (4, 0.0000633)]:
        assert abs((np.abs(x) > bound).mean() - share) < 5 * (share / count) ** 0.5, bound


@on_devices
def test_a_sample_knows_neither_its_batch_nor_how_many_values_follow(backend: Backend) -> None:
    seeds = [5, 2**64 - 1, 0, 5]
    batch = drawn(backend, seeds, 1000)
    for row, seed in zip(batch, seeds, strict=True):
        np.testing.assert_array_equal(row, drawn(backend, [seed], 1000)[0])
        np.testing.assert_array_equal(row[:10], drawn(backend, [seed], 10)[0])
    assert len({tuple(row) for row in batch.tolist()}) == 3


@on_devices
def test_nothing_to_draw(backend: Backend) -> None:
    assert drawn(backend, [], 5).shape == (0, 5)
    assert drawn(backend, [1, 2], 0).shape == (2, 0)


ALLOWED = "allowed integers of 0..18446744073709551615 (2^64 - 1)"


@pytest.mark.parametrize(
    ("out", "seeds", "message"),
    [
        (np.zeros(4, np.float32), [0], "out: got float32 (4,) on cpu, allowed 2 dimensions"),
        (np.zeros((1, 4)), [0], "out: got float64 (1, 4) on cpu, allowed float32 (1, 4) on cpu"),
        (np.zeros((2, 4), np.float32), [0], "seeds: got 1, allowed 2, one for every sample of out"),
        (np.zeros((1, 4), np.float32), [-1], f"seeds: got -1, {ALLOWED}"),
        (np.zeros((1, 4), np.float32), [2**64], f"seeds: got 18446744073709551616, {ALLOWED}"),
        (np.zeros((1, 4), np.float32), [1.0], f"seeds: got 1.0, {ALLOWED}"),
        (np.zeros((1, 4), np.float32), ["1"], f"seeds: got '1', {ALLOWED}"),
    ],
)
def test_refuses(out: np.ndarray, seeds: list, message: str) -> None:
    with pytest.raises(ValueError, match="normal_noise: ") as error:
        normal_noise(out, seeds)
    assert message in str(error.value)
