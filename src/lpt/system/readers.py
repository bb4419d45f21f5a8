"""Reader processes, and what to say when the system kills one or a script starts itself again in one."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from lpt.errors import RunError
from lpt.system.hardware import host_memory

_SHARED = "/dev/shm"
_SIGNS = (
    "DataLoader worker (pid",
    "unable to write to file </torch_",
    "unable to mmap",
    "unable to open shared memory",
)
_LACKS = (
    "MemoryError in DataLoader worker",
    "No space left on device",
    "Too many open files",
    "Cannot allocate memory",
)


@contextmanager
def lost_reader_explained(go_on: str) -> Iterator[None]:
    """Turn the loss of a reader process into an error that says why it may be, and how to go on.

    PyTorch notices it wherever the main process is just then, so the block is all the work, not only the reading.

    Args:
        go_on: a sentence on how the work goes on with fewer readers.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_lost_reader(error):
            raise
        lost = RunError(_message(error, go_on))
        lost.alone = True  # the other processes of a run have their readers
        raise lost from None


def is_lost_reader(error: BaseException) -> bool:
    """Return whether an error means that a reader process is gone, or that it had no memory to hand over an image."""
    text = str(error)
    in_reader = "DataLoader worker process" in text
    return any(sign in text for sign in _SIGNS) or (in_reader and any(sign in text for sign in _LACKS))


def refuse_second_start(name: str) -> None:
    """End a reader process that is about to do the work of the main one, because it imports a script without a guard.

    Where processes are spawned (macOS, Windows), a new one imports the user's script first.

    Args:
        name: the function that was called, for the message.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(
            f"{name} was called while a reader process imports your script, which would start everything a second "
            "time. Put the calls in a function and call it under a guard:\n\nif __name__ == '__main__':\n    main()\n"
        )


def _message(error: BaseException, go_on: str) -> str:
    reason = next((line for line in reversed(str(error).strip().splitlines()) if line), type(error).__name__)
    guard = ""
    if multiprocessing.get_start_method(allow_none=True) not in (None, "fork"):
        guard = " If a script calls lpt, its calls must stand under `if __name__ == '__main__':`."
    return (
        f"a process that reads images was lost ({reason}). Most often memory ran out and the system killed it: "
        f"{host_memory() / 2**30:.1f} GiB are free now{_shared_memory()}.{guard} {go_on}"
    )


def _shared_memory() -> str:
    """Return a clause on the memory that readers hand images over in; empty where there is none such."""
    try:
        usage = shutil.disk_usage(_SHARED)
    except OSError:
        return ""
    return (
        f", and {usage.free / 2**30:.2f} of {usage.total / 2**30:.2f} GiB of {_SHARED}, in which readers hand images "
        "over (in Docker it grows with --shm-size=8g)"
    )
