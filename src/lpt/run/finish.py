"""After training: the model measured, packed and reported."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.config.architecture import Architecture
from lpt.config.schema import BackboneConfig
from lpt.data.manifest import LabelledImages
from lpt.evaluation.calibration import fit_temperature
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.evaluation.metrics import Metrics
from lpt.evaluation.predictions import Predictions, predict_split
from lpt.model import Classifier, build_model
from lpt.model.build import sizes_of
from lpt.model.consent import needed_options
from lpt.model.pretrained import load_backbone
from lpt.packs.files import sha256
from lpt.packs.info import (
    FORMAT_VERSION,
    Method,
    PackInfo,
    Probabilities,
    Shots,
    Versions,
)
from lpt.packs.pack import Pack, encode_tensors, load_pack, write_pack
from lpt.packs.reference import make_reference
from lpt.report.card import model_card
from lpt.report.progress import image_bar
from lpt.report.run_files import (
    write_losses,
    write_measured,
    write_metrics,
    write_predictions,
)
from lpt.report.tables import metrics_table
from lpt.run.portable import portable_settings
from lpt.run.prepare import Prepared
from lpt.training.folder import RunFolder
from lpt.training.phase_data import images_at_once, phase_plan
from lpt.training.phases import PHASES

LEAST_FOR_TEMPERATURE = 50
NO_VALIDATION = "nothing (no validation split); temperature 1"


def trained_phases(prepared: Prepared) -> list[int]:
    """The phases a run goes through."""
    return [phase for phase in PHASES if phase_plan(prepared.config, phase).steps]


def predict_images(
    prepared: Prepared, model: Classifier, images: LabelledImages, *, grouped: bool, console: Console
) -> Predictions:
    """A model's predictions for a split, with a bar; all views of an image are in the same pass."""
    with image_bar(console, "measuring", len(images)) as progress:
        return predict_split(
            model,
            images,
            prepared.preprocessing,
            group_prompts=grouped,
            batch_size=images_at_once(prepared.config, prepared.preprocessing.test_views),
            workers=int(prepared.config.runtime.workers),
            progress=progress,
            processes=prepared.processes,
        )


def measure_run(prepared: Prepared, model: Classifier, console: Console) -> tuple[dict[str, Measured], Probabilities]:
    """Metrics on the splits there are; the temperature comes from the validation split and is applied to all."""
    grouped = 2 in trained_phases(prepared)
    splits = {"test": prepared.splits.test, "validation": prepared.splits.validation}
    predictions = {
        name: predict_images(prepared, model, images, grouped=grouped, console=console)
        for name, images in splits.items()
        if images is not None and len(images)
    }
    setting = Probabilities(scale=prepared.config.loss.scale, temperature=1.0, fitted_on=NO_VALIDATION)
    if "validation" in predictions:
        setting = fitted_probabilities(predictions["validation"], setting.scale)
    setting.classes = "even" if prepared.config.balances_classes else "training"
    measured = {
        name: measure_predictions(
            one,
            prepared.splits.counts_before_cut,
            prepared.groups,
            scale=setting.scale,
            temperature=setting.temperature,
        )
        for name, one in predictions.items()
    }
    return measured, setting


def fitted_probabilities(held_out: Predictions, scale: float) -> Probabilities:
    """The temperature that suits held-out images; 1 where they are too few, or all recognised, to tell."""
    count = len(held_out.labels)
    mistakes = int((held_out.scores.argmax(axis=1) != held_out.labels).sum())
    if count < LEAST_FOR_TEMPERATURE or not mistakes:
        reason = f"nothing ({count} validation images, {mistakes} mistakes: too few); temperature 1"
        return Probabilities(scale=scale, temperature=1.0, fitted_on=reason)
    temperature = fit_temperature(held_out.scores, held_out.labels, scale)
    return Probabilities(scale=scale, temperature=temperature, fitted_on=f"{count} validation images")


def write_result(
    prepared: Prepared,
    folder: RunFolder,
    model: Classifier,
    measured: dict[str, Measured],
    setting: Probabilities,
    peak_memory: int,
) -> Pack:
    """Write pack, tables and plots; metrics.json last, which is the mark of a finished run."""
    records = list(folder.records())
    metrics = {name: one.metrics for name, one in measured.items()}
    content = encode_tensors(model.state_dict())
    info = _pack_info(prepared, model, content, metrics, setting)
    write_pack(folder.pack, info, content, model_card(info, metrics, len(content)))
    for name in ("test", "validation"):
        if name in measured:
            write_measured(folder.path, measured[name], prepared.splits.class_names, info.method.pool_size)
            images = prepared.splits.test if name == "test" else prepared.splits.validation
            assert images is not None
            probable = setting.scale, setting.temperature
            write_predictions(folder.predictions, measured[name].predictions, images, *probable)
            break
    write_losses(folder.path, records)
    write_metrics(folder.metrics, measured, run_facts(prepared, folder, info, len(content), records, peak_memory))
    return load_pack(folder.pack)


