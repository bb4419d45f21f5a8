"""Packs on the Hugging Face Hub: `hf://OWNER/NAME[@REVISION]` in place of a folder, and pushing a pack there.

The functions of huggingface_hub do the transfer. They obey `HF_ENDPOINT`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`, and use
the token of the machine; lpt never prints it. What is downloaded is read as strictly as any pack.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lpt.errors import ConfigError, LptError, PackError, RunError
from lpt.system.owned import PACK_FILES
from lpt.system.text import plural, shorten
from lpt.system.threads import in_passing_thread

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

SCHEME = "hf://"
FORM = f"{SCHEME}OWNER/NAME, or {SCHEME}OWNER/NAME@REVISION with a branch, a tag or a commit"
_NEEDED = PACK_FILES[:2]
_HUBS_OWN = (".gitattributes",)
_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w.][\w./-]{0,199}", re.ASCII)
_LOG_IN = "log in (hf auth login), or set HF_TOKEN"
_SECRET = re.compile(r"(Bearer\s+)[^\s'\"]+|\bhf_\w{6,}")
_LONGEST = 300


class Address(NamedTuple):
    """The place of a pack on the hub.

    Args:
        repository: `owner/name`.
        revision: branch, tag or commit; None: the branch main.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def name(self) -> str:
        """The name of the repository without its owner."""
        return self.repository.partition("/")[2]


class Fetched(NamedTuple):
    """A pack in the local cache of the hub: its folder, and its address with the commit."""

    folder: Path
    address: Address


class Pushed(NamedTuple):
    """A pushed pack: its address with the commit, the page of the commit, and whether the repository is new."""

    address: Address
    url: str
    is_new: bool


def is_address(pack: object) -> bool:
    """Return whether a pack is given as an address on the hub."""
    return isinstance(pack, str) and pack.startswith(SCHEME)


def parse_address(text: str) -> Address:
    """Return the repository and the revision of an address.

    Raises:
        PackError: it has another form.
    """
    repository, at, revision = text.removeprefix(SCHEME).partition("@")
    if not is_repository(repository) or (at and not _REVISION.fullmatch(revision)):
        raise PackError(f"{text!r} is no address of a pack on the hub. Accepted: {FORM}")
    return Address(repository, revision or None)


def is_repository(text: str) -> bool:
    """Return whether a text has the form `owner/name` that the hub accepts."""
    return _REPOSITORY.fullmatch(text) is not None and not text.endswith(".git")


def fetch(pack: str) -> Fetched:
    """Return a pack of the hub from the local cache; what is not there is downloaded.

    Args:
        pack: its address.

    Raises:
        PackError: the address is wrong, the hub has no such pack, or it cannot be reached and the cache has none.
    """
    from huggingface_hub import constants, snapshot_download

    address = parse_address(pack)
    try:
        cached = in_passing_thread(  # so that Ctrl-C need not wait for its threads, which the network may hold up
            lambda: snapshot_download(address.repository, revision=address.revision, allow_patterns=list(PACK_FILES))
        )
    except Exception as error:  # the hub, the network and the disk raise many kinds of errors
        raise PackError(_fetching_failed(address, error)) from None
    folder = Path(cached)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        partly = f", or only a part of it is in the cache {constants.HF_HUB_CACHE}" if constants.HF_HUB_OFFLINE else ""
        raise PackError(
            f"{address} is no pack: there is no {' and no '.join(missing)} in it{partly}. A repository that lpt push "
            f"wrote has {', '.join(PACK_FILES)}."
        )
    return Fetched(folder, address._replace(revision=folder.name))


def pinned(pack: str | Path) -> str | Path:
    """Return the address of a pack with the commit that it has now, so that several processes read the same pack.

    A folder is returned as it is.

    Raises:
        PackError: as for `fetch`.
    """
    return str(fetch(pack).address) if isinstance(pack, str) and is_address(pack) else pack


def damage_advice(fetched: Fetched) -> str:
    """Return what to do about a pack in the cache that cannot be read."""
    return (
        f"It is the pack {fetched.address}, in the cache of the hub. If it was damaged there, delete the folder "
        f"{fetched.folder.parent.parent} and give the same command again: it is downloaded again. If that does not "
        "help, it is so on the hub: ask its owner, or give another revision."
    )


