"""Drivers connect to the cluster that RAY_ADDRESS names, or say why not."""

from __future__ import annotations

import socket

import pytest

from lpt.errors import RunError


@pytest.mark.parametrize("form", ["no address", "127.0.0.1:{port}"])
def test_a_wrong_address_is_refused_at_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself raises a ValueError at the one, and tries for minutes at the other."""
    pytest.importorskip("ray")
    from lpt.system.cluster import connected

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
        address = form.format(port=closed.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RunError, match=rf"Ray cluster {address} does not answer: .*ray start"), connected():
            pass
