"""Whatever people have in their folders becomes upright RGB, or an error that names it."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpt.data.decoding import ImageError, image_size, read_image
from lpt.data.images import ArrayImages, ColumnImages, FileImages
from lpt.data.pixels import scale_to_8bit
from lpt.errors import DataError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    result = read_image(encoded(image, kind, **options), "it")
    assert result.mode == "RGB"
    return result


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(orientation: int, kind: str) -> None:
    """The stored picture is turned so that the red quarter of the scene is top left."""
    scene = Image.new("RGB", (32, 16), BLUE)
    scene.paste(RED, (0, 0, 16, 8))
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene if orientation == 1 else scene.transpose(stored_as[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decoded(stored, kind, exif=exif)
    assert upright.size == (32, 16)
    assert np.abs(np.asarray(upright, dtype=int)[2, 2] - RED).max() < 60
    assert np.abs(np.asarray(upright, dtype=int)[13, 29] - BLUE).max() < 60


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_counts_as_none() -> None:
    jpeg = encoded(Image.new("RGB", (8, 4), RED), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert read_image(jpeg, "it").size == (8, 4)


def test_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(decoded(image))[0].tolist() == [list(c) for c in (RED, WHITE)]
    half = Image.new("LA", (1, 1), (0, 128))
    assert decoded(half).getpixel((0, 0)) == (127, 127, 127)


def test_transparent_palette_entry_and_colour_become_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    assert np.asarray(decoded(palette))[0].tolist() == [list(c) for c in (RED, (0, 255, 0))]
    assert np.asarray(decoded(palette, transparency=1))[0].tolist() == [list(c) for c in (RED, WHITE)]
    assert decoded(Image.new("RGB", (1, 1), BLUE), transparency=BLUE).getpixel((0, 0)) == WHITE
    assert decoded(Image.new("L", (1, 1), 7), transparency=7).getpixel((0, 0)) == WHITE


def test_greyscale_bilevel_and_cmyk() -> None:
    assert decoded(Image.new("L", (3, 2), 77)).getpixel((1, 1)) == (77, 77, 77)
    assert decoded(Image.new("1", (3, 2), 1)).getpixel((1, 1)) == WHITE
    cmyk = decoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(np.asarray(cmyk, dtype=int)[4, 4] - RED).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_not_clipped(kind: str) -> None:
    ramp = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    assert np.asarray(decoded(Image.fromarray(ramp), kind))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_deep_integers_and_floats_are_scaled() -> None:
    deep = Image.fromarray(np.array([[0, 30000, 60000]], dtype=np.int32))
    assert np.asarray(decoded(deep, "TIFF"))[0, :, 0].tolist() == [0, 117, 233]
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32))
    assert np.asarray(decoded(unit, "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0]
    assert scale_to_8bit(np.array([[-1000, 0, 1000]])).tolist() == [[0, 128, 255]]
    assert scale_to_8bit(np.array([[-5, -5]])).tolist() == [[0, 0]]
    assert scale_to_8bit(np.full((1, 2), np.nan)).tolist() == [[0, 0]]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        first = decoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(np.asarray(first, dtype=int)[1, 1] - RED).max() < 12


def test_one_pixel_and_a_name_outside_ascii(tmp_path: Path) -> None:
    path = tmp_path / "größe 图片 é.png"
    Image.new("RGB", (1, 1), RED).save(path)
    source = FileImages(tmp_path, [path.name])
    assert source.read(0).getpixel((0, 0)) == RED
    assert source.name(0) == str(path)
    assert source.size(0) == (1, 1)
    assert source.content(0) == path.read_bytes()
    assert source.stored_bytes(0) == path.stat().st_size


def test_a_name_that_is_not_unicode_can_be_read_and_printed(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")
    try:
        Image.new("RGB", (1, 1), RED).save(path)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    source = FileImages(tmp_path, [path.name])
    assert source.read(0).size == (1, 1)
    source.name(0).encode("utf-8")


def picture() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty (0 bytes)"),
        (picture()[:900], "truncated"),
        (encoded(Image.new("RGB", (64, 64), RED))[:60], ""),
        (b"hello, I am text", "not an image of a known format"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n<HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (bomb(), "more pixels than is safe"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ImageError) as caught:
            read_image(source, "folder/bad.jpg")
        assert str(caught.value).startswith("folder/bad.jpg: cannot be read")
        assert reason in caught.value.reason
        assert "BytesIO" not in caught.value.reason
        assert isinstance(caught.value, DataError)


def test_missing_file_folder_and_impossible_name(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.png", "does not exist"), (tmp_path, "folder"), (Path("a\0b"), "null")):
        with pytest.raises(ImageError) as caught:
            read_image(path, "it")
        assert reason in caught.value.reason
    with pytest.raises(ImageError, match="does not exist"):
        FileImages(tmp_path, ["no.png"]).stored_bytes(0)
    with pytest.raises(ImageError, match="does not exist"):
        FileImages(tmp_path, ["no.png"]).content(0)
    with pytest.raises(IndexError):
        FileImages(tmp_path, ["no.png"]).name(1)


def test_the_error_survives_the_way_back_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "it is empty")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "it is empty", str(ImageError("a.jpg", "it is empty")))


def test_size_comes_from_the_header_alone() -> None:
    assert image_size(picture()[:700], "it") == (64, 64)
    with pytest.raises(ImageError):
        image_size(b"no", "it")


def test_files_take_absolute_and_relative_paths(tmp_path: Path) -> None:
    inside = tmp_path / "sub" / "a.png"
    inside.parent.mkdir()
    Image.new("RGB", (5, 4)).save(inside)
    source = pickle.loads(pickle.dumps(FileImages(tmp_path, ["sub/a.png", str(inside), "sub/../sub/a.png"])))
    assert len(source) == 3
    assert [source.read(row).size for row in range(3)] == [(5, 4)] * 3


def test_column_cells_of_all_kinds(tmp_path: Path) -> None:
    content = encoded(Image.new("RGB", (3, 2), RED))
    (tmp_path / "a.png").write_bytes(content)
    cells = [{"bytes": content, "path": None}, {"bytes": None, "path": "a.png"}, content, "a.png", None, {}, 3]
    source = ColumnImages([{"img": cell} for cell in cells], "img", "table train", root=tmp_path)
    source = pickle.loads(pickle.dumps(source))
    for row in range(4):
        assert source.read(row).size == (3, 2)
        assert source.content(row) == content
        assert source.stored_bytes(row) == len(content)
    for row in range(4, 7):
        with pytest.raises(ImageError, match=f"table train row {row}: .*column 'img' holds"):
            source.read(row)


def test_arrays_in_memory() -> None:
    grey = ArrayImages(np.full((2, 3, 4), 9, dtype=np.uint8), names=["a", "b"])
    assert (grey.read(1).mode, grey.read(1).size, grey.size(1), grey.name(1)) == ("RGB", (4, 3), (4, 3), "b")
    colour = pickle.loads(pickle.dumps(ArrayImages(np.full((2, 3, 4, 3), RED, dtype=np.uint8))))
    assert (colour.read(0).getpixel((0, 0)), colour.name(1), len(colour)) == (RED, "image 1", 2)
    assert colour.stored_bytes(0) == len(colour.content(0)) == 36


@pytest.mark.parametrize(("shape", "kind"), [((2, 3), "uint8"), ((2, 3, 4, 4), "uint8"), ((2, 3, 4), "float32")])
def test_arrays_of_another_shape_or_type_are_refused(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(DataError, match=r"uint8 of shape \[n, H, W\]"):
        ArrayImages(np.zeros(shape, dtype=kind))
    with pytest.raises(DataError, match="2 images in the array, but 1 names"):
        ArrayImages(np.zeros((2, 3, 4), dtype=np.uint8), names=["a"])
