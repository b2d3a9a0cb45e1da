"""Graphs -> engines, for TensorRT-RTX ahead of time and for TensorRT on the device that will run them."""

from flagdit.engine.compiler.build_rtx import build_rtx, check_architectures
from flagdit.engine.compiler.build_tensorrt import build_tensorrt
from flagdit.engine.compiler.engines import BuildOptions, BuiltEngine
from flagdit.engine.compiler.profiles import Limits

__all__ = ["BuildOptions", "BuiltEngine", "Limits", "build_rtx", "build_tensorrt", "check_architectures"]
