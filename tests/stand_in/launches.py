"""What a graph of `denoise` asks of a GPU in one call, over the stand-in for CUDA: a line for each kernel, as JSON.

    python tests/stand_in/launches.py LIBONNXRUNTIME GRAPH A M R T [rests]

rests: the text is no part of the call, and in the caches. STAND_IN_LOG says where the stand-in writes. Nothing is
computed.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from flagdit.cpp_ext import OnnxRuntime
from flagdit.engine.bundle.ports import is_text
from flagdit.engine.session import GraphFile, dtype_of

KERNEL = re.compile(r"launch (?:_ZN?(?:11onnxruntime)?)?(\S+)")


def main(library: str, path: str, a: str, m: str, r: str, t: str, *rests: str) -> None:
    graph, known = GraphFile.beside(Path(path)), {"A": int(a), "M": int(m), "R": int(r), "T": int(t)}
    session = OnnxRuntime(library).open(graph.name, graph.content, graph.data, 1, "float32", False, "cuda")
    adds = {port.name.replace("_text", "_tail") for port in session.ports if port.output and port.axes[0] == "T"}
    given = {}
    for port in session.ports:
        if port.output:
            continue
        shape = [known.get(str(axis), axis) for axis in port.axes]
        if rests and is_text(port.axes):
            shape[1] = 0
        elif rests and port.name in adds:
            shape[0] = known["M"] + known["T"]
        given[port.name] = np.zeros(shape, dtype_of(session, port.name))
    log = ctypes.CDLL("libcudart.so.13").stand_in_log
    for mark in (b"first", b"second", b"end"):
        log(mark)
        if mark != b"end":
            session.run(given)
    lines = Path(os.environ["STAND_IN_LOG"]).read_text().splitlines()
    call = lines[lines.index("second") + 1 : lines.index("end")]
    kernels = Counter(found[1] for line in call if (found := KERNEL.match(line)))
    copies = sum(line.startswith("copy pinned") for line in call)
    print(json.dumps({"launches": sum(kernels.values()), "pinned copies": copies, "kernels": dict(kernels)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
