"""Walk a folder of images: find every regular file once, and account for all that is left out.

Hidden entries, folders and files of systems, and LPT's own output are no data. Links are followed; a folder or file
that several paths lead to counts once. Pipes, sockets and devices are never opened.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Literal

from lpt.config.bounds import escaped
from lpt.data.images import IMAGE_SUFFIXES
from lpt.system.outputs import is_plot, output_in
from lpt.system.text import plural, shorten

SYSTEM_NAMES = frozenset(
    {"@eadir", "@tmp", "@sharebin", "@__thumb", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"}
    | {"$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "$extend", "msdownld.tmp"}
    | {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "autorun.inf", "iconcache.db", "picasa.ini"}
    | {"__macosx", "icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder", "resource.frk"}
    | {"lost+found", "lost.dir", "__pycache__", "dfsrprivate"}
)
"""Names (lower case) that file systems, network drives and desktops give to what is theirs. Names that begin with a
dot are hidden, so `.Trash-1000`, `.thumbnails`, `.Spotlight-V100` and the like need no place here."""

_MOST_PLOTS_SOUGHT = 20_000
"""PNG files of a walk that are opened to see whether LPT drew them; a data set of more PNG files is no place of plots,
and to open each would take minutes on a network drive."""

Kind = Literal["folder", "file", "special", "broken", "unreadable"]
IsImage = Callable[[str, str], bool]
"""Whether a file, given by its path and its ending (lower case), is an image."""
Identity = tuple[int, int]
"""Device and number of a file or folder: the same for every path that leads to it."""


@dataclass
class LeftOut:
    """What a walk leaves out, by the kind of reason. Paths start from the root of the walk.

    Args:
        endings: number of files that are no images, by their ending.
        hidden: files and folders whose names begin with a dot.
        system: files and folders of systems, as `SYSTEM_NAMES` lists them.
        outputs: folders that LPT wrote, and plots.
        special: pipes, sockets and devices.
        repeated: links to a file or folder that was found already.
        dangling: links that lead nowhere and bear no name of an image.
        faults: what should hold images and cannot be read, as (path, reason).
    """

    endings: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def reasons(self, other_files: str = "without the ending of an image") -> list[str]:
        """Return a phrase for each kind of reason, with the number of files or folders; not for `faults`.

        Args:
            other_files: what is said of files that are no images.
        """
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in self.endings.most_common(5))
        kinds += f" and {len(self.endings) - 5} more endings" if len(self.endings) > 5 else ""
        phrases = [f"{plural(self.endings.total(), 'file')} {other_files} ({kinds})"]
        phrases = phrases if self.endings else []
        for entries, singular, several in (
            (self.hidden, "hidden file or folder", "hidden files or folders"),
            (self.system, "file or folder of the system", "files or folders of the system"),
            (self.outputs, "folder or plot that lpt wrote", "folders or plots that lpt wrote"),
            (self.special, "pipe, socket or device", "pipes, sockets or devices"),
            (self.repeated, "link to what is read already", "links to what is read already"),
            (self.dangling, "link that leads nowhere", "links that lead nowhere"),
        ):
            if entries:
                noun = singular if len(entries) == 1 else several
                phrases.append(f"{len(entries):,} {noun} ({shorten(list(map(escaped, sorted(entries))), 3)})")
        return phrases


@dataclass
class Level:
    """What lies directly in a folder; paths start from the root of the walk, sorted.

    Args:
        folders: the folders in it, those that are no links first.
        images: images that are no links.
        links: images that are links.
    """

    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Walk:
    """A walk through a folder of images.

    Args:
        root: the folder that all paths start from.
        is_image: which files without the ending of an image are images too; None: none of them.

    Attributes:
        left: what was left out so far.
    """

    def __init__(self, root: Path, is_image: IsImage | None = None) -> None:
        self.root = root
        self.left = LeftOut()
        self._is_image = is_image
        self._plots_to_seek = _MOST_PLOTS_SOUGHT

    def images(self, start: str = "", above: Iterable[str] = ()) -> list[str]:
        """Return all images in a folder at any depth, sorted.

        Args:
            start: the folder, from the root.
            above: folders, from the root, that are not entered again through a link.
        """
        seen = {identity for folder in above if (identity := self._identity(folder)) is not None}
        images, links = [], []
        waiting, linked = [start], list[str]()
        while waiting or linked:
            folder = waiting.pop() if waiting else linked.pop()
            identity = self._identity(folder)
            if identity is not None and identity in seen:
                self.left.repeated.append(folder)
                continue
            if identity is not None:
                seen.add(identity)
            level = self.level(folder)
            images += level.images
            links += level.links
            for inner in reversed(level.folders):
                (linked if os.path.islink(self._path(inner)) else waiting).append(inner)  # noqa: PTH114
        return sorted(images + self._new(links, images))

    def level(self, folder: str = "") -> Level:
        """List one folder, and note what is left out of it."""
        path, level = self._path(folder), Level()
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=attrgetter("name"))
        except OSError as error:
            self.left.faults.append((folder, f"the folder cannot be listed: {error.strerror}"))
            return level
        output = output_in(Path(path), {entry.name for entry in entries})
        if output.title:
            self.left.outputs.append(folder or ".")
        if output.whole:
            return level
        linked = list[str]()
        prefix = f"{folder}/" if folder else ""
        for entry in entries:
            inner = prefix + entry.name
            if self._is_foreign(entry.name, inner):
                continue
            kind = _kind_of(entry)
            if kind == "file":
                self._sort_file(entry, inner, level, among_results=bool(output.title))
            elif kind == "folder":
                (linked if entry.is_symlink() else level.folders).append(inner)
            else:
                self._note(kind, inner)
        level.folders += linked
        return level

    def _is_foreign(self, name: str, path: str) -> bool:
        """Return whether a name is hidden or one of the system's; note it if so."""
        if name.startswith("."):
            self.left.hidden.append(path)
        elif name.lower() in SYSTEM_NAMES:
            self.left.system.append(path)
        else:
            return False
        return True

    def _sort_file(self, entry: os.DirEntry[str], path: str, level: Level, *, among_results: bool) -> None:
        """Take a regular file as an image, or note why not."""
        ending = _ending(entry.name)
        if not (ending in IMAGE_SUFFIXES or (self._is_image is not None and self._is_image(entry.path, ending))):
            self.left.endings[ending or "no ending"] += 1
        elif ending == ".png" and self._is_plot(entry.path, sure=among_results):
            self.left.outputs.append(path)
        else:
            (level.links if entry.is_symlink() else level.images).append(path)

    def _is_plot(self, path: str, *, sure: bool) -> bool:
        """Return whether LPT drew a PNG file; unless `sure` of results beside it, only so many files are opened."""
        if not sure:
            self._plots_to_seek -= 1
            if self._plots_to_seek < 0:
                return False
        try:
            return is_plot(Path(path))
        except OSError:
            return False

    def _note(self, kind: Kind, path: str) -> None:
        """Note an entry that is neither a folder nor a regular file."""
        if kind == "special":
            self.left.special.append(path)
        elif kind == "unreadable":
            self.left.faults.append((path, "it is a link in a circle, or to a place that may not be entered"))
        elif _ending(path) in IMAGE_SUFFIXES:
            self.left.faults.append((path, "it is a link to a file that does not exist"))
        else:
            self.left.dangling.append(path)

    def _new(self, links: list[str], files: list[str]) -> list[str]:
        """Return the links that lead to files other than `files`, and each to another one."""
        if not links:
            return []
        taken = {self._identity(file) for file in files}
        chosen = []
        for link in sorted(links):
            identity = self._identity(link)
            if identity is not None and identity in taken:
                self.left.repeated.append(link)
            else:
                taken.add(identity)
                chosen.append(link)
        return chosen

    def _identity(self, path: str) -> Identity | None:
        try:
            status = os.stat(self._path(path))  # noqa: PTH116
        except OSError:
            return None
        return (status.st_dev, status.st_ino) if status.st_ino else None

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path)  # noqa: PTH118


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # half a million `Path`s take seconds


def _kind_of(entry: os.DirEntry[str]) -> Kind:
    """Return what an entry is, or what its link leads to."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        return "special" if os.path.exists(entry.path) else "broken"  # noqa: PTH110
    except OSError:
        return "unreadable"
