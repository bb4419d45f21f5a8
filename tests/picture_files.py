"""Picture files that Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png16(values: np.ndarray, kind: int) -> bytes:
    """Return a PNG of 16 bits: kind 0 is grey, 2 is RGB, 6 is RGBA."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, kind: int = 1, order: str = "<") -> bytes:
    """Return an uncompressed TIFF of bands last; kind is its SampleFormat."""
    bands = values.shape[2] if values.ndim == 3 else 1
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    extra, start = b"", 8 + 2 + 12 * 10 + 4

    def shorts(number: int) -> tuple[int, int, bytes]:
        nonlocal extra
        if bands < 3:
            return 3, bands, struct.pack(f"{order}HH", number, number)
        place = start + len(extra)
        extra += struct.pack(f"{order}{bands}H", *[number] * bands)
        return 3, bands, struct.pack(f"{order}I", place)

    def whole(number: int) -> tuple[int, int, bytes]:
        return 4, 1, struct.pack(f"{order}I", number)

    tags = {256: whole(values.shape[1]), 257: whole(values.shape[0]), 258: shorts(8 * values.dtype.itemsize)}
    tags |= {259: whole(1), 262: whole(2 if bands > 2 else 1), 273: whole(0), 277: whole(bands)}
    tags |= {278: whole(values.shape[0]), 279: whole(len(body)), 339: shorts(kind)}
    tags[273] = whole(start + len(extra))
    entries = b"".join(struct.pack(f"{order}HHI", tag, *rest[:2]) + rest[2] for tag, rest in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + extra + body
