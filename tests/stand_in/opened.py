"""Which graphs of model directories ONNX Runtime's CUDA provider takes whole.

    python tests/stand_in/opened.py LIBONNXRUNTIME DIRECTORY...

Prints what is wrong with each graph that it does not take, and nothing otherwise. Those that have no convolution, for
which the provider needs cuDNN, are run, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from flagdit.cpp_ext import OnnxRuntime
from flagdit.engine import session
from flagdit.engine.session import GraphFile, open_session

SIZES = {"A": 12, "M": 4, "R": 2, "T": 9, "S": 3, "N": 16, "B": 1, "H": 6, "W": 8, "Y": 24, "X": 32}
GRAPHS = ("condition", "denoise", "decode", "encode")

runtime = OnnxRuntime(sys.argv[1])
session.onnxruntime = lambda: runtime
for directory in map(Path, sys.argv[2:]):
    texts = {"clip_l": 77, "clip_g": 77, "t5": 256}
    for name in GRAPHS:
        graph = json.loads((directory / "model.json").read_text())["graphs"][name]
        try:
            opened = open_session(GraphFile.beside(directory / graph["file"]), device="cuda")
            sizes = {**SIZES, "T": texts.get(opened.ports[1].name, SIZES["T"])} if name == "condition" else SIZES
            given = {
                port.name: np.ones([axis if isinstance(axis, int) else sizes[axis] for axis in port.axes], port.dtype)
                for port in opened.ports
                if not port.output
            }
            if name in ("decode", "encode"):
                continue
            made = opened.run(given)
            assert made.keys() == {port.name for port in opened.ports if port.output}
        except Exception as error:
            print(f"{directory.name}: {name}: {error}")
