"""Vectors that an engine of `denoise` is tried with before it is used: a file of the bundle, named in its manifest.

Compilers of engines have bugs that give wrong numbers and no error. So a bundle with engines for GPUs has inputs of a
small picture, and what the exported graph made of them in fp32 on a CPU.

Letters: N tokens of the test, A active and M cached ones of a case, R rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Port, selftest_cases
from flagdit.engine.bundle.manifest import Engine
from flagdit.engine.bundle.ports import FLOATS, is_text

SELFTEST = "selftest.safetensors"
KEPT = 3
"""Slots of a cache's head that are compared."""
Array = npt.NDArray[Any]
TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}


class Case(NamedTuple):
    """A call with `active` and `cached` tokens of `rows` rows.

    rests: above 0 without a text, where one may rest; caches that no text adds to have so many tokens less.
    """

    active: int
    cached: int
    rows: int
    rests: int

    @property
    def name(self) -> str:
        return f"A{self.active}.M{self.cached}.R{self.rows}" + (".T0" if self.rests else "")


CASES = tuple(Case(*sizes) for sizes in selftest_cases())


@dataclass(frozen=True)
class SelfTest:
    """inputs: all tokens', rows' and layers', whose values float16 holds. expected: by a case, then by an output."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Mapping[str, Array]]

    def given(self, ports: list[Port], case: Case) -> dict[str, Array]:
        """What the exported graph takes in a case."""
        adds = {port.name.replace("_text", "_tail") for port in ports if port.output and port.axes[:1] == ["T"]}
        own = case._replace(cached=case.cached - case.rests)
        return {
            p.name: cut(self.inputs[p.name], list(p.axes), case if p.name in adds else own)
            for p in ports
            if not p.output
        }


def cut(values: Array, axes: list[int | str], case: Case) -> Array:
    """The part of an input that is of a case: A of the first tokens, M of those behind them, R of the first rows, and
    of a text that rests no token but the biases of those that are cached.
    """
    sizes = {"A": slice(case.active), "M": slice(case.active, case.active + case.cached), "R": slice(case.rows)}
    if case.rests:
        sizes["T"] = slice(0 if is_text(axes) else case.rests)
    return np.ascontiguousarray(values[tuple(sizes.get(str(axis), slice(None)) for axis in axes)])


def needs_selftest(engine: Engine) -> bool:
    """Whether an engine is made by a compiler that may be wrong, or runs where nothing of it was tried."""
    return engine.target != "onnxruntime"


def write_selftest(path: Path, selftest: SelfTest) -> None:
    """Write the vectors, inputs as float16 where that holds them."""
    tensors = {f"input.{name}": _stored(value) for name, value in selftest.inputs.items()}
    for case, outputs in selftest.expected.items():
        tensors |= {f"{case}.{name}": np.asarray(value, "<f4") for name, value in outputs.items()}
    names, offset, header = {dtype: name for name, dtype in TYPES.items()}, 0, {}
    for name, value in tensors.items():
        ends = [offset, offset + value.nbytes]
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": ends}
        offset = ends[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(value.tobytes() for value in tensors.values()))


def _stored(value: Array) -> Array:
    half = value.astype("<f2") if str(value.dtype) in FLOATS else value
    return half if np.array_equal(half.astype(value.dtype), value) else value
