"""After training: write the pack and the report of a run."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.fit.measure import RunMeasures, trained_phases
from lpt.commands.fit.portable import portable_settings
from lpt.commands.fit.prepare import Prepared
from lpt.config.schema import BackboneConfig
from lpt.data.sample import SAMPLE, sample_files
from lpt.errors import RunError
from lpt.evaluation.measured import Measured
from lpt.evaluation.metrics import Metrics
from lpt.model import Classifier, build_model
from lpt.model.build import sizes_of
from lpt.model.consent import needed_options
from lpt.model.pretrained import load_backbone
from lpt.packs.info import MOST_CLASSES_WITH_USE, GroupUse, PackInfo
from lpt.packs.pack import Pack, encode_tensors, load_pack, write_pack
from lpt.packs.reference import make_reference
from lpt.packs.temperature import LEAST_FOR_TEMPERATURE
from lpt.report.card import model_card
from lpt.report.run_files import (
    write_losses,
    write_measured,
    write_metrics,
    write_predictions,
)
from lpt.report.tables import metrics_table
from lpt.training.folder import RunFolder


def write_result(
    prepared: Prepared,
    folder: RunFolder,
    model: Classifier,
    measures: RunMeasures,
    peak_memory: int,
) -> Pack:
    """Write pack, tables and plots. metrics.json comes last: it marks a finished run."""
    folder.check_there()
    records, measured = list(folder.records()), measures.measured
    metrics = {split: result.metrics for split, result in measured.items()}
    content = encode_tensors(model.state_dict())
    info = _pack_info(prepared, model, content, measures)
    write_pack(folder.pack, info, content, model_card(info, metrics, len(content)))
    _write_tables(prepared, folder, measured, info)
    write_losses(folder.path, records)
    write_metrics(folder.metrics, measured, _run_facts(prepared, folder, info, len(content), records, peak_memory))
    return load_pack(folder.pack)


def _write_tables(prepared: Prepared, folder: RunFolder, measured: dict[str, Measured], info: PackInfo) -> None:
    """Write tables and plots of the test split; without one, of the validation split."""
    splits = {"test": prepared.splits.test, "validation": prepared.splits.validation}
    for name, images in splits.items():
        if name in measured and images is not None:
            write_measured(folder.path, measured[name], prepared.splits.class_names, info.method.pool_size)
            scale, temperature = info.probabilities.scale, info.probabilities.temperature
            write_predictions(folder.predictions, measured[name].predictions, images, scale, temperature)
            return


def _run_facts(
    prepared: Prepared,
    folder: RunFolder,
    info: PackInfo,
    pack_bytes: int,
    records: list[dict[str, Any]],
    peak_memory: int,
) -> dict[str, Any]:
    """Return what else metrics.json says: cost, sizes, machine, versions, seed."""
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
    """Print the table of results, where the files are, and the next command; the backbone as the user named it."""
    if measured:
        console.print(metrics_table(measured))
    else:
        console.print("Nothing was measured: there is neither a test nor a validation split (add --test 0.2).")
    validation = measured.get("validation")
    if validation is not None and validation.images < LEAST_FOR_TEMPERATURE:
        console.print(
            f"Probabilities are not calibrated, and there is no threshold for --reject: {LEAST_FOR_TEMPERATURE} "
            f"validation images are needed, and there are {validation.images}. Later: lpt calibrate PACK MORE_IMAGES "
            "--output NEW",
            markup=False,
        )
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
    """Return the metrics of a finished run.

    Raises:
        RunError: its metrics.json is damaged.
    """
    try:
        values = json.loads(folder.metrics.read_text(encoding="utf-8"))
        return {name: Metrics.from_dict(values[name]) for name in ("test", "validation") if name in values}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.metrics} is damaged ({error}). Remove it and give the same command: the run measures again and "
            "writes it anew."
        ) from None


def _pack_info(prepared: Prepared, model: Classifier, content: bytes, measures: RunMeasures) -> PackInfo:
    measured, config, phases = measures.measured, prepared.config, trained_phases(prepared)
    return PackInfo.of(
        backbone=prepared.backbone.record,
        preprocessing=prepared.preprocessing,
        class_names=prepared.splits.class_names,
        class_counts=prepared.splits.counts_before_cut.tolist(),
        shot_groups=prepared.groups,
        method=config.method,
        architecture=config.model.model_copy(update=sizes_of(model)),
        phases=phases,
        probabilities=measures.probabilities,
        reference=make_reference(_float32_twin(prepared, model), group_prompts=2 in phases),
        tensors=content,
        metrics={name: result.metrics.to_dict() for name, result in measured.items()},
        training={**portable_settings(config, prepared.splits), SAMPLE: sample_files(prepared.splits.train)},
        group_use=_group_use(measured, config.model.pool_size),
        rejection=measures.rejection,
    )


def _group_use(measured: dict[str, Measured], pool_size: int) -> GroupUse | None:
    """Return the group prompts that each class picks most, of the first split that was measured."""
    for split, result in measured.items():
        classes = result.most_used_groups(pool_size)
        if classes is not None and len(classes) <= MOST_CLASSES_WITH_USE:
            return GroupUse(split=split, classes=classes)
    return None


def _float32_twin(prepared: Prepared, model: Classifier) -> Classifier:
    """Return the model on a newly loaded float32 backbone on the CPU, as a reader of the pack will have it."""
    record = prepared.backbone.record
    checkpoint = None if record.checkpoint is None else Path(record.checkpoint)
    backbone = load_backbone(record.name, checkpoint=checkpoint, image_size=prepared.preprocessing.size)
    twin = build_model(prepared.config.model, backbone, len(model.head.weight))
    twin.load_state_dict({name: tensor.float().cpu() for name, tensor in model.state_dict().items()})
    return twin
