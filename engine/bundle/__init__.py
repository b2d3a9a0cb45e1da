"""What a bundle says: its specification. `reader` checks and opens one, `builder` makes one.

This package imports no layout and no preset, so that both can be told by a specification; `reader` does.
"""

from flagdit.engine.bundle.graph_spec import Graph, Graphs, Tensor
from flagdit.engine.bundle.manifest import SCHEMA_VERSION, Engine, File, Manifest, ModelSpec, Profile, ShiftByTokens
from flagdit.engine.bundle.preset_spec import CoarseSteps, Preset
from flagdit.engine.bundle.spec import Spec

__all__ = [
    "SCHEMA_VERSION",
    "CoarseSteps",
    "Engine",
    "File",
    "Graph",
    "Graphs",
    "Manifest",
    "ModelSpec",
    "Preset",
    "Profile",
    "ShiftByTokens",
    "Spec",
    "Tensor",
]
