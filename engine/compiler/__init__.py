"""Graphs -> engines: for ONNX Runtime on GPUs and CPUs, TensorRT-RTX ahead of time, TensorRT on its own device."""

from flagdit.engine.compiler.build_cpu import CPU_PRECISIONS, CpuPrecision, build_cpu, check_int8
from flagdit.engine.compiler.build_cuda import build_cuda
from flagdit.engine.compiler.build_rtx import build_rtx, check_architectures
from flagdit.engine.compiler.build_tensorrt import build_tensorrt
from flagdit.engine.compiler.cuda_graph import CudaPrecision
from flagdit.engine.compiler.engines import BuildOptions, BuiltEngine, check_engines
from flagdit.engine.compiler.profiles import Limits

__all__ = [
    "CPU_PRECISIONS",
    "BuildOptions",
    "BuiltEngine",
    "CpuPrecision",
    "CudaPrecision",
    "Limits",
    "build_cpu",
    "build_cuda",
    "build_rtx",
    "build_tensorrt",
    "check_architectures",
    "check_engines",
    "check_int8",
]
