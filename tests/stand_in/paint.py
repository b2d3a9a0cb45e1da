"""A run of the demo on a GPU that is a stand-in: two pictures, a line in its log where each step begins.

    python tests/stand_in/paint.py RUNTIME PRESET    # RUNTIME: libonnxruntime.so of onnxruntime-gpu

Prints the reports, as JSON. With FAULT=..., something is done that the log must show.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

from flagdit.cpp_ext import OnnxRuntime
from flagdit.engine import Pipeline, session
from flagdit.engine.request import Request
from flagdit.engine.resolve import Options
from flagdit.engine.run import Run

cudart = ctypes.CDLL("libcudart.so.13")


def log(text: str) -> None:
    cudart.stand_in_log(text.encode())


def faulty(fault: str | None) -> None:
    """What a step must not do."""
    if fault == "allocate":
        cudart.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(256))
    elif fault == "wait":
        cudart.cudaDeviceSynchronize()
    elif fault == "pageable":
        there = ctypes.c_void_p()
        cudart.cudaMalloc(ctypes.byref(there), ctypes.c_size_t(8))
        here = ctypes.create_string_buffer(8)
        cudart.cudaMemcpyAsync(there, here, ctypes.c_size_t(8), 4, None)


def main(runtime: str, preset: str) -> None:
    onnxruntime = OnnxRuntime(runtime)
    session.onnxruntime = lambda: onnxruntime
    pipeline = Pipeline.load("demo", device="cuda")
    reports = []
    for picture in range(2):
        said = Options(preset=preset)
        request = Request.of(pipeline.resolve(said), ["a red apple"], [picture], guidance=4.0, options=said)
        run = Run(pipeline.stages, request)
        core = run._begin()
        log(f"begin {picture}")
        for step in run._steps(core):
            if picture == 1 and step.step.index == 3:
                faulty(os.environ.get("FAULT"))
            log(f"after {picture} {step.step.index}")
        reports.append(json.loads(run.result().report.model_dump_json()))
    print(json.dumps(reports))


main(sys.argv[1], sys.argv[2])
