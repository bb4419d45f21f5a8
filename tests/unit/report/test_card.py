"""The model card: metadata that the hub reads whatever a class is called, and a text for strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from lpt.evaluation.metrics import measure
from lpt.model.consent import hub_repository
from lpt.packs.info import PackInfo
from lpt.packs.pack import TENSORS_NAME
from lpt.report.card import model_card
from small_packs import GROUPS, describe, new_model, write

TIMM = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def info(tiny_backbone: Path, tmp_path: Path) -> PackInfo:
    model = new_model(tiny_backbone)
    folder = write(tmp_path / "pack", model)
    return describe(model, (folder / TENSORS_NAME).read_bytes(), [1, 2])


def backbone(info: PackInfo, **changes: Any) -> PackInfo:
    return info.model_copy(update={"backbone": info.backbone.model_copy(update=changes)})


def metadata(card: str) -> dict[str, Any]:
    start, _, _ = card.removeprefix("---\n").partition("\n---\n")
    values: dict[str, Any] = yaml.safe_load(start)
    assert values == ModelCard(card, ignore_metadata_errors=False).data.to_dict()  # the hub's own reading
    return values


def test_the_hub_reads_results_and_base_model(info: PackInfo) -> None:
    metrics = measure([0, 0, 1, 2], [0, 1, 1, 2], info.class_counts, GROUPS)
    without_few = measure([0, 1], [0, 0], info.class_counts, GROUPS)
    known = backbone(info, name=TIMM, checkpoint=None)
    values = metadata(model_card(known, {"test": metrics, "validation": without_few}, 1000))
    assert values["license"] == "apache-2.0"
    assert (values["library_name"], values["pipeline_tag"]) == ("lpt", "image-classification")
    assert (values["base_model"], values["base_model_relation"]) == (f"timm/{TIMM}", "adapter")
    test, validation = values["model-index"][0]["results"]
    assert [test["dataset"]["split"], validation["dataset"]["split"]] == ["test", "validation"]
    assert {measure["name"]: measure["value"] for measure in test["metrics"]} == {
        "Accuracy": 0.75,
        "Accuracy, mean per class": 0.8333,
        "Accuracy of many-shot classes": 0.5,
        "Accuracy of medium-shot classes": 1.0,
        "Accuracy of few-shot classes": 1.0,
    }
    assert len(validation["metrics"]) == 4  # no few-shot class was there
    assert "model-index" not in metadata(model_card(known, {}, 1000))


def test_only_weights_of_the_hub_are_a_base_model(info: PackInfo) -> None:
    """A local file may hold anything; a name that only the user may give is not looked up."""
    names = {
        TIMM: f"timm/{TIMM}",
        "hf-hub:me/vit@v1": "me/vit",
        "local-dir:vit": None,
        "lpt-demo-glyphs": None,
        "no_such_model": None,
    }
    for name, expected in names.items():
        record = backbone(info, name=name, checkpoint=None).backbone
        assert hub_repository(record) == expected
        assert hub_repository(record.model_copy(update={"checkpoint": "local.safetensors"})) is None
    assert "base_model" not in metadata(model_card(info, {}, 1000))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("mit", ("mit", None)), ("DINOv3 License: a\nb", ("other", "dinov3-license-a-b")), ("ß", ("other", "other"))],
)
def test_another_licence_keeps_its_name(info: PackInfo, licence: str, expected: tuple[str, str | None]) -> None:
    values = metadata(model_card(backbone(info, licence=licence), {}, 1000))
    assert (values["license"], values.get("license_name")) == expected


@pytest.mark.parametrize(
    "text",
    ["plain", "a: b", "- a", "---", "x\n---\nlicense: evil\n", "'\"\\ # & * ! | > %", "{{x}}", "null", "1e3", "ä€🦉",
     "\u202ereversed", "tab\there", "\u2028", "\x85", "<script>alert(1)</script>", "a" * 5000, "```\n# b", "[a](http://b)"],
)  # fmt: skip
def test_no_text_breaks_out(text: str, info: PackInfo) -> None:
    """Names of data and classes, which others chose, change neither the metadata's keys nor the layout."""
    metrics = measure([0, 1], [0, 1], info.class_counts, GROUPS)
    plain = model_card(info, {"test": metrics}, 1000)
    hostile = info.model_copy(update={"class_names": [text, *info.class_names[1:]]})
    hostile.training = {"data": {"source": text}}
    card = model_card(hostile, {"test": metrics}, 1000)
    values, expected = metadata(card), metadata(plain)
    assert values.keys() == expected.keys()
    assert values["license"] == expected["license"]
    assert values["model-index"][0]["results"][0]["metrics"] == expected["model-index"][0]["results"][0]["metrics"]
    assert [line for line in card.splitlines() if line.startswith(("#", "```", "---"))] == [
        line for line in plain.splitlines() if line.startswith(("#", "```", "---"))
    ]
    text_part = card.partition("\n# ")[2]
    assert "<script>" not in text_part
    assert "[a](http" not in text_part


def test_a_stranger_reads_what_it_is_weak_at(info: PackInfo) -> None:
    metrics = measure([0, 0, 1, 2], [0, 1, 1, 0], info.class_counts, GROUPS)
    card = model_card(info, {"test": metrics}, 1000)
    for section in ("What it sees", "What it was trained on", "Where it is weak", "Measured", "Use", "Details"):
        assert f"\n## {section}\n" in card
    assert "adder, björn, crane" in card
    assert "1 of 3 classes had fewer than 20 training images" in card
    assert "the few-shot classes are right 0.0 % of the time, the many-shot ones 50.0 %" in card
    info.class_counts[2] = 0
    assert "1 class had no training image at all" in model_card(info, {}, 1000)
