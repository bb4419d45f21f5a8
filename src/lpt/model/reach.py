"""Find out in bounded time whether the Hugging Face Hub answers, before its client is asked for a file.

The client tries a file that is not in the cache seven times, and waits up to 60 s for each address of the hub. On a
machine without a network that takes minutes.
"""

from __future__ import annotations

import time

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from lpt.system.threads import in_passing_thread

_WAITS = (1.0, 2.0)
"""Seconds before the second and the third request."""


class UnreachableError(OSError):
    """The hub does not answer."""


def is_cached(repository: str, file: str, revision: str) -> bool:
    """Return whether a file of a repository is in the local cache; an empty revision is the branch main."""
    return isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str)


def why_unreachable(repository: str, file: str, revision: str) -> UnreachableError | None:
    """Return why the hub cannot be reached; None if it answers, though it may refuse the file.

    A request may wait for `HF_HUB_ETAG_TIMEOUT` seconds, all together for twice as long.
    """
    most = 2 * constants.HF_HUB_ETAG_TIMEOUT
    try:
        in_passing_thread(lambda: _ask(repository, file, revision), seconds=most)
    except (HfHubHTTPError, HFValidationError):
        return None  # the client says more about it
    except TimeoutError:
        return _unreachable(f"it did not answer within {most:g} s (HF_HUB_ETAG_TIMEOUT={most / 2:g} allows twice that)")
    except Exception as error:  # of the network, of several libraries
        return _unreachable(str(error) or type(error).__name__)
    return None


def _ask(repository: str, file: str, revision: str) -> None:
    url = hf_hub_url(repository, file, revision=revision or None)
    for wait in (*_WAITS, None):
        try:
            get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except (HfHubHTTPError, HFValidationError):
            raise
        except Exception:
            if wait is None:
                raise
            time.sleep(wait)
        else:
            return


def _unreachable(reason: str) -> UnreachableError:
    return UnreachableError(f"the hub {constants.ENDPOINT} cannot be reached: {reason}")
