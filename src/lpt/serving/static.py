"""The files of the page: read once, served from memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No other host is asked, and no script or style stands in the page itself."""
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""The kinds of files that are served."""


@dataclass(frozen=True)
class StaticFile:
    """A file of the page.

    Args:
        content: its bytes.
        media_type: its type.
        etag: changes with the content.
    """

    content: bytes
    media_type: str
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {"ETag": self.etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}


def page_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """Return the files of the page by their paths on the server; index.html is `/`."""
    files: dict[str, StaticFile] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in _TYPES and file.is_file():
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            path = "/" if file.name == "index.html" else f"/{file.name}"
            files[path] = StaticFile(content, _TYPES[file.suffix], etag)
    return files
