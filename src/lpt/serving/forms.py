"""From the body of a request to its images: multipart, JSON with base64, or an image as it is.

An image is what the bytes of the body say. Nothing in a request is taken for a path or an address.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lpt.config.bounds import one_line
from lpt.config.faults import faults
from lpt.packs.info import ClassFrequencies
from lpt.packs.prior import PRIORS, Prior
from lpt.serving.faults import Fault, too_many_images
from lpt.serving.limits import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

JSON, MULTIPART, BYTES = "application/json", "multipart/form-data", "application/octet-stream"
_LONGEST_NAME = 255
_MOST_FIELD_BYTES = 2**20
_MOST_FIELDS = 1000
_MOST_VALUES = 100_000
_MOST_FAULTS = 100
PRIOR = "How frequent the classes are where the images come from: all alike, or as among the training images."
REJECT = "Whether to say which images show none of the classes; the pack needs a threshold."
_YES, _NO = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Ask:
    """What a request asks for.

    Args:
        images: name and bytes of each image.
        packs: names of the packs; empty where the address names the pack.
        top_k: how many classes to list for an image.
        attention: whether to give the attention of the class token.
        prior: how frequent the classes are where the images come from; None: as the pack says.
        reject: whether to say which images show none of the classes.
    """

    images: tuple[tuple[str, bytes], ...]
    packs: tuple[str, ...] = ()
    top_k: int = 5
    attention: bool = False
    prior: Prior | None = None
    reject: bool = False


def _name_or_shares(prior: Any) -> Prior:
    if isinstance(prior, str) and prior in PRIORS:
        return prior
    if isinstance(prior, dict) and all(type(one) in (int, float) and 0 <= one < math.inf for one in prior.values()):
        return prior
    shares = 'the share of each class, such as {"cat": 0.9, "dog": 0.1}'
    raise ValueError(f"{' or '.join(PRIORS)} is accepted, or {shares}")


_SHARES = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
_Prior = Annotated[
    Any,  # one error for all values, not one for each
    AfterValidator(_name_or_shares),
    WithJsonSchema({"anyOf": [{"enum": list(PRIORS), "type": "string"}, _SHARES]}),
]
_PRIOR: TypeAdapter[Prior] = TypeAdapter(_Prior)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PredictBody(_Body):
    """Images for a pack, as JSON."""

    images: list[str] = Field(min_length=1, fail_fast=True, description="Image files, each as base64.")
    top_k: int | None = Field(None, ge=1, description="How many classes to list for an image.")
    attention: bool | None = Field(None, description="Whether to say where the network looked.")
    reject: bool | None = Field(None, description=REJECT)
    prior: _Prior | None = Field(None, description=f"{PRIOR} Or the share of each class; classes left out count as 0.")


class CompareBody(_Body):
    """Images for several packs, as JSON."""

    packs: list[str] = Field(min_length=1, fail_fast=True, description="Names of the packs.")
    images: list[str] = Field(min_length=1, fail_fast=True, description="Image files, each as base64.")
    top_k: int | None = Field(None, ge=1, description="How many classes to list for an image.")
    attention: bool | None = Field(None, description="Whether to say where the network looked.")
    reject: bool | None = Field(None, description=REJECT)
    prior: ClassFrequencies | None = Field(None, description=PRIOR)


def kind_of_body(content_type: str, encoding: str, *, compare: bool) -> str:
    """Return the kind of a body by its headers: JSON, MULTIPART or BYTES.

    Args:
        content_type, encoding: the headers Content-Type and Content-Encoding.
        compare: whether several packs are asked, which takes no image as it is.

    Raises:
        Fault: 415, the type is not accepted.
    """
    kind = content_type.partition(";")[0].strip().lower()
    raw = kind.startswith("image/") or kind == BYTES
    if encoding.strip().lower() not in ("", "identity"):
        raise Fault(415, f"Content-Encoding {encoding[:40]!a} is not accepted: send the body as it is.")
    if kind in (JSON, MULTIPART):
        return kind
    if raw and not compare:
        return BYTES
    accepted = f"{MULTIPART} with parts named images, or {JSON} with base64 texts"
    if not compare:
        accepted += f", or an image with its own type (image/jpeg, image/png, ...) or {BYTES}"
    raise Fault(415, f"Content-Type {kind[:80]!a} is not accepted. Send {accepted}.")


def parse(kind: str, content_type: str, body: bytes, defaults: Ask, limits: Limits, *, compare: bool) -> Ask:
    """Return what a body asks for.

    Args:
        kind: as `kind_of_body` says.
        content_type: the header, which holds the boundary of a multipart body.
        body: the whole body.
        defaults: what the address of the request says.
        limits: of the server.
        compare: whether several packs are asked.

    Raises:
        Fault: 400, it is malformed; 413, there are too many images; 422, a value is not accepted.
    """
    if kind == JSON:
        ask = _from_json(body, defaults, limits, compare=compare)
    elif kind == MULTIPART:
        ask = _from_multipart(content_type, body, defaults, limits, compare=compare)
    else:
        ask = replace(defaults, images=(("0", body),))
    if not 1 <= ask.top_k <= limits.max_top_k:
        raise Fault(422, f"top_k: 1 to {limits.max_top_k} are accepted, not {ask.top_k}.")
    if not ask.images:
        raise Fault(422, "there is no image in the request: send parts named images.", code="no_image")
    if compare and not ask.packs:
        raise Fault(422, "packs: name at least one pack; GET /v1/packs lists them.")
    if len(ask.images) > limits.images:
        raise too_many_images(len(ask.images), limits.images)
    if (count := len(ask.images) * max(len(ask.packs), 1)) > limits.queue:
        raise Fault(
            413,
            f"{len(ask.images)} images for {len(ask.packs)} packs are {count} predictions; at most {limits.queue} are "
            "accepted in a request. Send several.",
            code="too_many_images",
        )
    return ask


def _from_json(body: bytes, defaults: Ask, limits: Limits, *, compare: bool) -> Ask:
    if body.count(b",") > _MOST_VALUES:  # as values they would take ten times the memory of the body
        raise Fault(413, f"at most {_MOST_VALUES:,} values are accepted in a JSON body.", code="too_many_values")
    values: PredictBody | CompareBody
    try:
        values = (CompareBody if compare else PredictBody).model_validate_json(body)
    except ValidationError as error:
        raise _refusal("the JSON body is not accepted", error) from None
    if len(values.images) > limits.images:
        raise too_many_images(len(values.images), limits.images)
    return Ask(
        tuple((str(number), _decoded(text, number)) for number, text in enumerate(values.images)),
        _distinct(values.packs) if isinstance(values, CompareBody) else (),
        defaults.top_k if values.top_k is None else values.top_k,
        defaults.attention if values.attention is None else values.attention,
        defaults.prior if values.prior is None else values.prior,
        defaults.reject if values.reject is None else values.reject,
    )


def _decoded(text: str, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # of characters and of padding
        raise Fault(
            422,
            f"images[{number}] is not base64. Send the bytes of the image file as base64 without line breaks; paths "
            "and addresses are not opened.",
            code="bad_base64",
        ) from None


@dataclass
class _Part:
    name: str
    filename: str | None
    content: bytearray


class _Parts:
    """The parts of a multipart body as the parser gives them.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._images, self._most_images = 0, limits.images
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._take_field,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take_data,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._headers = {}

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or not options.get(b"name"):
            raise Fault(400, "a part of the multipart body has no name.")
        if self._headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise Fault(400, "Content-Transfer-Encoding is not accepted: send the bytes of the image file as they are.")
        name, filename = options[b"name"], options.get(b"filename")
        if name == b"images":
            self._images += 1
            if self._images > self._most_images:
                raise Fault(
                    413, f"at most {self._most_images} images are accepted in a request.", code="too_many_images"
                )
        elif len(self.parts) - self._images > _MOST_FIELDS:
            raise Fault(413, f"at most {_MOST_FIELDS} fields are accepted in a request.", code="too_many_fields")
        self.parts.append(_Part(_text(name), None if filename is None else _text(filename), bytearray()))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.content += data[start:end]
        if part.name != "images" and len(part.content) > _MOST_FIELD_BYTES:
            raise Fault(413, f"{part.name[:40]}: at most {_MOST_FIELD_BYTES:,} bytes are accepted in a field.")

    def _end(self) -> None:
        self.ended = True


