"""What an ONNX file refers to outside itself, read from its bytes before a runtime sees them.

A runtime opens whatever path a graph names, so each is checked against the manifest first. This reads only as much of
protobuf as that takes: the fields that lead to tensors (onnx.proto3; a test compares them with the onnx package).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flagdit.engine.errors import BundleError

PARTS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
"""Of each message, the fields that tensors may be in, and the messages that these hold."""

DIMS, DATA_TYPE, NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 13, 14
"""Fields of a TensorProto."""

BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Of an element, by the number of its type."""

DEPTH = 64
"""Messages in messages, at most: graphs of flagdit.export have 5."""

MAX_RANK = 16
MAX_GRAPH_BYTES = (1 << 31) - 1
"""What protobuf allows of one message."""

Value = int | memoryview


class External(NamedTuple):
    """A tensor whose values are in another file."""

    tensor: str
    location: str
    offset: int
    length: int


class _MalformedError(ValueError):
    """No protobuf, or none that is read here."""


def external_tensors(file: str, content: bytes | memoryview) -> list[External]:
    """The tensors of a graph whose values are not in it. Reads nothing but `content`.

    Raises BundleError, by the name of the file, if it is no ONNX file, or if a tensor that is no weight of the graph
    (one of a node, a subgraph, a function) is elsewhere: flagdit.export writes none.
    """
    try:
        return list(_walk(memoryview(content), "ModelProto", "", 0))
    except _MalformedError as error:
        raise BundleError(f"{file}: {error}; export the model again") from None


def check_external(file: str, tensors: list[External], sizes: Mapping[str, int]) -> set[str]:
    """The names of the files that tensors are in, of which `sizes` has the bytes. Raises BundleError for any other."""
    for tensor in tensors:
        place = f"{file}: the values of {tensor.tensor!a} are in {tensor.location!a}"
        if tensor.location not in sizes:
            raise BundleError(f"{place}, which is no file of the bundle with a digest; export the model again")
        if tensor.offset + tensor.length > sizes[tensor.location]:
            raise BundleError(f"{place}, behind its end at {sizes[tensor.location]} bytes; export the model again")
    return {tensor.location for tensor in tensors}


def _walk(data: memoryview, kind: str, path: str, depth: int) -> Iterator[External]:
    if depth > DEPTH:
        raise _MalformedError(f"messages are nested more than {DEPTH} deep")
    for number, value in _fields(data):
        part = PARTS[kind].get(number)
        if part is None or isinstance(value, int):
            continue
        if part != "TensorProto":
            yield from _walk(value, part, f"{path}/{kind}", depth + 1)
        elif (external := _external(value)) is not None:
            if f"{path}/{kind}" != "/ModelProto/GraphProto":
                raise _MalformedError(f"a tensor of a node, {external.tensor!a}, has its values in another file")
            yield external


def _external(data: memoryview) -> External | None:
    """Where a TensorProto's values are, None if they are in it."""
    dims: list[int] = []
    kind, name, away, entries = 0, "", False, {}
    for number, value in _fields(data):
        if number == DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == NAME and not isinstance(value, int):
            name = _text(value)
        elif number == EXTERNAL_DATA and not isinstance(value, int):
            key, entry = _entry(value)
            if key in entries:
                raise _MalformedError(f"the tensor {name!a} has two {key!a}")
            entries[key] = entry
        elif number == DATA_LOCATION and isinstance(value, int):
            away |= bool(value & 0xFFFFFFFF)  # an enum has 32 bits
    return _described(name, dims, kind, entries=entries) if away or entries else None


def _described(name: str, dims: list[int], kind: int, *, entries: dict[str, str]) -> External:
    if not {"location", "offset", "length"} <= entries.keys() <= {"location", "offset", "length", "checksum"}:
        raise _MalformedError(f"the tensor {name!a} lacks location, offset or length, or has more than these")
    offset, length = _number(name, entries["offset"]), _number(name, entries["length"])
    if len(dims) > MAX_RANK:
        raise _MalformedError(f"the tensor {name!a} has {len(dims)} axes; allowed are {MAX_RANK}")
    if kind not in BYTES or math.prod(dims) * BYTES[kind] != length:
        raise _MalformedError(f"the tensor {name!a} of type {kind} and shape {dims} is said to have {length} bytes")
    return External(name, entries["location"], offset, length)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _MalformedError(f"the tensor {name!a} is at {text!a}, which is no place in a file")
    return int(text)


def _entry(data: memoryview) -> tuple[str, str]:
    """A StringStringEntryProto."""
    found = {1: "", 2: ""}
    for number, value in _fields(data):
        if number in found and not isinstance(value, int):
            found[number] = _text(value)
    return found[1], found[2]


def _text(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise _MalformedError("a name is not UTF-8") from None


def _packed(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of every field of a message; of numbers that have a fixed width, their bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, at = _varint(data, at)
        if (not size and wire != 2) or not number or key >> 32 or at + size > end:
            raise _MalformedError("no ONNX file, or a damaged one")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of 64 bits without a sign, and where the next one begins."""
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise _MalformedError("no ONNX file, or a damaged one")