def run_facts(
    prepared: Prepared,
    folder: RunFolder,
    info: PackInfo,
    pack_bytes: int,
    records: list[dict[str, Any]],
    peak_memory: int,
) -> dict[str, Any]:
    """What else metrics.json says: cost, sizes, machine, versions, seed."""
    head = len(info.class_names) * (prepared.backbone.width + (info.method.head == "linear"))
    prompts = info.method.trainable_parameters - head
    return {
        "preset": prepared.config.preset,
        "method": prepared.config.method,
        "seed": prepared.config.runtime.seed,
        "train_images": len(prepared.splits.train),
        "image_draws": len(records) * prepared.config.step_draws,
        "train_seconds": round(sum(record["seconds"] for record in records) + folder.preparing_seconds(), 3),
        "peak_memory_bytes": peak_memory,
        "pack_bytes": pack_bytes,
        "trainable_parameters": info.method.trainable_parameters,
        "share_of_backbone": info.method.share_of_backbone,
        "prompt_share_of_backbone": prompts / info.backbone.parameters,
        "machine": prepared.machine.describe(),
        "versions": info.versions.model_dump(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def print_result(
    folder: RunFolder, pack: Pack, measured: dict[str, Metrics], backbone: BackboneConfig, console: Console
) -> None:
    """The table at the end, and where everything is; the backbone is the one the run was given."""
    if measured:
        console.print(metrics_table(measured))
    else:
        console.print("Nothing was measured: there is neither a test nor a validation split (add --val 0.1).")
    method = pack.info.method
    console.print(
        f"Pack: {folder.pack} ({pack.stored_bytes / 2**20:.2f} MiB, {method.trainable_parameters:,} numbers, "
        f"{100 * method.share_of_backbone:.1f} % of the backbone's {pack.info.backbone.parameters / 1e6:.1f} M)",
        markup=False,
    )
    console.print(f"Plots, metrics.json, per_class.csv, log.jsonl: {folder.path}", markup=False)
    options = needed_options(pack.info.backbone, name=backbone.name, checkpoint=backbone.checkpoint)
    command = ["lpt", "predict", str(folder.pack), "IMAGE_OR_FOLDER", *options]
    console.print(f"Next: {shlex.join(command)}", markup=False)


def stored_metrics(folder: RunFolder) -> dict[str, Metrics]:
    """The metrics of a finished run."""
    values = json.loads(folder.metrics.read_text(encoding="utf-8"))
    return {name: Metrics.from_dict(values[name]) for name in ("test", "validation") if name in values}


def _pack_info(
    prepared: Prepared, model: Classifier, content: bytes, metrics: dict[str, Metrics], setting: Probabilities
) -> PackInfo:
    config, record = prepared.config, prepared.backbone.record
    trainable = sum(tensor.numel() for tensor in model.state_dict().values())
    phases = trained_phases(prepared)
    info = PackInfo(
        format_version=FORMAT_VERSION,
        versions=Versions.here(),
        backbone=record.without_folders(),
        preprocessing=prepared.preprocessing,
        class_names=list(prepared.splits.class_names),
        class_counts=prepared.splits.counts_before_cut.tolist(),
        shots=Shots(few_below=config.data.few_below, many_above=config.data.many_above),
        method=Method(
            **config.model.model_dump(include=set(Architecture.model_fields)) | sizes_of(model),
            name=config.method,
            phases=phases,
            trainable_parameters=trainable,
            share_of_backbone=trainable / record.parameters,
        ),
        probabilities=setting,
        metrics={name: one.to_dict() for name, one in metrics.items()},
        training=portable_settings(config, prepared.splits),
        reference=make_reference(_float32_twin(prepared, model), group_prompts=2 in phases),
        tensors_sha256=sha256(content),
    )
    return info


def _float32_twin(prepared: Prepared, model: Classifier) -> Classifier:
    """The model on a freshly loaded float32 backbone on the CPU: what a reader of the pack will have."""
    record = prepared.backbone.record
    checkpoint = None if record.checkpoint is None else Path(record.checkpoint)
    backbone = load_backbone(record.name, checkpoint=checkpoint, image_size=prepared.preprocessing.size)
    twin = build_model(prepared.config.model, backbone, len(model.head.weight))
    twin.load_state_dict({name: tensor.float().cpu() for name, tensor in model.state_dict().items()})
    return twin
