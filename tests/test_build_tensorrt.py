"""What of building for TensorRT needs neither TensorRT nor a GPU: the device check, progress, the layer report."""

import ctypes
from pathlib import Path

import pytest

from flagdit.engine.bundle.builder import read_model
from flagdit.engine.compiler.build_tensorrt import build_tensorrt, check_device
from flagdit.engine.compiler.engines import BuildOptions
from flagdit.engine.compiler.hooks import Phases
from flagdit.engine.compiler.layers import LayerReport, read_layers
from flagdit.engine.errors import BackendError, BuildError
from flagdit.engine.tensorrt import driver

LOG = """Name: a_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0
Name: _gemm_mha_v2_myl0_1, LayerType: kgen, Inputs: [ { Name: q }], TacticName: _gemm_mha_v2_0x88d7, StreamId: 0
Name: node_linear_myl0_2, LayerType: gemm, Inputs: [ { Name: x }], TacticName: __myelin_CASK_STUB, StreamId: 0
Name: b_myl0_3, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 1
Total Activation Memory: 9311744 bytes
Total Weights Memory: 212992 bytes
"""


class Driver:
    """A CUDA driver of `devices` devices of compute capability 8.7; `status` is what cuInit returns."""

    def __init__(self, devices: int = 1, status: int = 0) -> None:
        self.devices, self.status = devices, status

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, out: "ctypes._CArgObject") -> int:  # noqa: N802
        return self._write(out, self.devices)

    def cuDeviceGet(self, out: "ctypes._CArgObject", _ordinal: int) -> int:  # noqa: N802
        return self._write(out, 0)

    def cuDeviceGetAttribute(self, out: "ctypes._CArgObject", attribute: int, _device: int) -> int:  # noqa: N802
        return self._write(out, {driver.MAJOR: 8, driver.MINOR: 7}[attribute])

    def _write(self, out: "ctypes._CArgObject", value: int) -> int:
        out._obj.value = value
        return 0


def missing(_name: str) -> Driver:
    raise OSError("cannot open shared object file")


def test_the_architecture_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver())
    assert driver.device_architecture("a test", "do without") == 87


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (missing, r"needs a CUDA device, and no NVIDIA driver is installed here; build on the device that will run"),
        (lambda _: Driver(status=100), r"needs a CUDA device; the NVIDIA driver says cuInit: error 100; build on"),
        (lambda _: Driver(devices=0), r"needs a CUDA device, and the NVIDIA driver finds none; build on the device"),
    ],
    ids=["no driver", "driver fails", "no device"],
)
def test_without_a_device_nothing_is_written(
    load: object, message: str, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(BackendError, match=r"^building a TensorRT engine " + message):
        build_tensorrt(
            model_dir, read_model(model_dir), tmp_path, options=BuildOptions(), progress=lambda _name, _fraction: None
        )
    assert not list(tmp_path.iterdir())


def test_fp8_needs_a_device_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Orin, compute capability 8.7, has int8."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver())
    assert check_device(BuildOptions(precision="int8")) == 87
    with pytest.raises(
        BuildError, match=r"^sm 87 has no fp8, which begins with sm 89 \(Ada\); choose int8 or float16$"
    ):
        check_device(BuildOptions(precision="fp8"))


def test_layers_that_launch_nothing_are_not_kernels() -> None:
    assert read_layers(LOG) == LayerReport(
        kernels=2, fused_attentions=1, activation_bytes=9311744, weights_bytes=212992, products=1, low_products=0
    )


def test_products_of_int8_and_fp8_are_told_by_what_they_read() -> None:
    line = "Name: {}, LayerType: {}, Inputs: [ {{ Name: x, Datatype: {} }}], TacticName: , StreamId: 0\n"
    layers = [("a", "gemm", "Int8"), ("b", "gemm", "FP8"), ("c", "gemm", "Half"), ("d", "kgen", "Int8")]
    report = read_layers("".join(line.format(*layer) for layer in layers))
    assert report is not None
    assert (report.products, report.low_products) == (3, 2)


def test_a_log_without_layers_has_no_report() -> None:
    assert read_layers("Total Weights Memory: 212992 bytes") is None


def test_a_phase_counts_in_the_step_of_its_parent() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    phases.step("build", 0)
    assert phases.fraction == 0.25
    phases.start("tactics", "build", 2)
    phases.step("tactics", 0)
    assert phases.fraction == pytest.approx(0.25 + 0.25 / 2)
    phases.finish("tactics")
    phases.start("tactics", "build", 8)
    phases.step("tactics", 0)
    assert phases.fraction == pytest.approx(0.25 + 0.25 / 2)  # it started again; progress does not go back
    phases.step("build", 3)
    assert phases.fraction == 1.0