def push_files(files: Mapping[str, bytes | Path], repository: str, *, private: bool = False) -> Pushed:
    """Write the files of a pack into a repository of the hub, in one commit; a missing repository is made.

    Args:
        files: content, or the file that holds it, by name.
        repository: `owner/name`.
        private: make the repository private, if it is new.

    Raises:
        ConfigError: the repository's name has another form.
        RunError: there is no token, the hub refuses it or cannot be reached, or the repository holds something else.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    repository = repository.removeprefix(SCHEME)
    if not is_repository(repository):
        raise ConfigError(f"{repository!r} is no name of a repository on the hub. Accepted: OWNER/NAME, as in me/birds")
    if constants.HF_HUB_OFFLINE:
        raise RunError(f"cannot push to {repository}: HF_HUB_OFFLINE is set. Unset it, then give the command again.")
    try:
        if get_token() is None:
            raise RunError(f"cannot push to {repository}: this machine has no token of the hub. Next: {_LOG_IN}.")
        api = HfApi()
        there = _repository(api, repository)
        if there is None:
            api.create_repo(repository, private=private or None)
        else:
            _check_repository(there, repository, private=private)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="Push a prompt pack with lpt",
            parent_commit=None if there is None else there.sha,  # never on top of what another has pushed meanwhile
        )
    except LptError:
        raise
    except Exception as error:  # the hub, the network and the disk raise many kinds of errors
        raise RunError(_pushing_failed(repository, error)) from None
    return Pushed(Address(repository, commit.oid), commit.commit_url, is_new=there is None)


def _repository(api: HfApi, repository: str) -> ModelInfo | None:
    """Return what the hub says about a repository; None if there is none that this token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        return None


def _check_repository(there: ModelInfo, repository: str, *, private: bool) -> None:
    """Raise `RunError` unless a repository holds nothing but a pack, and nobody sees it who should not."""
    names = {file.rfilename for file in there.siblings or ()} - {*_HUBS_OWN}
    others = sorted(names - ({*PACK_FILES} if PACK_FILES[0] in names else set()))  # a README.md alone is somebody's
    if others:
        raise RunError(
            f"{repository} holds {plural(len(others), 'file')} of no pack: {shorten(others)}. A repository of a "
            "pack holds nothing else. Give a new name, or remove these files on the hub yourself."
        )
    if private and not there.private:
        raise RunError(
            f"{repository} is there and is public; --private makes only a new repository private. Make it private in "
            "its settings on the hub first, or give a new name."
        )


def _fetching_failed(address: Address, error: Exception) -> str:
    from huggingface_hub import constants, errors

    repository, cache = address.repository, constants.HF_HUB_CACHE
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{address}: its owner grants access on request. Ask for it on {constants.ENDPOINT}/{repository}, then "
            f"{_LOG_IN}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{address}: the hub has no repository {repository}, or it is private and this machine has no token that "
            f"may read it. Check the name; for a private one, {_LOG_IN}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{address}: {repository} has no revision {address.revision or 'main'}. Give a branch, a tag or a commit "
            "that it has after @, or leave out @ and the revision."
        )
    if constants.HF_HUB_OFFLINE and isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return (
            f"{address} is not in the local cache {cache}, and HF_HUB_OFFLINE forbids to download it. Next: run once "
            "without HF_HUB_OFFLINE, or point HF_HUB_CACHE to a cache that has it."
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"{address} is not in the local cache {cache}, and the hub {constants.ENDPOINT} cannot be reached: "
            f"{_reason(error.__cause__ or error)}. Next: check the connection, or give a pack on this machine."
        )
    return f"{address} cannot be had: {_reason(error)}. {_next_step(error)}"


def _pushing_failed(repository: str, error: Exception) -> str:
    return f"cannot push to {repository}: {_reason(error)}. {_next_step(error)}"


def _next_step(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    advice: dict[int | None, str] = {
        401: f"The hub does not accept the token: {_LOG_IN}.",
        403: f"The token must have the right to do this: {_LOG_IN} with one that does, or give a name of your own.",
        409: "There is such a repository that this token may not see: give another name.",
        412: "Somebody else pushed at the same time: give the same command again.",
        429: "The hub asks to wait: give the same command again later.",
    }
    return advice.get(status, "Check the connection and the free space, then give the same command again.")


def _reason(error: BaseException) -> str:
    """Return the message of an error on one line, without anything that may be a token."""
    from huggingface_hub import get_token

    text = " ".join(str(error).split()) or type(error).__name__
    with contextlib.suppress(Exception):
        if token := get_token():
            for written in (token, ascii(token)[1:-1]):
                text = text.replace(written, "***")
    return _SECRET.sub(r"\1***", text)[:_LONGEST].rstrip(".")
