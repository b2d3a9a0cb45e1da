"""Engines of the fake of NVIDIA's bindings (fake_bindings.py): graphs with weights, and what every object knows."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

HEAD = struct.Struct("<4sQ20s?31x")  # magic, bytes, version, whether its memory is the user's: 64 bytes


def plan_of(
    graph: bytes,
    version: str,
    architectures: tuple[int, ...],
    ports: list[tuple[str, str, tuple[int, ...], bool]],
    profiles: list[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]],
    *,
    user_allocation: bool = True,
) -> bytes:
    """The bytes of an engine. ports: name, dtype, shape with -1 for open axes, whether it is an output."""
    about = json.dumps({"sm": architectures, "ports": ports, "profiles": profiles}).encode()
    size = HEAD.size + 8 + len(about) + len(graph)
    return HEAD.pack(b"fake", size, version.encode(), user_allocation) + struct.pack("<Q", len(about)) + about + graph


class Plan:
    """What an engine's contexts share."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        _, _, version, self.user_allocation = HEAD.unpack(content[: HEAD.size])
        (length,) = struct.unpack_from("<Q", content, HEAD.size)
        begin = HEAD.size + 8
        about = json.loads(content[begin : begin + length])
        self.version, self.graph, self.sm = version.rstrip(b"\0").decode(), content[begin + length :], about["sm"]
        self.ports = {name: SimpleNamespace(dtype=d, shape=tuple(s), output=o) for name, d, s, o in about["ports"]}
        self.profiles = about["profiles"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def bytes_of(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Of scratch memory for inputs of these shapes: more for more active tokens."""
        return 1024 + 64 * int(np.prod(shapes["tokens"]))


def enumeration(name: str, members: str) -> Any:
    made = IntEnum(name, members, start=0)  # type: ignore[misc]
    made.__str__ = lambda self: f"{name}.{self.name}"
    return made


class ILogger:
    """What a program derives its own logger from."""

    Severity = enumeration("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class Fake:
    """What every object of a module knows."""

    def __init__(self, trt: Any) -> None:
        self._trt = trt

    def _no(self, why: str) -> bool:
        self._trt.log.log(ILogger.ERROR, f"fake: {why}\nin a file of NVIDIA's")
        return False

    def _must(self, holds: bool, rule: str) -> bool:
        if not holds:
            self._trt.broken.append(rule)
        return holds
