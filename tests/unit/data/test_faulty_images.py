"""Pictures that can be read after all, and the reasons why others cannot."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from lpt.commands.predict.table import decode_ahead
from lpt.config.schema import DataConfig
from lpt.data.decoding import ImageError, Reading, image_size, read_image
from lpt.data.faulty import REPAIRED
from lpt.data.sources import open_splits
from picture_files import encoded, tiff

RED = (255, 0, 0)


def many_text_chunks(chunk: Callable[[bytes, bytes], bytes]) -> dict[str, bytes]:
    """Texts that Pillow does not take: one that unpacks to 20 MB, and many of a megabyte that are 80 MB together."""
    bomb = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(20 * 2**20)))
    return {"long": bomb, "many": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1))) * 80}


@pytest.mark.parametrize("texts", ["long", "many"])
@pytest.mark.parametrize("behind", [False, True])
def test_long_texts_of_a_png_are_left_out_but_not_how_it_is_turned(texts: str, behind: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)), "PNG", exif=exif)
    place = plain.rindex(b"IEND") - 4 if behind else plain.index(b"IDAT") - 4

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    stored = plain[:place] + many_text_chunks(chunk)[texts] + plain[place:]
    with pytest.raises(ValueError, match=r"[Tt]ext|TEXT"), Image.open(io.BytesIO(stored)) as image:
        image.load()
    assert np.array_equal(np.asarray(read_image(stored, "it")), np.asarray(read_image(plain, "it")))
    assert read_image(stored, "it").size == (4, 6)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [2, 3, 40, 1000])
def test_a_jpeg_without_its_last_bytes_is_taken_on_demand(lost: int, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", progressive=progressive)
    with pytest.raises(ImageError, match=r"data\.bad_images repair"):
        read_image(whole[:-lost], "it")
    repaired = read_image(whole[:-lost], "it", Reading(repair=True))
    assert repaired.info[REPAIRED]
    assert REPAIRED not in read_image(whole, "it", Reading(repair=True)).info
    same = np.all(np.asarray(repaired) == np.asarray(read_image(whole, "it")), axis=(1, 2))
    assert progressive or same[:8].all()
    assert lost > 2 or same.all()
    with pytest.raises(ImageError):
        read_image(encoded(Image.fromarray(noise))[:-2000], "it", Reading(repair=True))


def test_the_pixel_limit_is_our_own() -> None:
    stored = encoded(Image.new("L", (400, 300)))
    assert read_image(stored, "it", Reading(max_pixels=120_000)).size == (400, 300)
    for use in (read_image, image_size):
        with pytest.raises(ImageError, match=r"400 x 300 = 120,000, at most 119,999.*data\.max_pixels"):
            use(stored, "it", Reading(max_pixels=119_999))


def header_of(width: int, height: int) -> bytes:
    packed = zlib.compress(b"\0" * 10)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(170_000_000, 1), (1, 170_000_000), (1_000_001, 2)])
def test_a_line_of_millions_of_pixels_is_a_bad_image(size: tuple[int, int]) -> None:
    for use in (read_image, image_size):
        with pytest.raises(ImageError, match="a side of at most 1,000,000 is accepted"):
            use(header_of(*size), "it")


def test_more_pixels_than_pillow_takes_can_be_asked_for() -> None:
    """In a process of its own: Pillow's limit holds for a whole process."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom lpt.data.decoding import Reading, image_size\n"
        "print(image_size(Path(sys.argv[1]).read_bytes(), 'it', Reading(max_pixels=200_000_000)))"
    )
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Path(file.name).write_bytes(header_of(16_320, 12_240))
        with pytest.raises(ImageError, match="more pixels than is safe"):
            image_size(Path(file.name), "it")
        done = subprocess.run([sys.executable, "-c", script, file.name], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(16320, 12240)"


@pytest.mark.parametrize(
    ("values", "kind", "order", "layout"),
    [
        (np.zeros((4, 5, 13), np.uint16), 1, "<", "13 bands of 16-bit unsigned integers;"),
        (np.zeros((4, 5, 5), np.uint8), 1, ">", "5 bands of 8-bit unsigned integers, big-endian;"),
        (np.zeros((4, 5, 3), np.float32), 3, "<", "3 bands of 32-bit floats;"),
        (np.zeros((4, 5, 3), np.uint32), 1, "<", "3 bands of 32-bit unsigned integers;"),
        (np.zeros((4, 5), np.complex64), 6, "<", "1 band of 64-bit complex floats;"),
        (np.zeros((4, 5), np.float16), 3, "<", "1 band of 16-bit floats;"),
    ],
)
def test_the_layout_of_a_tiff_is_named(
    values: np.ndarray, kind: int, order: str, layout: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError, match="accepted are TIFFs of one band") as caught:
        read_image(tiff(values, kind, order), "it")
    assert f"it is a TIFF of {layout}" in caught.value.reason
    assert capfd.readouterr().err == ""


def test_the_content_counts_not_the_ending(tmp_path: Path) -> None:
    for name in ("a.jpg", "b", "c.heic", "d.txt"):
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (3, 2), RED)))
        assert read_image(tmp_path / name, name).size == (3, 2)


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1", b"mif1\0\0\0\0heic", b"heix\0\0\0\0mif1", b"msf1\0\0\0\0hevc"])
def test_a_heic_photo_names_the_extra_where_it_is_missing(brands: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC.*\[heif\]"):
        read_image(struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands, "it")


def test_heic_and_avif_photos_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.new("RGB", (64, 48), RED)
    if features.check("avif"):
        assert np.abs(np.asarray(read_image(encoded(photo, "AVIF"), "it"), dtype=int)[9, 9] - RED).max() < 12
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(photo).save(stream, quality=90)
    assert read_image(stream.getvalue(), "it").size == (64, 48)


def test_the_raw_file_of_a_camera_is_no_picture() -> None:
    """A DNG is a TIFF, whose first page is a small preview."""
    preview = tiff(np.zeros((4, 5, 3), np.uint8))
    assert read_image(preview, "it").size == (5, 4)
    as_dng = bytearray(preview)
    place = as_dng.index(struct.pack("<HH", 339, 3))  # the last entry becomes DNGVersion
    as_dng[place : place + 12] = struct.pack("<HHI4B", 50706, 1, 4, 1, 4, 0, 0)
    with pytest.raises(ImageError, match="raw file of a camera"):
        read_image(bytes(as_dng), "it")


def test_a_postscript_program_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands an EPS to Ghostscript where that is installed: a program of whoever sent the picture."""
    ran: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: ran.append(arguments))
    for use in (read_image, image_size):
        with pytest.raises(ImageError, match="PostScript program"):
            use(encoded(Image.new("RGB", (8, 8)), "EPS"), "it")
    assert ran == []


def test_repaired_images_are_counted_in_a_set_and_ahead(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (32, 32), RED), "JPEG")
    for name, content in {"a/0.jpg": whole, "a/1.jpg": whole[:-2], "b/0.jpg": whole[:-2]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    splits = open_splits(DataConfig(source=str(tmp_path), bad_images="repair"), seed=0)
    assert len(splits.train) == 3
    assert any("Repaired: 2 train images cut short" in note for note in splits.notes)
    assert [splits.train.read(index).size for index in range(3)] == [(32, 32)] * 3
    files, repaired = sorted(tmp_path.rglob("*.jpg")), list[str]()
    pictures = [picture for _, picture in decode_ahead(files, Reading(repair=True), repaired)]
    assert not any(isinstance(picture, ImageError) for picture in pictures)
    assert repaired == [str(tmp_path / name) for name in ("a/1.jpg", "b/0.jpg")]
