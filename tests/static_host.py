"""What the tests of static pages need: a plain host, and ONNX Runtime Web."""

from __future__ import annotations

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lpt.commands.export.web.runtime import read_runtime
from lpt.errors import ConfigError


class _Handler(SimpleHTTPRequestHandler):
    """A host that sets no header of use, and lets nothing be cached: what works offline, the page itself has kept."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Host:
    """A static host of a folder."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def skip_or_fail(reason: str) -> None:
    """Skip the test; fail where a browser is required."""
    pytest.fail(reason) if os.environ.get("LPT_REQUIRE_BROWSER") else pytest.skip(reason)


def require_runtime() -> None:
    """Check that ONNX Runtime Web is kept for this user, or that npm fetches it now."""
    try:
        read_runtime(None)
    except ConfigError as error:
        skip_or_fail(f"needs ONNX Runtime Web: {error}")
