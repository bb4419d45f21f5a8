"""From outputs of the network and descriptions of packs to what the server answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from lpt.data.manifest import Float32Array
from lpt.packs.info import PackInfo
from lpt.packs.pack import Pack
from lpt.packs.prediction import Prediction, describe
from lpt.serving.batcher import Classified
from lpt.serving.forms import Ask
from lpt.serving.shelf import ClassFact, Served, class_facts


def unsure_below(classes: int) -> float:
    """Return the probability below which the top class counts as unsure.

    It is 1 / sqrt(C): half-way, in logarithms, between even odds (1 / C) and certainty (1). For 2 classes it is 0.71,
    for 10 classes 0.32, for 100 classes 0.1, for 1,000 classes 0.03.
    """
    return float(classes**-0.5)


def predictions_of(served: Served | None, classified: Sequence[Classified], ask: Ask) -> list[dict[str, Any]]:
    """Return what the server says about the images of a request for a pack.

    Args:
        served: the pack as it is served now; None if it is gone.
        classified: its images, each with the version of the pack that classified it.
        ask: the request.

    Raises:
        ConfigError: the prior names unknown classes.
        RunError: a probability is not finite.
    """
    predictions: list[dict[str, Any]] = []
    for pack, rows in _by_pack(classified):
        items, outputs = zip(*rows, strict=True)
        facts = served.facts if served is not None and pack is served.pack else class_facts(pack)
        for prediction in describe(items, outputs, top_k=ask.top_k, prior=ask.prior):
            name = ask.images[len(predictions)][0]
            predictions.append(_prediction(name, prediction, facts))
    return predictions


def _by_pack(classified: Sequence[Classified]) -> Iterator[tuple[Pack, list[Classified]]]:
    """Cut outputs into runs of the same pack: it may have been replaced in the middle of a request."""
    for _, rows in groupby(classified, key=lambda row: id(row[0].loaded)):
        listed = list(rows)
        yield listed[0][0].loaded.pack, listed


def _prediction(name: str, prediction: Prediction, facts: dict[str, ClassFact]) -> dict[str, Any]:
    classes = [
        {
            "class": label,
            "probability": probability,
            "training_images": facts[label].training_images,
            "shot_group": facts[label].shot_group,
        }
        for label, probability in zip(prediction.classes, prediction.probabilities, strict=True)
    ]
    return {
        "image": name,
        "classes": classes,
        "groups": list(prediction.groups),
        "unsure": prediction.probability < unsure_below(len(facts)),
        "attention": None if prediction.attention is None else _attention(prediction.attention),
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


def pack_details(served: Served) -> dict[str, Any]:
    """Return everything that the server says about a pack."""
    info = served.pack.info
    groups = _class_groups(info)
    classes = [
        {
            "class": name,
            "training_images": fact.training_images,
            "shot_group": fact.shot_group,
            "groups": None if groups is None else groups[number],
        }
        for number, (name, fact) in enumerate(served.facts.items())
    ]
    grouped = info.uses_group_prompts
    return {
        "name": served.name,
        "method": info.method.name,
        "classes": classes,
        "shots": info.shots.model_dump(),
        "pool_size": info.method.pool_size if grouped else None,
        "top_k": info.method.top_k if grouped else None,
        "metrics": info.metrics,
        "probabilities": info.probabilities.model_dump() | {"meaning": _meaning(info)},
        "backbone": {
            "name": info.backbone.name,
            "sha256": info.backbone.weight_hash,
            "licence": info.backbone.licence,
        },
        "input_size": list(info.preprocessing.size),
        "test_crop": info.preprocessing.test_crop,
        "pack_sha256": info.tensors_sha256,
    }


def _class_groups(info: PackInfo) -> list[list[int]] | None:
    """Return the group prompts that the images of each class pick most, where the pack knows them."""
    use = info.group_use
    return None if use is None else [list(groups) for groups in use.classes]


def _meaning(info: PackInfo) -> str:
    """Say in plain words what the probabilities of a pack mean."""
    setting = info.probabilities
    even = (
        "each class were equally frequent" if setting.classes == "even" else "classes were as frequent as in training"
    )
    fitted = (
        "They were not fitted to held-out images, so they may be too high or too low."
        if setting.temperature == 1
        else f"They were fitted to {setting.fitted_on}."
    )
    return (
        f"They say how likely each class is if {even}. {fitted} Give a prior if you know how frequent the classes are "
        "where your images come from."
    )
