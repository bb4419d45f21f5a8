"""ONNX Runtime Web comes from an unpacked npm package or from npm, and is the published one."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from lpt.commands.export.web import runtime
from lpt.commands.export.web.runtime import read_runtime
from lpt.errors import ConfigError
from static_host import require_runtime


def test_runtime_from_a_folder_is_compared_with_the_published_one(tmp_path: Path) -> None:
    require_runtime()
    with pytest.raises(ConfigError, match=r"no folder dist/ in it.*npm pack onnxruntime-web@"):
        read_runtime(tmp_path)
    half_written = shutil.ignore_patterns("*.lpt-tmp")  # another test may fetch it now
    shutil.copytree(runtime.cache_folder(), tmp_path / "package" / "dist", ignore=half_written)
    assert read_runtime(tmp_path) == read_runtime(tmp_path / "package") == read_runtime(None)
    script = tmp_path / "package" / "dist" / "ort.wasm.min.mjs"
    script.write_bytes(script.read_bytes() + b"\n")
    with pytest.raises(ConfigError, match=r"ort\.wasm\.min\.mjs is not that of onnxruntime-web@"):
        read_runtime(tmp_path)


def test_npm_that_is_missing_fails_or_gives_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match=r"npm, which would fetch it, is not installed\. Next: .*runtime"):
        read_runtime(None)
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.add(__file__, "package/dist/ort.wasm.min.mjs")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    for script, message in (
        ("echo npm error code E404 >&2; exit 1", "npm cannot fetch .*: npm error code E404"),
        (f"/bin/cp {tmp_path / 'other.tgz'} .", "npm fetched is not the published one"),
    ):
        npm.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        npm.chmod(0o755)
        with pytest.raises(ConfigError, match=message):
            read_runtime(None)
    assert not (tmp_path / "cache").exists()
