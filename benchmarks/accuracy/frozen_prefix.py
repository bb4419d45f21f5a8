"""Measure what a kept frozen prefix does to accuracy and to the cost of phase 2, on CIFAR-100-LT.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.accuracy.frozen_prefix

Everything is measured on the development cut (DESIGN section 6: 50 training images of each class held out, the rest cut
long-tailed); test images are not read. For each seed phase 1 is trained once through `lpt.fit`. Every trial then trains
phase 2 from there, with the same draws:

- `fresh`: a new augmentation for every draw, nothing kept (the default of `lpt fit`);
- `views V`: V kept views of each image (`--set prefix_cache.views=V`).

Finished trials are kept in the output file and not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.accuracy.cifar100_cuts import CIFAR100, GROUPS, open_cifar
from benchmarks.accuracy.runs import after_phase1, fit_once
from benchmarks.record import describe_machine, describe_run
from lpt.commands.fit.prepare import Prepared, prepare
from lpt.commands.fit.request import RunRequest
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import LabelledImages
from lpt.evaluation.metrics import measure
from lpt.model import LPT, Encoded
from lpt.system.files import write_json
from lpt.system.hardware import reproducible
from lpt.training.batches import Batches
from lpt.training.initial import groups_from_shared
from lpt.training.loop import train_steps
from lpt.training.phase_data import PhaseData
from lpt.training.phases import build_objective
from lpt.training.prefix_cache import PrefixCache
from lpt.training.schedule import build_optimizer


class Study:
    """A trained phase 1 of one seed, and trials of phase 2 from it."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        splits = open_cifar(args.source, imbalance=100, development=True, seed=seed)
        assert splits.test is not None
        settings = [f"image.size={args.size}", f"runtime.seed={seed}", f"train.phase1.epochs={args.epochs[0]}"]
        settings += ["model.adapter_size=0", f"train.phase2.epochs={args.epochs[1]}", *args.set]
        folder = args.runs / f"frozen_prefix_{args.size}_seed{seed}"
        fit_once(splits, folder, [*settings, "train.phase2.epochs=0"], console=Console())
        self.pack = folder / "pack"
        self.prepared: Prepared = prepare(
            RunRequest(splits, preset="laptop", method="lpt", settings=settings), read_images=False
        )
        self.held: LabelledImages = splits.test
        self.counts = splits.counts_before_cut
        self.model = self._model()
        self.encoded = list(self._encoded_held())
        self.caches: dict[int, tuple[PrefixCache, float]] = {}

    def _model(self) -> LPT:
        model = after_phase1(self.prepared, self.pack)
        if self.prepared.config.model.group_init == "shared":
            groups_from_shared(model)
        return model

    def _encoded_held(self) -> Iterator[Encoded]:
        with torch.inference_mode():
            constants = self.model.shared_constants()
            for batch in evaluation_batches(
                self.held, batch_size=50, preprocessing=self.prepared.preprocessing, workers=0
            ):
                yield self.model.encode(self.prepared.preprocessing.normalize(batch.images), constants=constants)

    def cache(self, views: int) -> tuple[PrefixCache, float]:
        """Return a filled cache in memory, and the seconds it took to fill."""
        if views not in self.caches:
            self.caches.clear()
            data = self._data(views)
            start = time.perf_counter()
            cache = data.filled_cache(self.model, data.plan(2))
            self.caches[views] = cache, time.perf_counter() - start
        return self.caches[views]

    def _data(self, views: int) -> PhaseData:
        config = self.prepared.config.model_copy(deep=True)
        config.prefix_cache.views = views
        return replace(self.prepared.phase_data, config=config)

    def trial(self, name: str, views: int) -> dict[str, Any]:
        """Train phase 2 and measure it on the held-out images."""
        data = self._data(views)
        plan = data.plan(2)
        model = self._model()
        filling, cache = 0.0, None
        batches: Batches
        if views:
            cache, filling = self.cache(views)
            batches = data.cached_batches(plan, cache)
        else:
            batches = data.batches(plan)
        objective = build_objective(model, data.images, data.config, 2)
        optimizer = build_optimizer(objective.trainable(), plan.settings)
        start = time.perf_counter()
        train_steps(
            objective,
            optimizer,
            batches,
            plan,
            first_step=0,
            after_step=lambda record, stopping: None,
        )
        seconds = time.perf_counter() - start
        metrics = self._measure(model)
        return {
            "trial": name,
            "views": views,
            "query": "exact",
            "metrics": {key: metrics[key] for key in ("overall", "mean_per_class", "many", "medium", "few")},
            "kept_views": 0 if cache is None else len(cache.numbers),
            "kept_bytes": 0 if cache is None else len(cache.numbers) * cache.shape.stored_bytes,
            "filling_seconds": round(filling, 1),
            "steps_seconds": round(seconds, 1),
            "steps": plan.steps,
            "draws": 2 * plan.steps * plan.batch_size,
        }

    def _measure(self, model: LPT) -> dict[str, Any]:
        with torch.inference_mode():
            predicted = [model.classify(encoded).cosines.argmax(dim=1) for encoded in self.encoded]
        return measure(self.held.labels, torch.cat(predicted).numpy(), self.counts, GROUPS).to_dict()


def main() -> None:
    """Run the trials that are missing, and write the file after each."""
    args = parse_arguments()
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {"trials": []}
    for seed in args.seeds:
        done = {trial["trial"] for trial in results["trials"] if trial["seed"] == seed}
        trials = {f"views {views}" if views else "fresh": views for views in (0, *args.views)}
        missing = {name: views for name, views in trials.items() if name not in done}
        if not missing:
            continue
        study = Study(args, seed)
        with reproducible(int(study.prepared.config.runtime.threads)):
            for name, views in missing.items():
                row = {"seed": seed, **study.trial(name, views)}
                print(json.dumps(row), flush=True)
                results["trials"].append(row)
                write_json(args.output, results | facts(args, study))


def facts(args: argparse.Namespace, study: Study) -> dict[str, Any]:
    """Return what a result file says beside its rows."""
    what = f"phase 2 on the development cut of CIFAR-100-LT, IF 100, {args.size}x{args.size}, held-out images"
    return {
        **describe_run(what, "benchmarks.accuracy.frozen_prefix"),
        **describe_machine(),
        "boundaries": GROUPS.describe(),
        "config": study.prepared.config.model_dump(mode="json"),
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--epochs", type=int, nargs=2, default=(4, 2), help="of phase 1 and of phase 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8], help="kept views, one trial each")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings on top of the preset")
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/frozen_prefix.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
