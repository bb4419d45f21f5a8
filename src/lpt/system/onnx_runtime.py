"""ONNX Runtime without its telemetry: import it from here only.

Official builds from 1.29 on send events to their makers unless this variable is set before the import. They also leave
an identifier of the machine in the user's cache.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # type: ignore[import-untyped]

__all__ = ["onnxruntime"]
