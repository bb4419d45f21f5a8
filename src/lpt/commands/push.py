"""`lpt push`: put a pack on the Hugging Face Hub."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from lpt.errors import PackError
from lpt.model.consent import options_for, refused_by_form
from lpt.packs.hub import SCHEME, Address, parse_address, push_files
from lpt.packs.pack import CARD_NAME, JSON_NAME, TENSORS_NAME, Pack, load_pack
from lpt.report.card import card_at
from lpt.system.files import read_regular
from lpt.system.text import size_of


def push(
    pack: str | Path | Pack,
    repository: str,
    *,
    private: bool = False,
    console: Console | None = None,
) -> str:
    """Put a pack into a repository of the hub: what `lpt push` does, from Python.

    The three files of the pack go there, in one commit: `hf://owner/name@commit` is its address. The token is that of
    the machine (`hf auth login`, `HF_TOKEN`).

    Args:
        pack: a pack, its folder, or a run folder that holds it.
        repository: `owner/name`. If there is none of this name, it is made.
        private: make a new repository private.
        console: where to report; None: silent.

    Returns:
        The address of the pack with the commit.

    Raises:
        PackError: the pack is missing or damaged.
        ConfigError: the repository's name has another form.
        RunError: the hub cannot be reached or refuses it, or the repository holds something else.
    """
    console = console or Console(quiet=True)
    loaded = pack if isinstance(pack, Pack) else load_pack(pack)
    address = str(Address(repository.removeprefix(SCHEME)))
    files: dict[str, bytes | Path] = {
        JSON_NAME: _content(loaded.path / JSON_NAME),
        TENSORS_NAME: loaded.path / TENSORS_NAME,
        CARD_NAME: _card(loaded, address),
    }
    pushed = push_files(files, repository, private=private)
    made = f"Made the {'private ' if private else ''}repository {pushed.address.repository}. " if pushed.is_new else ""
    console.print(f"{made}Pushed {size_of(loaded.stored_bytes)}: {pushed.url}", markup=False)
    console.print(f"Commit: {pushed.address}", markup=False)
    record = loaded.info.backbone
    options = options_for(record) if refused_by_form(record) else []
    command = shlex.join(["lpt", "predict", address, "IMAGE_OR_FOLDER", *options])
    console.print(f"Next: {command}", markup=False)
    if options:
        console.print("Whoever uses the pack needs these weights: they are not in it.", style="yellow")
    return str(pushed.address)


def _card(pack: Pack, address: str) -> bytes:
    """Return the card, in which the commands name the pack's place on the hub; the rest stays byte for byte."""
    try:
        card = _content(pack.path / CARD_NAME).decode("utf-8")
    except UnicodeDecodeError:
        raise PackError(f"{pack.path / CARD_NAME} is damaged: it is not UTF-8. Copy the pack again.") from None
    before = None if pack.address is None else str(parse_address(pack.address)._replace(revision=None))
    return card_at(card, address, before=before).encode("utf-8")


def _content(file: Path) -> bytes:
    try:
        return read_regular(file)
    except OSError as error:
        raise PackError(f"cannot read {file}: {error.strerror or error}. Copy the pack again.") from None
