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
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Port
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.manifest import Engine
from flagdit.engine.bundle.ports import FLOATS
from flagdit.engine.errors import BackendError, BundleError

SELFTEST = "selftest.safetensors"
KEPT = 3
"""Slots of a cache's head that are compared."""
TOLERANCE = {"float32": 2e-3, "float16": 1e-2, "bfloat16": 3e-2, "int8": 0.1, "int8-bf16": 0.1, "fp8": 0.15}
"""Of the root mean square of a difference over that of what is expected. In float32 products may be TF32 on a GPU."""

Array = npt.NDArray[Any]
TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}


class Case(NamedTuple):
    """A call with `active` and `cached` tokens of `rows` rows."""

    active: int
    cached: int
    rows: int

    @property
    def name(self) -> str:
        return f"A{self.active}.M{self.cached}.R{self.rows}"


CASES = (Case(12, 0, 2), Case(5, 7, 2), Case(4, 8, 1))


class Runs(Protocol):
    """What is asked of a session."""

    @property
    def name(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def ports(self) -> list[Port]: ...
    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]: ...


@dataclass(frozen=True)
class SelfTest:
    """inputs: all tokens', rows' and layers', whose values float16 holds. expected: by a case, then by an output."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Mapping[str, Array]]

    def given(self, ports: list[Port], case: Case) -> dict[str, Array]:
        """What a session takes in a case. Raises BundleError if the file has no values for an input."""
        made = {}
        for port in ports:
            if not port.output:
                if port.name not in self.inputs:
                    raise BundleError(f"{SELFTEST} has no values for {port.name}; build the bundle again")
                made[port.name] = narrowed(cut(self.inputs[port.name], list(port.axes), case), port.dtype)
        return made


def cut(values: Array, axes: list[int | str], case: Case) -> Array:
    """The part of an input that is of a case: A of the first tokens, M of those behind them, R of the first rows."""
    sizes = {"A": slice(case.active), "M": slice(case.active, case.active + case.cached), "R": slice(case.rows)}
    return np.ascontiguousarray(values[tuple(sizes.get(str(axis), slice(None)) for axis in axes)])


def narrowed(values: Array, dtype: str) -> Array:
    """Values in the type of a port; of bfloat16 its bits, rounded to even."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(values: Array, dtype: str) -> Array:
    """Values of a port as float32."""
    if dtype != "bfloat16":
        return np.asarray(values).astype(np.float32)
    return (np.asarray(values).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def check_session(session: Runs, selftest: SelfTest) -> None:
    """Raise BackendError unless a session of `denoise` makes of the vectors what it should, within its precision.

    Runs it once for each case. The error names graph, output and case, and says the difference and what is allowed.
    """
    allowed = TOLERANCE.get(session.precision, min(TOLERANCE.values()))
    types = {port.name: port.dtype for port in session.ports if port.output}
    for case in CASES:
        outputs = session.run(selftest.given(session.ports, case))
        for name, expected in selftest.expected[case.name].items():
            got = widened(outputs[name], types[name])[: len(expected)] if name in outputs else None
            if got is None or got.shape != expected.shape:
                raise BackendError(f"{session.name}: {name} of the self-test is missing or of another shape")
            difference = distance(got, expected)
            if not difference <= allowed:  # so that no number is refused, too
                raise BackendError(
                    f"{session.name} ({session.precision}) computes wrong numbers: {name} is {difference:.2g} off "
                    f"with {case.active} active and {case.cached} cached tokens in {case.rows} rows, allowed is "
                    f"{allowed:.2g}; build it again with another version or precision, or use --device cpu"
                )


def distance(got: Array, expected: Array) -> float:
    """Root mean square of the difference over that of what is expected."""
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(got - expected, dtype=np.float64)))) / max(size, 1e-12)


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


def read_selftest(content: bytes | memoryview) -> SelfTest:
    """The vectors of a file. Raises BundleError if it is none."""
    inputs: dict[str, Array] = {}
    expected: dict[str, dict[str, Array]] = {case.name: {} for case in CASES}
    try:
        start = 8 + int.from_bytes(content[:8], "little")
        header = parse_json(bytes(content[8:start]), Path(SELFTEST))
        for name, said in header.items():
            begin, end = (start + int(place) for place in said["data_offsets"])
            value = np.frombuffer(content[begin:end], TYPES[said["dtype"]]).reshape(said["shape"])
            kind, _, rest = name.partition(".")
            if kind == "input":
                inputs[rest] = value
            else:
                case = next(case for case in expected if name.startswith(f"{case}."))
                expected[case][name[len(case) + 1 :]] = value
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise BundleError(f"{SELFTEST}: no vectors of a self-test ({error}); build the bundle again") from None
    if not all(expected.values()):
        raise BundleError(f"{SELFTEST}: a case is missing; build the bundle again")
    return SelfTest(inputs, expected)


def _stored(value: Array) -> Array:
    half = value.astype("<f2") if str(value.dtype) in FLOATS else value
    return half if np.array_equal(half.astype(value.dtype), value) else value
