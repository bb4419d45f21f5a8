"""What a page shows about a pack: the server's page and the one that `lpt export --web` writes."""

from __future__ import annotations

from typing import Any

from lpt.packs.info import PackInfo


def unsure_below(classes: int) -> float:
    """Return the probability below which the most probable class counts as unsure, for a number of classes.

    It is 1 / sqrt(C): half-way, in logarithms, between even odds (1 / C) and certainty (1). For 2 classes it is 0.71,
    for 10 classes 0.32, for 100 classes 0.1, for 1,000 classes 0.03.
    """
    return float(classes**-0.5)


def pack_facts(name: str, info: PackInfo) -> dict[str, Any]:
    """Return the facts about a pack as JSON takes them: its classes, measures, probabilities and backbone."""
    grouped = info.uses_group_prompts
    return {
        "name": name,
        "method": info.method.name,
        "classes": class_facts(info),
        "shots": info.shots.model_dump(),
        "pool_size": info.method.pool_size if grouped else None,
        "top_k": info.method.top_k if grouped else None,
        "metrics": info.metrics,
        "probabilities": info.probabilities.model_dump() | {"meaning": probability_meaning(info)},
        "rejection": None if info.rejection is None else info.rejection.model_dump(),
        "backbone": {
            "name": info.backbone.name,
            "sha256": info.backbone.weight_hash,
            "licence": info.backbone.licence,
        },
        "input_size": list(info.preprocessing.size),
        "test_crop": info.preprocessing.test_crop,
        "pack_sha256": info.tensors_sha256,
    }


def class_facts(info: PackInfo) -> list[dict[str, Any]]:
    """Return name, training images, shot group and most picked group prompts of each class.

    What is not known is None.
    """
    if not info.counts_known:
        return [
            {"class": name, "training_images": None, "shot_group": None, "groups": None} for name in info.class_names
        ]
    shots = [info.shot_groups.names[index] for index in info.shot_groups.of(info.class_counts)]
    groups = [None] * len(shots) if info.group_use is None else [list(picked) for picked in info.group_use.classes]
    return [
        {"class": name, "training_images": count, "shot_group": shot, "groups": picked}
        for name, count, shot, picked in zip(info.class_names, info.class_counts, shots, groups, strict=True)
    ]


def probability_meaning(info: PackInfo) -> str:
    """Say in plain words what the probabilities of a pack mean."""
    setting = info.probabilities
    even = setting.classes == "even"
    assumed = "each class were equally frequent" if even else "classes were as frequent as in training"
    fitted = (
        "They were not fitted to held-out images, so they may be too high or too low."
        if setting.temperature == 1
        else f"They were fitted to {setting.fitted_on}."
    )
    return (
        f"They say how likely each class is if {assumed}. {fitted} Give a prior if you know how frequent the classes "
        "are where your images come from."
    )
