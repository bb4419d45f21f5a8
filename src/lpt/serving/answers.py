"""From outputs of the network and descriptions of packs to what the server answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from lpt.data.manifest import Float32Array
from lpt.packs.facts import unsure_below
from lpt.packs.pack import Pack
from lpt.packs.prediction import Prediction, describe
from lpt.serving.batcher import Classified
from lpt.serving.forms import Ask
from lpt.serving.shelf import ClassFacts, Served, facts_by_class


def predictions_of(served: Served | None, classified: Sequence[Classified], ask: Ask) -> list[dict[str, Any]]:
    """Return what the server says about the images of a request for a pack.

    Args:
        served: the pack as it is served now; None if it is gone.
        classified: its images, each with the version of the pack that classified it.
        ask: the request.

    Raises:
        ConfigError: the prior names unknown classes, or the pack has no threshold.
        RunError: a probability is not finite.
    """
    predictions: list[dict[str, Any]] = []
    for pack, rows in _by_pack(classified):
        items, outputs = zip(*rows, strict=True)
        facts = served.facts if served is not None and pack is served.pack else facts_by_class(pack)
        for prediction in describe(items, outputs, top_k=ask.top_k, prior=ask.prior, reject=ask.reject):
            name = ask.images[len(predictions)][0]
            predictions.append(_prediction(name, prediction, facts))
    return predictions


def _by_pack(classified: Sequence[Classified]) -> Iterator[tuple[Pack, list[Classified]]]:
    """Cut outputs into runs of the same pack: it may have been replaced in the middle of a request."""
    for _, rows in groupby(classified, key=lambda row: id(row[0].loaded)):
        listed = list(rows)
        yield listed[0][0].loaded.pack, listed


def _prediction(name: str, prediction: Prediction, facts: ClassFacts) -> dict[str, Any]:
    classes = [
        {
            "class": label,
            "probability": probability,
            "training_images": facts[label]["training_images"],
            "shot_group": facts[label]["shot_group"],
        }
        for label, probability in zip(prediction.classes, prediction.probabilities, strict=True)
    ]
    return {
        "image": name,
        "classes": classes,
        "groups": list(prediction.groups),
        "unsure": prediction.probability < unsure_below(len(facts)),
        "attention": None if prediction.attention is None else _attention(prediction.attention),
        "rejected": prediction.rejected,
        "known_score": prediction.known_score,
    }


def _attention(attention: Float32Array) -> dict[str, Any]:
    rows, columns = attention.shape
    return {"rows": rows, "columns": columns, "values": [round(value, 7) for value in attention.ravel().tolist()]}


def pack_line(served: Served) -> dict[str, Any]:
    """Return a pack as the list of packs has it."""
    info = served.pack.info
    return {
        "name": served.name,
        "method": info.method.name,
        "classes": len(info.class_names),
        "input_size": list(info.preprocessing.size),
        "backbone": info.backbone.name,
        "uses_group_prompts": info.uses_group_prompts,
    }
