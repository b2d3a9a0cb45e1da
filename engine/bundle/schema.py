"""The JSON schema of a manifest, from the classes that read one."""

from __future__ import annotations

from typing import Any

from flagdit.engine.bundle.manifest import Manifest


def manifest_schema() -> dict[str, Any]:
    """What `manifest.json` may hold; `$defs.ModelSpec` is what `model.json` may. What the fields mean: docs/bundle.md.

    It says less than is checked: that graphs fit each other, contract.py knows.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}
