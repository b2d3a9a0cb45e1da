"""Engines of TensorRT and TensorRT-RTX as sessions, through NVIDIA's Python packages (docs/tensorrt.md)."""
