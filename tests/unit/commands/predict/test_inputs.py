"""Folders to predict: every file is taken or accounted for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lpt.commands.predict.inputs import find_images
from lpt.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new = tmp_path / "new"
    for name, form in {
        "1.jpg": "JPEG",
        "photo.mpo": "JPEG",
        "upload_8f3a": "PNG",
        "x.jpeg2": "JPEG",
        "sub/s.TIFF": "TIFF",
        "raw.dng": "TIFF",
        "@eaDir/1.jpg": "JPEG",
        ".cache/1.jpg": "JPEG",
        "w.bin": "WEBP",
    }.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(new / name, form)
    for name in ("a.HEIC", "b.heic", "notes.txt", "empty"):
        (new / name).write_bytes(b"x" * (name != "empty"))
    (new / "gone.jpg").symlink_to("nowhere.jpg")
    (new / "again.jpg").symlink_to("1.jpg")
    os.mkfifo(new / "pipe.png")
    return new


def test_every_file_is_accounted_for(folder: Path) -> None:
    notes = list[str]()
    result = [str(path.relative_to(folder)) for path in list(find_images([folder], notes))]
    assert result == ["1.jpg", "a.HEIC", "b.heic", "photo.mpo", "sub/s.TIFF", "upload_8f3a", "w.bin", "x.jpeg2"]
    text = "\n".join(notes)
    for reason in (
        "3 files that are no images by ending or content (",
        "1 hidden file or folder (.cache)",
        "1 file or folder of the system (@eaDir)",
        "1 pipe, socket or device (pipe.png)",
        "1 link to what is read already (again.jpg)",
        "1 link that leads nowhere",
    ):
        assert reason in text


def test_output_of_lpt_is_not_classified(folder: Path, fitted_run: Path) -> None:
    before = list(find_images([folder], []))
    shutil.copytree(fitted_run, folder / "runs" / "x")
    notes = list[str]()
    assert list(find_images([folder], notes)) == before
    assert "1 folder or plot that lpt wrote (runs/x)" in "\n".join(notes)
    assert list(find_images([folder, folder / "runs"], [])) == before  # as the shell writes out `*`
    with pytest.raises(DataError, match="is output of lpt"):
        list(find_images([fitted_run], []))
    with pytest.raises(DataError, match=r"no image in the folder .*that lpt wrote"):
        list(find_images([folder / "runs"], []))
