"""Commands that use a finished pack, started in several processes by torchrun or `accelerate launch`."""

from __future__ import annotations

import os

import torch

from lpt.hardware import cores_here
from lpt.processes import ALONE, Processes, several_started


def launched(device: str) -> Processes:
    """The processes that a launcher started, each with its card and its part of the cores; `ALONE` without one.

    They only exchange results and words, so that they are connected through gloo on cards too: it notices at once when
    a process dies.
    """
    if not several_started():
        return ALONE
    processes = Processes.started(on_cpu=True)
    torch.set_num_threads(cores_here())  # torchrun's default is 1
    if device in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return processes
