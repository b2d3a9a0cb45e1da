"""From a bundle to a picture, with region-adaptive sampling. Needs neither torch nor a GPU."""

from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import (
    BackendError,
    BuildError,
    BundleError,
    FlagditError,
    NumberError,
    OutputError,
    RequestError,
)
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.presets import PRESETS, Preset
from flagdit.engine.ras import DENSE, RasConfig, Solver
from flagdit.engine.report import Report, StepReport
from flagdit.engine.request import Request
from flagdit.engine.result import Preview, Result
from flagdit.engine.run import Run
from flagdit.engine.skip_layers import SkipLayerGuidance

__all__ = [
    "DENSE",
    "PRESETS",
    "BackendError",
    "BuildError",
    "Bundle",
    "BundleError",
    "Coarse",
    "FlagditError",
    "NumberError",
    "OutputError",
    "Pipeline",
    "Plan",
    "Preset",
    "Preview",
    "RasConfig",
    "Report",
    "Request",
    "RequestError",
    "Result",
    "Run",
    "SkipLayerGuidance",
    "Solver",
    "StepReport",
    "make_plan",
]
