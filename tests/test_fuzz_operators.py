"""The CPU operators in ONNX Runtime with any inputs and attributes: refused in words, or right. A bundle's graph may
come from anyone. `make sanitize` runs it under ASan and UBSan, with more cases.

A case is a call that fits, changed in up to three places. operator_numpy says what must be refused, and what comes out
otherwise, in Python's integers, which do not wrap.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

import numpy as np
import operator_numpy
import pytest
from fuzz import FLOATS, INTEGERS, PARTS, Array, Guarded, check_cases, reshaped, rng_of, wrapping
from operator_numpy import NAMES, OPTIONAL, RefusedError
from operator_session import Operator, bf16, passes_without_tiles, wide

from flagdit.cpp_ext import has_amx

SIZES = (0, 1, 1, 2, 2, 3, 5)
ATTRIBUTES = {
    "Linear": {"gate": 0},
    "FeedForward": {"gate": 0, "scale": 0, "shift": 0, "epsilon": 1e-5},
    "Project": {"scale": 0, "shift": 0, "epsilon": 1e-5, "size": 2, "norm_epsilon": 1e-5},
    "Attention": {"text_scale": 0.5},
}
MORE: dict[str, dict[str, float]] = {
    "Linear": {"out_epsilon": 1e-5},
    "FeedForward": {"centred": 1, "out_epsilon": 1e-5},
    "Project": {"centred": 1, "each_head": 1},
    "Attention": {},
}
"""Those that may be missing."""
HALVES = {"keys", "values", "key_tail", "value_tail", "text_keys", "text_values"}


def is_constant(name: str) -> bool:
    return bool(re.fullmatch(r"weights|scales.*|w[123qkv]", name))


@dataclass
class Case:
    """One call of an operator. structural: ONNX Runtime itself may refuse it, in its own words."""

    op: str
    inputs: dict[str, Array | None]
    attributes: dict[str, float]
    fed: set[str] = field(default_factory=set)  # scales that the graph computes
    structural: bool = False


def values(rng: random.Random, name: str, shape: tuple[int, ...]) -> Array:
    """Random ones, of the type that the input has."""
    generator = np.random.default_rng(rng.randrange(2**32))
    if name in HALVES:
        return bf16(generator.standard_normal(shape, np.float32))
    if is_constant(name) and not name.startswith("scales"):
        return generator.integers(-128, 128, shape).astype(np.int8)
    return generator.uniform(0.5, 1.5, shape).astype(np.float32) * generator.choice([-1, 1], shape).astype(np.float32)


def gate_shape(rng: random.Random, rows: int, width: int) -> tuple[int, ...]:
    return rng.choice([(width,), (rows, width), (rows, 3, width), (rows, 2, 4, width)])


def shapes_of(op: str, rng: random.Random) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes that fit each other, mostly, and the size of a head."""
    a, r, g, m, t = (rng.choice(SIZES) for _ in range(5))
    k, n = rng.choice((1, 16, 40, 64)), rng.choice((8, 32, 40))
    h, d = g * rng.choice((1, 2)), rng.choice((4, 8, 16, 64))
    if op == "Attention":
        slots, words = (a, r, g, d), (r, g, t, d)
        shapes = [(a, r, h, d), (1,), slots, slots, (m, r, g, d), (m, r, g, d), words, words]
        shapes += [(r, t), (h * d,), (r, a + m)]
        return dict(zip(NAMES[op].split(), shapes, strict=True)), d
    shapes, tail = [(a, r, k)], [(a, r, n), gate_shape(rng, r, n)]
    if op != "Linear":
        shapes += [(k,), gate_shape(rng, r, k)]
    if op == "Linear":
        shapes, tail = [*shapes, (n, k), (n, 1)], [*tail, (n,), (n,)]
    elif op == "FeedForward":
        f = rng.choice((8, 40))
        shapes += [(f, k), (f, 1), (n, f), (n, 1), (f, k), (f, 1)]
        tail += [(f,), (n,), (n,)]
    else:
        q, kv = h * d, g * d
        shapes += [(q, k), (q, 1), (kv, k), (kv, 1), (kv, k), (kv, 1)]
        tail = [(a, r, d // 2), (a, r, d // 2), (q,), (q,), (kv,), (kv,), (q,), (kv,), (kv,)]
    return dict(zip(NAMES[op].split(), [*shapes, *tail], strict=True)), d


def numbers(rng: random.Random, case: Case, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Another attribute. With one that wraps come the shapes that a product which wraps would have."""
    if isinstance(case.attributes[name], float):
        case.attributes[name] = rng.choice(FLOATS)
        return
    width = shapes["modulation" if name in ("scale", "shift") else "gates" if name == "gate" else "x"][-1]
    case.attributes[name] = rng.choice((*INTEGERS, wrapping(rng, width), wrapping(rng, width), rng.randrange(9)))
    if name == "size" and case.inputs["cos"] is not None and rng.random() < 0.7:
        a, r, _ = shapes["x"]
        count = a * r * case.attributes[name] % 2**64 // 2 % 2**63
        shape = (a, r, count // max(a * r, 1)) if count < 10**4 else (0,)
        case.inputs["cos"], case.inputs["sin"] = (values(rng, x, shape) for x in ("cos", "sin"))


def change(rng: random.Random, case: Case, shapes: dict[str, tuple[int, ...]]) -> None:
    kind = rng.randrange(10)
    if kind < 3:
        numbers(rng, case, rng.choice(list(case.attributes)), shapes)
    elif kind == 3:
        group = rng.choice([g & set(case.inputs) for g in OPTIONAL if g & set(case.inputs)])
        case.inputs[rng.choice(sorted(group))] = None
    elif kind == 4 and rng.random() < 0.3:
        case.structural = True
        case.inputs[rng.choice(list(case.inputs))] = None
    elif kind == 5 and rng.random() < 0.3:
        del case.attributes[rng.choice(list(case.attributes))]
    elif kind == 6 and rng.random() < 0.5:
        case.fed |= {name for name in case.inputs if name.startswith("scales") and rng.random() < 0.5}
    else:
        name = rng.choice(list(case.inputs))
        array = case.inputs[name]
        case.inputs[name] = None if array is None else values(rng, name, reshaped(rng, array.shape))


def made(op: str, rng: random.Random) -> Case:
    shapes, d = shapes_of(op, rng)
    more = {name: value for name, value in MORE[op].items() if rng.random() < 0.4}
    if "each_head" in more:
        shapes |= {"q_weight": (d,), "k_weight": (d,)}
    case = Case(op, {name: values(rng, name, shape) for name, shape in shapes.items()}, {**ATTRIBUTES[op], **more})
    if "each_head" in more:
        case.inputs.update(q_bias=None, k_bias=None)
    if op == "FeedForward":  # a bias and a third matrix are of two kinds of it
        case.inputs.update(dict.fromkeys(rng.choice((("w3", "scales3"), ("bias1",)))))
    if "size" in case.attributes:
        case.attributes["size"] = d
    if op == "Project" and shapes["wq"][0] == 0:  # which any size divides
        numbers(rng, case, "size", shapes)
    for group in OPTIONAL:
        if rng.random() < 0.3:
            case.inputs.update(dict.fromkeys(group & set(case.inputs)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        if case.attributes:
            change(rng, case, shapes)
    return case


def run(case: Case, expected: list[Array] | None) -> list[Array]:
    """The operator's outputs, in guarded memory of the expected shapes; in its own where it should have refused."""
    there = {name: array for name, array in case.inputs.items() if array is not None}
    constants = {name: array for name, array in there.items() if is_constant(name) and name not in case.fed}
    order = [name if name in there else None for name in case.inputs]
    operator = Operator(case.op, order, constants, sorted(HALVES & set(there)), **case.attributes)
    fed = {name: Guarded(array) for name, array in there.items() if name not in constants}
    binding = operator.session.io_binding()
    for name, guarded in fed.items():
        kind = 16 if name in HALVES else guarded.array.dtype.type  # bf16 in ONNX
        binding.bind_input(name, "cpu", 0, kind, guarded.array.shape, guarded.array.ctypes.data)
    outs = []
    for i, (name, kind) in enumerate(operator.outputs.items()):
        if expected is None:
            binding.bind_output(name, "cpu")
            continue
        out = Guarded(np.full(expected[i].shape, 7, np.uint16 if kind == 16 else np.float32))
        binding.bind_output(name, "cpu", 0, 16 if kind == 16 else np.float32, out.array.shape, out.array.ctypes.data)
        outs.append(out)
    operator.session.run_with_iobinding(binding)
    for guarded in (*fed.values(), *outs):
        guarded.check()
    return [wide(out.array) if out.array.dtype == np.uint16 else out.array for out in outs]


def check(case: Case) -> bool:
    """Whether it was taken."""
    try:
        assert all(case.inputs[name] is None for name in case.fed)
        expected = operator_numpy.outputs(case.op, case.inputs, case.attributes, set(ATTRIBUTES[case.op]))
    except (RefusedError, AssertionError, AttributeError):  # no attribute of None: a required input is missing
        expected = None
    try:
        got = run(case, expected)
    except Exception as error:
        assert expected is None, f"refused, and fits: {error}"
        words = "|".join((*case.inputs, *ATTRIBUTES[case.op], *MORE[case.op]))
        clear = re.search(rf"flagdit\.{case.op}: ({words})\b[^:]*(: \w+)?: got .+, allowed .+", str(error))
        assert clear or case.structural, str(error)
        return False
    assert expected is not None, "taken, and does not fit"
    for out, want in zip(got, expected, strict=True):
        if out.size:
            assert np.isfinite(out).all()
            assert np.abs(out - want).max() < 0.1 * max(float(np.abs(want).max()), 0.1)
    return True


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("op", ATTRIBUTES)
def test_any_call_is_refused_in_words_or_right(op: str, part: int) -> None:
    rng = rng_of(op, part)

    def said(case: Case) -> str:
        shapes = {name: None if x is None else x.shape for name, x in case.inputs.items()}
        return f"{shapes} {case.attributes} fed {case.fed}"

    check_cases(lambda: made(op, rng), check, said, least=8)


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    passes_without_tiles(__file__)
