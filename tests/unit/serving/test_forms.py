"""Bodies of requests: what is accepted, and that everything else is refused with a status of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lpt.serving.faults import Fault
from lpt.serving.forms import Ask, kind_of_body, parse
from lpt.serving.limits import Limits

LIMITS = Limits(max_images=3, queue=5)
DEFAULTS = Ask((), (), 5, False)
BOUNDARY = "multipart/form-data; boundary=xyz"


def part(name: str, content: bytes, *, filename: str | None = None, headers: str = "") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{headers}\r\n'
    return head.encode() + content + b"\r\n"


END = b"--xyz--\r\n"


def multipart(body: bytes, *, compare: bool = False) -> Ask:
    return parse("multipart/form-data", BOUNDARY, body, DEFAULTS, LIMITS, compare=compare)


def json_body(values: Any, *, compare: bool = False) -> Ask:
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    return parse("application/json", "application/json", body, DEFAULTS, LIMITS, compare=compare)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_multipart_body_keeps_its_images_byte_for_byte() -> None:
    content = bytes(range(256)) * 3 + b"\r\n--xy\r\n--xyz-not"
    body = part("images", content, filename="C:\\photos\\a b.jpg") + part("top_k", b"2") + part("images", b"second")
    ask = multipart(body + part("prior", b'{"cat": 1}') + part("attention", b"true") + END)
    assert ask == Ask((("a b.jpg", content), ("1", b"second")), (), 2, True, {"cat": 1.0})
    assert multipart(part("images", b"x") + part("prior", b" training\r\n") + END).prior == "training"
    assert multipart(part("images", b"x") + part("prior", b'"even"') + END).prior == "even"
    several = multipart(
        part("packs", b"a") + part("packs", "bj\u00f6rn".encode()) + part("images", b"x") + END, compare=True
    )
    assert several.packs == ("a", "bj\u00f6rn")


def test_a_json_body_and_an_image_as_it_is() -> None:
    values = {"images": [text(b"one"), text(b"two")], "top_k": 1, "prior": {"cat": 0.5}, "attention": True}
    assert json_body(values) == Ask((("0", b"one"), ("1", b"two")), (), 1, True, {"cat": 0.5})
    assert json_body({"images": [text(b"x")], "packs": ["a"]}, compare=True).packs == ("a",)
    assert json_body({"images": [text(b"x")], "packs": ["a"], "prior": "even"}, compare=True).prior == "even"
    several = part("images", b"x") + part("packs", b"a") + part("packs", b"b")
    assert multipart(several + part("prior", b'"even"') + END, compare=True).prior == "even"
    with pytest.raises(Fault, match="prior: even or training is accepted for several packs"):
        multipart(several + part("prior", b'{"cat": 1}') + END, compare=True)
    assert json_body({"images": [text(b"x")], "prior": "training"}).prior == "training"
    assert parse("application/octet-stream", "", b"raw", DEFAULTS, LIMITS, compare=False).images == (("0", b"raw"),)


def test_a_truncated_multipart_body_is_never_taken_for_a_whole_one() -> None:
    body = part("images", b"content", filename="a.jpg") + part("top_k", b"2") + END
    for end in range(len(body) - len(b"\r\n")):
        with pytest.raises(Fault) as fault:
            multipart(body[:end])
        assert fault.value.status == 400


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (END, 422, "no image"),
        (part("image", b"x") + END, 422, "accepted: images, top_k, attention, reject, prior"),
        (part("images", b"x") * 4 + END, 413, "at most 3 images"),
        (part("images", b"x") + part("top_k", b"0") + END, 422, "top_k: 1 to 1000"),
        (part("images", b"x") + part("top_k", b"-1") + END, 422, "top_k: a whole number"),
        (part("images", b"x") + part("top_k", b"1") * 2 + END, 422, "given twice"),
        (part("images", b"x") + part("attention", b"maybe") + END, 422, "true or false"),
        (part("images", b"x") + part("prior", b"[" * 100_000) + END, 400, "Invalid JSON"),
        (part("images", b"x") + part("prior", b"odd") + END, 422, "prior: even or training is accepted, or the share"),
        (part("images", b"x") + part("prior", b'{"a": "b"}') + END, 422, "share of each class"),
        (part("images", b"x") + part("prior", b'{"a": true}') + END, 422, "share of each class"),
        (part("images", b"x") + part("prior", b"") + END, 422, "prior: even or training is accepted"),
        (part("images", b"x") + part("prior", b"as in training") + END, 422, "prior: even or training is accepted"),
        (part("images", b"x") + part("prior", b"[]") + END, 422, "even or training is accepted"),
        (part("images", b"x") + part("prior", b"9" * (2**20 + 1)) + END, 413, "bytes are accepted in a field"),
        (part("images", b"x", headers="Content-Transfer-Encoding: base64\r\n") + END, 400, "as they are"),
        (part("images", b"x", headers="X: " + "y" * 100_000 + "\r\n") + END, 400, "malformed"),
        (b"--xyz\r\nContent-Type: image/png\r\n\r\nx\r\n" + END, 400, "has no name"),
        (b"--other\r\n\r\nx\r\n--other--\r\n", 400, "malformed"),
        (part("packs", b"a") + part("images", b"x") + END, 422, "there is no field 'packs'"),
    ],
)
def test_refused_multipart_bodies(body: bytes, status: int, message: str) -> None:
    with pytest.raises(Fault) as fault:
        multipart(body)
    assert (fault.value.status, message in fault.value.message) == (status, True), fault.value.message


@pytest.mark.parametrize(
    ("values", "status", "message"),
    [
        (b"", 400, "not accepted"),
        (b'{"images": ["aGk=', 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[" * 200_000, 400, "JSON"),
        (b'{"images": ["aGk="], "prior": {"cat": NaN}}', 422, "prior"),
        ([], 422, "object"),
        ({}, 422, "images"),
        ({"images": []}, 422, "images"),
        ({"images": "aGk="}, 422, "images"),
        ({"images": [5]}, 422, "images"),
        ({"images": ["/etc/passwd"]}, 422, "paths and addresses are not opened"),
        ({"images": ["https://example.com/a.png"]}, 422, "paths and addresses are not opened"),
        ({"images": ["file:///etc/passwd"]}, 422, "not base64"),
        ({"images": ["aGk=\n"]}, 422, "not base64"),
        ({"images": ["\u00fc"]}, 422, "not base64"),
        ({"images": ["aGk="] * 4}, 413, "at most 3"),
        ({"images": ["aGk="], "top_k": 0}, 422, "top_k"),
        ({"images": ["aGk="], "top_k": 1001}, 422, "top_k"),
        ({"images": ["aGk="], "top_k": True}, 422, "top_k"),
        ({"images": ["aGk="], "prior": {"cat": "much"}}, 422, "prior"),
        ({"images": ["aGk="], "prior": "odd"}, 422, "even or training is accepted"),
        ({"images": ["aGk="], "prior": 5}, 422, "even or training is accepted"),
        ({"images": ["aGk="], "url": "http://x"}, 422, "url"),
        (b'{"images": [' + b"0," * 10**7 + b"0]}", 413, "values are accepted"),
        (b'{"images": [' + b"0," * 10**5 + b"0]}", 422, "images.0"),
        ({str(number): 0 for number in range(50_000)}, 422, "50,001 values"),
    ],
)
def test_refused_json_bodies(values: Any, status: int, message: str) -> None:
    with pytest.raises(Fault) as fault:
        json_body(values)
    assert (fault.value.status, message in fault.value.message) == (status, True), fault.value.message


def test_refused_questions_to_several_packs() -> None:
    image = text(b"x")
    for values, status in (
        ({"images": [image]}, 422),
        ({"images": [image], "packs": []}, 422),
        ({"images": [image], "packs": ["a", "a"]}, 422),
        ({"images": [image] * 3, "packs": ["a", "b"]}, 413),
        ({"images": [image], "packs": ["a"], "prior": {"cat": 1}}, 422),
    ):
        with pytest.raises(Fault) as fault:
            json_body(values, compare=True)
        assert fault.value.status == status, values


def test_kinds_of_bodies() -> None:
    assert kind_of_body("Application/JSON; charset=utf-8", "", compare=True) == "application/json"
    assert kind_of_body("image/jpeg", "identity", compare=False) == "application/octet-stream"
    for content_type, encoding, compare in (
        ("", "", False),
        ("text/plain", "", False),
        ("application/x-www-form-urlencoded", "", False),
        ("image/png", "", True),
        ("application/json", "gzip", False),
    ):
        with pytest.raises(Fault) as fault:
            kind_of_body(content_type, encoding, compare=compare)
        assert fault.value.status == 415
