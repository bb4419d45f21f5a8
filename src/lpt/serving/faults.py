"""The errors that the server answers with: a status, a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLIENT_GONE = 499
"""What logs and metrics say where the client left before its answer; nothing is sent."""
CODES = {
    400: "malformed_request",
    401: "token_missing",
    403: "foreign_origin",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "too_large",
    415: "unknown_content_type",
    421: "unknown_host",
    422: "not_accepted",
    429: "busy",
    500: "server_error",
    503: "stopping",
    504: "timeout",
}


class Fault(Exception):  # noqa: N818  (most are faults of the request)
    """A request that is not answered.

    Args:
        status: of the response.
        message: what was given, what is accepted, what to do next.
        code: for programs; None: the usual one of the status.
        headers: of the response.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.code = code or CODES.get(status, "error")
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the answer as it is sent."""
        return {"error": {"status": self.status, "code": self.code, "message": self.message, "request_id": request_id}}


def too_many_images(count: int, most: int) -> Fault:
    """Return the fault of a request with more images than are accepted."""
    return Fault(
        413, f"{count} images; at most {most} are accepted in a request. Send several.", code="too_many_images"
    )
