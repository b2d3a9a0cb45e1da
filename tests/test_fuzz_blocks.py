"""Attention in blocks of queries with any shapes and attributes: refused in words, or right."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from fuzz import FLOATS, INTEGERS, PARTS, Guarded, check_cases, reshaped, rng_of
from test_operators_blocks import attention, session

Shapes = dict[str, tuple[int, ...]]


def made(rng: random.Random) -> tuple[Shapes, dict[str, float]]:
    """Shapes that fit, changed in up to two places."""
    r, g, d = rng.choice((0, 1, 2, 3)), rng.choice((1, 2)), rng.choice((1, 8, 16))
    a, n = rng.choice(((0, 5), (3, 1), (7, 20), (7, 20), (1, 0)))
    if rng.random() < 0.04:
        a, n = 300, 3600  # scores of so many are in blocks
    h = g * rng.choice((1, 2))
    shapes: Shapes = {"Q": (r, h, a, d), "K": (r, g, n, d), "V": (r, g, n, d)}
    if rng.random() < 0.6:
        shapes["attn_mask"] = (rng.choice((1, r)), rng.choice((1, h)), a, n)
    for name in rng.sample(list(shapes), rng.choice((0, 0, 1, 1, 2))):
        shapes[name] = reshaped(rng, shapes[name])
    if rng.random() < 0.2:
        return shapes, {rng.choice(("is_causal", "qk_matmul_output_mode", "kv_num_heads")): rng.choice(INTEGERS)}
    return shapes, {"softcap": rng.choice(FLOATS)} if rng.random() < 0.1 else {}


def fits(shapes: Shapes, attributes: dict[str, float]) -> bool:
    q, k, v = (shapes[name] for name in "QKV")
    if len(q) != 4 or len(k) != 4 or v != k or any(attributes.values()):
        return False
    if k[0] != q[0] or k[3] != q[3] or min(q[1], q[3], k[1], k[2]) < 1 or q[1] % k[1]:
        return False
    mask = shapes.get("attn_mask")
    wanted = None if mask is None else (len(mask) == 4 and mask[0] in (1, q[0]) and mask[1] in (1, q[1]))
    return mask is None or (bool(wanted) and mask[2:] == (q[2], k[2]))


def check(shapes: Shapes, attributes: dict[str, float], rng: random.Random) -> bool:
    """Whether it was taken."""
    generator = np.random.default_rng(rng.randrange(2**32))
    inputs = {name: Guarded(generator.standard_normal(shape, np.float32)) for name, shape in shapes.items()}
    fed = {name: guarded.array for name, guarded in inputs.items()}
    try:
        (got,) = session(len(fed), True, **attributes).run(None, fed)
    except Exception as error:
        assert not fits(shapes, attributes), f"refused, and fits: {error}"
        words = "|".join((*shapes, *attributes))
        clear = re.search(rf"flagdit\.Attention: ({words}): got .+, allowed .+", str(error))
        native = "INVALID_GRAPH" in str(error) or "ShapeInferenceError" in str(error)  # ONNX Runtime came first
        assert clear or native, str(error)
        return False
    assert fits(shapes, attributes), "taken, and does not fit"
    for guarded in inputs.values():
        guarded.check()
    assert got.shape == shapes["Q"] and np.isfinite(got).all()
    if got.size:
        np.testing.assert_allclose(got, attention(*(fed.get(name) for name in ("Q", "K", "V", "attn_mask"))), atol=1e-4)
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_any_call_is_refused_in_words_or_right(part: int) -> None:
    rng = rng_of("blocks", part)
    check_cases(lambda: made(rng), lambda case: check(*case, rng), str, least=10)
