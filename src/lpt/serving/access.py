"""Who may ask: tokens, host names and other origins."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Set
from pathlib import Path
from urllib.parse import urlsplit

from lpt.errors import ConfigError
from lpt.serving.faults import Fault
from lpt.system.files import read_regular

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
EVERY_HOST = "*"
LEAST_TOKEN = 16
_MOST_TOKEN_BYTES = 4096


def read_token(file: Path) -> str:
    """Read a token from a file: its first line.

    Raises:
        ConfigError: the file cannot be read, or what it holds is no token.
    """
    try:
        content = read_regular(file)
    except OSError as error:
        raise ConfigError(f"--token-file {file}: cannot be read: {error.strerror or error}.") from None
    lines = content[:_MOST_TOKEN_BYTES].decode("ascii", "replace").split("\n")
    token = lines[0].strip()
    refuse_weak_token(token, f"--token-file {file}: its first line")
    return token


def refuse_weak_token(token: str, what: str) -> None:
    """Check that a text can be a token: long enough, and a header can hold it.

    Raises:
        ConfigError: it cannot.
    """
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{what} is no token. At least {LEAST_TOKEN} letters, digits and signs without spaces are accepted; make "
            "one with: openssl rand -hex 32"
        )


def check_token(headers: Mapping[str, str], token: str | None) -> None:
    """Check that a request has the token of the server, in constant time.

    Raises:
        Fault: 401.
    """
    if token is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Fault(
            401,
            "a token is needed: send the header Authorization: Bearer TOKEN.",
            code="token_wrong" if scheme else "token_missing",
            headers={"WWW-Authenticate": "Bearer"},
        )


def check_host(headers: Mapping[str, str], accepted: Set[str] | None) -> None:
    """Check the host name that a request was sent to, so that no page of another site reaches a local server.

    Args:
        headers: of the request.
        accepted: names without ports; None: all.

    Raises:
        Fault: 421.
    """
    if accepted is None:
        return
    if _host_name(headers.get("host", "")) not in accepted:
        raise Fault(
            421,
            "this server answers to the names of this machine only. Let a reverse proxy send it Host: localhost.",
        )


def check_origin(headers: Mapping[str, str]) -> None:
    """Check that no page of another site sent a request.

    Raises:
        Fault: 403.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign:
        raise Fault(403, "requests of pages of other sites are not accepted.")


def is_loopback(host: str) -> bool:
    """Return whether a host that is listened on is this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_name(host: str) -> str:
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]
