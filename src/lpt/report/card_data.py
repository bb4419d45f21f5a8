"""The metadata at the head of a model card, which the Hugging Face Hub reads: licence, base model, tags, results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lpt.config.bounds import one_line
from lpt.config.recipes import METHODS
from lpt.evaluation.metrics import Metrics
from lpt.model.consent import hub_repository
from lpt.packs.info import PackInfo

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIBRARY, TASK = "lpt", "image-classification"
_LICENCES = frozenset(
    ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
     "cc-by-nc-sa-4.0", "gemma", "apple-ascl", "apple-amlr", "gpl-3.0", "unlicense", "openrail", "unknown")
)  # fmt: skip
"""Identifiers that the hub knows, of those that weights of timm have; another licence is `other`, with its name."""
_LONGEST = 200


def card_metadata(info: PackInfo, measured: dict[str, Metrics]) -> str:
    """Return the YAML of a pack for the hub; a text in it may hold any character.

    Args:
        info: description of the pack.
        measured: metrics by split name; empty if nothing was measured.
    """
    from huggingface_hub import ModelCardData

    licence = info.backbone.licence
    known = licence in _LICENCES
    base_model = hub_repository(info.backbone)
    data = ModelCardData(
        license=licence if known else "other",
        license_name=None if known else re.sub(r"[^a-z0-9.-]+", "-", licence.lower()).strip("-") or "other",
        library_name=LIBRARY,
        pipeline_tag=TASK,
        base_model=base_model,
        base_model_relation=None if base_model is None else "adapter",
        tags=_tags(info),
        model_name=f"{title_of(info.method.name)} on {data_name(info)}" if measured else None,
        eval_results=_results(info, measured) or None,
    )
    return str(data.to_yaml(line_break="\n"))


def data_name(info: PackInfo) -> str:
    """Name the data that a pack was trained on, as one line without folders."""
    source = info.trained_with("data", "source")
    return one_line(source)[:_LONGEST] if isinstance(source, str) else "images of its maker"


def title_of(name: str) -> str:
    """Return the name of a method in tables."""
    return METHODS[name].title if name in METHODS else name


def _tags(info: PackInfo) -> list[str]:
    method = ["prompt-tuning", "long-tailed-prompt-tuning"] if info.method.grouped else [one_line(info.method.name)]
    return [TASK, "long-tailed-recognition", *method, "vision-transformer", "timm"]


def _results(info: PackInfo, measured: dict[str, Metrics]) -> list[EvalResult]:
    """Return the results of each split as the hub takes them: a share of 1 for each measure."""
    from huggingface_hub import EvalResult

    name = data_name(info)
    return [
        EvalResult(
            task_type=TASK,
            task_name="Image Classification",
            dataset_type=_data_type(info),
            dataset_name=name,
            dataset_split=one_line(split),
            metric_type="accuracy",
            metric_name=title,
            metric_value=round(value, 4),
        )
        for split, metrics in measured.items()
        for title, value in _measures(metrics)
        if value is not None
    ]


def _data_type(info: PackInfo) -> str:
    """Return the name of a data set of the hub; for images of a folder or table what the hub calls these."""
    dataset = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?::.*)?", data_name(info), re.ASCII)
    return "imagefolder" if dataset is None else dataset[1]


def _measures(metrics: Metrics) -> list[tuple[str, float | None]]:
    return [
        ("Accuracy", metrics.overall),
        ("Accuracy, mean per class", metrics.mean_per_class),
        ("Accuracy of many-shot classes", metrics.many),
        ("Accuracy of medium-shot classes", metrics.medium),
        ("Accuracy of few-shot classes", metrics.few),
    ]
