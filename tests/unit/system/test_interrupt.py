"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal

import pytest

from lpt.system.interrupt import stop_on_signal


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_closed_terminal_asks_however_often() -> None:
    """A shell that ends sends SIGHUP twice: neither ends the run before it has saved."""
    before = signal.getsignal(signal.SIGHUP)
    with stop_on_signal() as request:
        send(signal.SIGHUP)
        assert request.requested
        send(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is before


def test_nohup_is_heeded() -> None:
    """What was ignored before stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as request:
            send(signal.SIGHUP)
            assert not request.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_takes_effect() -> None:
    """The first asks, the second interrupts as usual."""
    with stop_on_signal() as request:
        send(signal.SIGINT)
        assert request.requested
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
