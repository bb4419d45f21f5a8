"""How frequent the classes are where images come from, as `--prior` says it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from lpt.errors import ConfigError
from lpt.packs.pack import Pack
from lpt.packs.prior import PRIORS, named_prior
from lpt.system.files import read_regular
from lpt.system.text import composed, plain_cell

Prior = str | Path


def shares_of(prior: Prior | None, pack: Pack) -> dict[str, float] | None:
    """Return the share of each class of a pack by name; None where nothing is said.

    Args:
        prior: a CSV file of class and share; or `even`; or `training`, as frequent as in the pack's training images.
        pack: the pack.

    Raises:
        ConfigError: the file cannot be read or does not fit the pack, or the pack does not know its frequencies.
    """
    if prior is None:
        return None
    return named_prior(pack, str(prior)) if is_named(prior) else _read_shares(Path(prior), pack.info.class_names)


def is_named(prior: Prior) -> bool:
    """Return whether a prior is a name and no file; `./even` is a file."""
    return str(prior) in PRIORS


def _read_shares(path: Path, class_names: Sequence[str]) -> dict[str, float]:
    """Read the share of each class from a CSV file with columns class and share; classes left out count 0.

    Raises:
        ConfigError: the file cannot be read, or a row is not a known class and a share; the row is named.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_regular(path).decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        accepted = f"Accepted: {', '.join(PRIORS)}, or a CSV file with columns class,share"
        raise ConfigError(f"--prior: cannot read {path}: {reason}. {accepted}") from None
    known, shares = {composed(name): name for name in class_names}, dict[str, float]()
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["class", "share"]):
            continue
        where = f"--prior: {path}, row {number}"
        if len(row) != 2:
            raise ConfigError(f"{where}: {len(row)} columns instead of class,share: {','.join(row)}")
        name, text = row
        name = name if composed(name) in known else plain_cell(name)
        if composed(name) not in known:
            raise ConfigError(f"{where}: the pack has no class {name!r}; its classes: lpt inspect PACK")
        name = known[composed(name)]
        if name in shares:
            raise ConfigError(f"{where}: the class {name!r} is listed twice")
        shares[name] = _share(text, where)
    if not any(shares.values()):
        raise ConfigError(f"--prior: {path} gives no class a positive share; write rows of class,share")
    return shares


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(f"{where}: the share must be a number of at least 0, got {text!r}")
    return share
