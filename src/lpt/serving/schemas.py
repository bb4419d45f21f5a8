"""The shapes of what the server answers, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from lpt.packs.prior import PRIORS
from lpt.serving.forms import CompareBody, PredictBody

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A red pixel: an example that every server answers."""


class ErrorDetail(BaseModel):
    """What is wrong."""

    status: int = Field(examples=[422])
    code: str = Field(description="For programs.", examples=["unreadable_image"])
    message: str = Field(description="For people.", examples=["photo.jpg: cannot be read as an image: ..."])
    request_id: str = Field(description="As in the header X-Request-ID and in the log.")


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorDetail


class ClassShare(BaseModel):
    """A class of an answer."""

    class_: str = Field(alias="class", examples=["arctic fox"])
    probability: float = Field(ge=0, le=1)
    training_images: int | None = Field(ge=0, description="null: the pack does not know.")
    shot_group: Literal["many", "medium", "few"] | None


class Attention(BaseModel):
    """Attention of the class token to each patch in the last block, mean over the heads."""

    rows: int
    columns: int
    values: list[float] = Field(description="Row by row.")


class PredictionAnswer(BaseModel):
    """What a pack says about an image."""

    image: str = Field(description="File name, or number in the request.")
    classes: list[ClassShare] = Field(description="The most probable classes, best first.")
    groups: list[int] = Field(description="Picked group prompts, closest first; empty if the pack uses none.")
    unsure: bool = Field(description="Whether the top probability lies below 1 / sqrt(number of classes).")
    attention: Attention | None
    rejected: bool | None = Field(description="Whether it shows none of the classes; null unless asked for.")
    known_score: float | None = Field(description="Below 0: rejected; null unless asked for.")


class PackAnswer(BaseModel):
    """Predictions of a pack."""

    request_id: str
    pack: str
    predictions: list[PredictionAnswer] = Field(description="In the order of the images.")


class PackResult(BaseModel):
    """Predictions of one of several packs."""

    pack: str
    predictions: list[PredictionAnswer]


class CompareAnswer(BaseModel):
    """Predictions of several packs for the same images."""

    request_id: str
    results: list[PackResult]


class PackLine(BaseModel):
    """A pack in the list."""

    name: str
    method: str
    classes: int
    input_size: list[int] = Field(description="Height and width, pixels.")
    backbone: str
    uses_group_prompts: bool


class PackList(BaseModel):
    """The packs."""

    packs: list[PackLine]


class ClassInfo(BaseModel):
    """A class of a pack."""

    class_: str = Field(alias="class")
    training_images: int | None
    shot_group: Literal["many", "medium", "few"] | None
    groups: list[int] | None = Field(description="Group prompts that its images pick most, if the pack knows them.")


class PackDetails(BaseModel):
    """A pack."""

    name: str
    method: str
    classes: list[ClassInfo]
    shots: dict[str, int]
    pool_size: int | None
    top_k: int | None
    metrics: dict[str, Any]
    probabilities: dict[str, Any]
    rejection: dict[str, Any] | None = Field(description="The threshold for images of its classes, if it has one.")
    backbone: dict[str, str]
    input_size: list[int]
    test_crop: float = Field(description="Side of the central part that the network sees, as a share of the image's.")
    pack_sha256: str


class PackEvent(BaseModel):
    """What happened to a pack."""

    time: str
    pack: str
    event: Literal["added", "replaced", "removed", "refused"]
    message: str


class PackLog(BaseModel):
    """What happened to the packs."""

    events: list[PackEvent]


class Health(BaseModel):
    """Whether the server works."""

    status: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route."""
    return {status: {"model": ErrorAnswer} for status in statuses}


ASKED = errors(400, 401, 403, 404, 408, 413, 415, 421, 422, 429, 500, 503, 504)
READ = errors(401, 403, 404, 421, 500, 503)


def _form(*, compare: bool) -> dict[str, Any]:
    images = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    flag = {"type": "boolean"}
    named = {"type": "string", "enum": list(PRIORS)}
    numbers = {"top_k": {"type": "integer", "minimum": 1}, "attention": flag, "reject": flag}
    if compare:
        packs = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        return {
            "type": "object",
            "properties": {"packs": packs, "images": images, **numbers, "prior": named},
            "required": ["packs", "images"],
            "additionalProperties": False,
        }
    shares = {"type": "string", "description": 'JSON, such as {"cat": 0.9, "dog": 0.1}.'}
    prior = {"anyOf": [named, shares]}
    return {
        "type": "object",
        "properties": {"images": images, **numbers, "prior": prior},
        "required": ["images"],
        "additionalProperties": False,
    }


def request_body(*, compare: bool) -> dict[str, Any]:
    """Describe the bodies that a prediction accepts, which the server reads itself."""
    model = CompareBody if compare else PredictBody
    example = ({"packs": ["a", "b"]} if compare else {}) | {"images": [_PIXEL], "top_k": 3}
    json = {"schema": model.model_json_schema(), "example": example}
    content = {"application/json": json, "multipart/form-data": {"schema": _form(compare=compare)}}
    if not compare:
        binary = {"schema": {"type": "string", "format": "binary"}}
        content |= {"image/*": binary, "application/octet-stream": binary}
    return {"requestBody": {"required": True, "content": content}}