def _from_multipart(content_type: str, body: bytes, defaults: Ask, limits: Limits, *, compare: bool) -> Ask:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Fault(400, "Content-Type: multipart/form-data has no boundary.")
    parts = _Parts(limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Fault(400, f"the multipart body is malformed: {str(error)[:200]}.") from None
    if not parts.ended:
        raise Fault(400, "the multipart body is not complete: its last boundary is missing.")
    fields = _fields([part for part in parts.parts if part.name != "images"], compare=compare)
    images = [part for part in parts.parts if part.name == "images"]
    return Ask(
        tuple((_file_name(part, number), bytes(part.content)) for number, part in enumerate(images)),
        _distinct(fields.get("packs", [])),
        fields.get("top_k", defaults.top_k),
        fields.get("attention", defaults.attention),
        fields.get("prior", defaults.prior),
        fields.get("reject", defaults.reject),
    )


def _fields(parts: list[_Part], *, compare: bool) -> dict[str, Any]:
    """Return the values of the fields of a multipart body."""
    both = ("top_k", "attention", "reject", "prior")
    accepted = ("packs", *both) if compare else both
    fields: dict[str, Any] = {}
    for part in parts:
        if part.name not in accepted:
            raise Fault(422, f"there is no field {part.name[:40]!a}; accepted: images, {', '.join(accepted)}.")
        text = _text(bytes(part.content))
        if part.name == "packs":
            fields.setdefault("packs", []).append(text)
        elif part.name in fields:
            raise Fault(422, f"{part.name}: it is given twice.")
        elif part.name == "top_k":
            fields["top_k"] = _whole(text)
        elif part.name in ("attention", "reject"):
            fields[part.name] = _flag(part.name, text)
        else:
            fields["prior"] = _prior(text.strip(), compare=compare)
    return fields


def _whole(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Fault(422, f"top_k: a whole number of at least 1 is accepted, not {text[:40]!a}.")
    return int(text)


def _flag(name: str, text: str) -> bool:
    text = text.strip().lower()
    if text not in (*_YES, *_NO):
        raise Fault(422, f"{name}: true or false is accepted, not {text[:40]!a}.")
    return text in _YES


def _prior(text: str, *, compare: bool) -> Prior:
    """Return the prior of a form: a name as it is, or JSON."""
    try:
        prior = _PRIOR.validate_json(text) if text.startswith(("{", "[", '"')) else _PRIOR.validate_python(text)
    except ValidationError as error:
        raise _refusal("prior", error) from None
    if compare and not isinstance(prior, str):
        raise Fault(422, f"prior: {' or '.join(PRIORS)} is accepted for several packs, not {text[:40]!a}.")
    return prior


def _refusal(what: str, error: ValidationError) -> Fault:
    """Return the fault of JSON that is not accepted: 400 for what is no JSON, 422 for JSON of another form."""
    if error.error_count() > _MOST_FAULTS:  # to list them takes time
        return Fault(422, f"{what}: {error.error_count():,} values in it are wrong or have no meaning.")
    malformed = any(fault["type"] == "json_invalid" for fault in error.errors(include_input=False))
    return Fault(400 if malformed else 422, f"{what}: {faults(error)}")


def _distinct(names: list[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise Fault(422, "packs: name each pack once.")
    return tuple(names)


def _file_name(part: _Part, number: int) -> str:
    """Return what the answer calls an image: its file name without folders, or its number."""
    name = (part.filename or "").replace("\\", "/").rpartition("/")[2]
    return one_line(name)[:_LONGEST_NAME] or str(number)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
