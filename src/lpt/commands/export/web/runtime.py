"""ONNX Runtime Web, which runs the network in a browser: from an unpacked npm package, or fetched with npm."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from lpt.errors import ConfigError, RunError
from lpt.system.files import read_regular, write_bytes
from lpt.system.packages import install_command

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Digest of the npm package, as the registry states it."""
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files of the package that a page needs, in its folder dist/, with their sha256."""
_LICENCES = {"LICENSE": "onnxruntime-LICENSE.txt", "ThirdPartyNotices.txt": "onnxruntime-notices.txt"}
_NPM_SECONDS = 600
_NEXT = (
    f"Next: run `npm pack {PACKAGE}` where npm and a network are, unpack the file that it writes (tar xzf), and give "
    "its folder package/ with --runtime FOLDER"
)


def read_runtime(folder: Path | None) -> dict[str, bytes]:
    """Return the files of ONNX Runtime Web by their names in a page, licences included.

    Scripts are named `.js`: many hosts send `.mjs` with a type that browsers refuse.

    Args:
        folder: an unpacked npm package of `VERSION`; None: fetch it with npm, once for each user.

    Raises:
        ConfigError: the folder is not that package, or npm cannot fetch it.
    """
    files = _kept() if folder is None else _given(folder)
    return {name.replace(".mjs", ".js"): content for name, content in files.items()} | _licences()


def cache_folder() -> Path:
    """Return the folder in which fetched files are kept for this user."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lpt" / PACKAGE


def _given(folder: Path) -> dict[str, bytes]:
    """Read the files out of an unpacked package."""
    dist = next((place for place in (folder / "dist", folder / "package" / "dist") if place.is_dir()), None)
    if dist is None:
        raise ConfigError(
            f"--runtime {folder}: there is no folder dist/ in it; the unpacked npm package {PACKAGE} is accepted. "
            f"{_NEXT}"
        )
    files: dict[str, bytes] = {}
    for name, sha256 in FILES.items():
        try:
            files[name] = read_regular(dist / name)
        except OSError as error:
            raise ConfigError(f"--runtime {folder}: {dist / name}: {error.strerror}. {_NEXT}") from None
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            raise ConfigError(
                f"--runtime {folder}: {dist / name} is not that of {PACKAGE}, with which lpt is tested. {_NEXT}"
            )
    return files


def _kept() -> dict[str, bytes]:
    """Return the files that are kept for this user; fetch them if one is missing or damaged."""
    folder = cache_folder()
    with contextlib.suppress(OSError):
        files = {name: read_regular(folder / name) for name in FILES}
        if all(hashlib.sha256(files[name]).hexdigest() == sha256 for name, sha256 in FILES.items()):
            return files
    files = _fetch()
    with contextlib.suppress(RunError):  # then they are fetched again next time
        for name, content in files.items():
            write_bytes(folder / name, content)
    return files


def _licences() -> dict[str, bytes]:
    """Return the licence of ONNX Runtime and the notices of what it contains, which the npm package lacks."""
    spec = find_spec("onnxruntime")
    place = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path("onnxruntime")
    try:
        return {name: read_regular(place / file) for file, name in _LICENCES.items()}
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}. The page needs the licence that comes with the Python package "
            f"onnxruntime. Next: {install_command('export')}, with onnxruntime from PyPI"
        ) from None


def _fetch() -> dict[str, bytes]:
    """Return the files of the package, fetched with npm from the registry that it is set to."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"the page needs {PACKAGE}, and npm, which would fetch it, is not installed. {_NEXT}")
    with tempfile.TemporaryDirectory(prefix="lpt-") as scratch:
        _run_npm(npm, scratch)
        archives = list(Path(scratch).glob("*.tgz"))
        if len(archives) != 1:
            raise ConfigError(f"npm pack {PACKAGE} wrote no package. {_NEXT}")
        digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise ConfigError(f"the {PACKAGE} that npm fetched is not the published one (sha512-{digest}). {_NEXT}")
        with tarfile.open(archives[0]) as archive:  # nothing is unpacked to the disk
            return {name: _member(archive, f"package/dist/{name}") for name in FILES}


def _run_npm(npm: str, folder: str) -> None:
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--loglevel=error", f"--pack-destination={folder}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_NPM_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"npm cannot fetch {PACKAGE}: {error}. {_NEXT}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ConfigError(f"npm cannot fetch {PACKAGE}: {'; '.join(lines[:3]) or f'exit {done.returncode}'}. {_NEXT}")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # its digest was compared
    return file.read()
