"""Requests that no server should answer with 200, and the statuses that are right for each."""

from __future__ import annotations

import base64
import json
import zlib
from typing import NamedTuple

from benchmarks.serving.client import RESET, request

PREDICT = "/v1/packs/{pack}/predict"
JPEG = {"Content-Type": "image/jpeg"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
OVERSIZED = 33 * 2**20


class Hostile(NamedTuple):
    """A request, and the statuses that are right for it."""

    name: str
    content: bytes
    statuses: tuple[int, ...]


def hostile_requests(pack: str, image: bytes) -> list[Hostile]:
    """Return malformed, truncated, oversized and hostile requests.

    Args:
        pack: name of a pack that the server has.
        image: a JPEG.
    """
    path = PREDICT.format(pack=pack)
    return [*_malformed(path, image), *_images(path, image), *_oversized(path), *_elsewhere(path, image)]


def _malformed(path: str, image: bytes) -> list[Hostile]:
    part = b'--xyz\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' + image
    deep = b'{"images": ' + b"[" * 100_000
    return [
        Hostile("truncated multipart", request(path, part[:-50], FORM), (400,)),
        Hostile("multipart without a boundary", request(path, part, {"Content-Type": "multipart/form-data"}), (400,)),
        Hostile("unknown field", request(path, b'--xyz\r\nContent-Disposition: form-data; name="url"\r\n\r\n'
                                               b"http://127.0.0.1/\r\n--xyz--\r\n", FORM), (422,)),
        Hostile("truncated JSON", request(path, b'{"images": ["aGk', JSON), (400,)),
        Hostile("deep JSON", request(path, deep, JSON), (400,)),
        Hostile("not UTF-8", request(path, b"\xff\xfe\x00", JSON), (400,)),
        Hostile("JSON of another form", request(path, b'{"images": {"a": 1}}', JSON), (422,)),
        Hostile("a path as base64", request(path, json.dumps({"images": ["/etc/passwd"]}).encode(), JSON), (422,)),
        Hostile("an address", request(path, json.dumps({"images": ["http://127.0.0.1/"]}).encode(), JSON), (422,)),
        Hostile("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", (400,)),
        Hostile("an endless head", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", (400, RESET)),
        Hostile("two lengths", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
                               b"hello", (400,)),
    ]  # fmt: skip


def _images(path: str, image: bytes) -> list[Hostile]:
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\0IDAT" + b"\0" * 40
    inside = json.dumps({"images": [base64.b64encode(image).decode(), base64.b64encode(b"no image").decode()]})
    return [
        Hostile("truncated image", request(path, image[: len(image) // 2], JPEG), (422,)),
        Hostile("empty image", request(path, b"", JPEG), (422,)),
        Hostile("random bytes", request(path, bytes(range(256)) * 40, JPEG), (422,)),
        Hostile("a web page", request(path, b"<!doctype html><title>x</title>", JPEG), (422,)),
        Hostile("a decompression bomb", request(path, bomb, JPEG), (413,)),
        Hostile("a bad image among good ones", request(path, inside.encode(), JSON), (422,)),
    ]


def _oversized(path: str) -> list[Hostile]:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
    chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    chunked = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (OVERSIZED // 2**20) + b"0\r\n\r\n"
    many = json.dumps({"images": ["aGk="] * 65}).encode()
    return [
        Hostile("a length that is too large", f"{head}Content-Length: 10000000000\r\n\r\n".encode(), (413,)),
        Hostile("an oversized body in chunks", chunked, (413,)),
        Hostile("too many images", request(path, many, JSON), (413,)),
    ]


def _elsewhere(path: str, image: bytes) -> list[Hostile]:
    return [
        Hostile("an unknown pack", request(PREDICT.format(pack="nobody"), image, JPEG), (404,)),
        Hostile("a path upwards", request("/../../etc/passwd", method="GET"), (404,)),
        Hostile("a pack upwards", request("/v1/packs/..%2f..%2fetc%2fpasswd", method="GET"), (404,)),
        Hostile("another type", request(path, image, {"Content-Type": "text/html"}), (415,)),
        Hostile("compressed", request(path, image, {**JPEG, "Content-Encoding": "gzip"}), (415,)),
        Hostile("another method", request(path, method="DELETE"), (405,)),
        Hostile("a wrong number", request(f"{path}?top_k=-1", image, JPEG), (422,)),
        Hostile("another host", request(path, image, {**JPEG, "Host": "rebound.example"}), (421,)),
        Hostile("another site", request(path, image, {**JPEG, "Origin": "http://evil.example"}), (403,)),
    ]
