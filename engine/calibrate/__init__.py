"""Finding the plans that suit a model: times, weights of steps and regions, by what they do to its own pictures."""

from flagdit.engine.calibrate.plans import NAMES, Calibration, check_requests, merged, name_of, split

__all__ = ["NAMES", "Calibration", "check_requests", "merged", "name_of", "split"]
