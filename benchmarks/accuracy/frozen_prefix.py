"""What a kept frozen prefix and cheaper queries do to accuracy and to the cost of phase 2, on CIFAR-100-LT.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.accuracy.frozen_prefix --seeds 0 1 2

Everything is measured on the development cut (DESIGN section 6: 50 training images of each class held out, the rest cut
long-tailed); test images are not read. For each seed phase 1 is trained once through `lpt.fit`; every trial then
trains phase 2 from there, with the same draws:

- `fresh`: a new augmentation for every draw, nothing kept (what `lpt fit` does by default);
- `views V`: V kept views of each image (`--set prefix_cache.views=V`), the exact query;
- `class token`: 4 kept views, and the query is the normed class token after block K, which costs nothing;
- `projection`: likewise, with a linear map of it fitted to the exact queries of the kept training views by least
  squares. Inference would then need one pass.

Finished trials are kept in the output file and not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import lpt
from benchmarks.accuracy.cifar100_cuts import CIFAR100, GROUPS, open_cifar
from lpt.commands.fit.prepare import Prepared, prepare
from lpt.commands.fit.request import RunRequest
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import LabelledImages
from lpt.evaluation.metrics import measure
from lpt.model import LPT, Encoded
from lpt.packs.info import Versions
from lpt.system.files import write_json
from lpt.system.hardware import inspect_machine, reproducible
from lpt.training.batches import Batch, Batches
from lpt.training.initial import groups_from_shared
from lpt.training.loop import train_steps
from lpt.training.phase_data import PhaseData
from lpt.training.phases import build_objective
from lpt.training.prefix_cache import PrefixCache
from lpt.training.schedule import build_optimizer

Query = Callable[[Encoded], Tensor]
QUERY_VIEWS = 4


@dataclass(frozen=True)
class Requeried:
    """A batch whose queries come from its tokens."""

    batch: Batch
    query: Query

    @property
    def labels(self) -> Tensor:
        return self.batch.labels

    def inputs(self, rows: slice, device: torch.device) -> Encoded:
        encoded = self.batch.inputs(rows, device)
        assert isinstance(encoded, Encoded)
        return Encoded(encoded.tokens, self.query(encoded))


def exact(encoded: Encoded) -> Tensor:
    return encoded.query


def class_token(model: LPT) -> Query:
    return lambda encoded: model.backbone.norm(encoded.tokens[:, 0].to(model.backbone.dtype)).float()


def projection(model: LPT, cache: PrefixCache, rows: int = 8192) -> Query:
    """Least squares, with a little ridge, from the class token at block K to the exact query, over kept views."""
    picked = np.random.default_rng(0).permutation(cache.numbers)[:rows]
    kept = cache.batch(picked, np.zeros(len(picked), dtype=np.int64)).inputs(slice(None), torch.device("cpu"))
    assert isinstance(kept, Encoded)
    source = _with_one(class_token(model)(kept)).double()
    weight = torch.linalg.solve(
        source.T @ source + 1e-3 * len(source) * torch.eye(source.shape[1], dtype=torch.float64),
        source.T @ kept.query.double(),
    ).float()
    return lambda encoded: _with_one(class_token(model)(encoded)) @ weight


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


class Study:
    """Phase 1 of one seed, and trials of phase 2 from it."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        splits = open_cifar(args.source, imbalance=100, development=True, seed=seed)
        assert splits.test is not None
        settings = [f"image.size={args.size}", f"runtime.seed={seed}", f"train.phase1.epochs={args.epochs[0]}"]
        settings += ["model.adapter_size=0", f"train.phase2.epochs={args.epochs[1]}", *args.set]
        folder = args.runs / f"frozen_prefix_{args.size}_seed{seed}"
        if (folder / "config.yaml").exists():
            lpt.resume(folder, splits, console=Console())
        else:
            lpt.fit(splits, folder, preset="laptop", settings=[*settings, "train.phase2.epochs=0"], console=Console())
        self.prepared: Prepared = prepare(RunRequest(splits, preset="laptop", settings=settings), read_images=False)
        self.start = {name: torch.from_numpy(t) for name, t in lpt.load_pack(folder / "pack").tensors.items()}
        self.held: LabelledImages = splits.test
        self.counts = splits.counts_before_cut
        self.model = self._model()
        self.encoded = list(self._encoded_held())
        self.caches: dict[int, tuple[PrefixCache, float]] = {}

    def _model(self) -> LPT:
        model = self.prepared.new_model()
        assert isinstance(model, LPT)
        groups = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("groups")}
        model.load_state_dict({**self.start, **groups})
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
        """A filled cache in memory, and the seconds it took."""
        if views not in self.caches:
            self.caches.clear()
            data = self._data(views)
            begun = time.perf_counter()
            cache = data.filled_cache(self.model, data.plan(2))
            self.caches[views] = cache, time.perf_counter() - begun
        return self.caches[views]

    def _data(self, views: int) -> PhaseData:
        config = self.prepared.config.model_copy(deep=True)
        config.prefix_cache.views = views
        return replace(self.prepared.phase_data, config=config)

    def trial(self, name: str, views: int, kind: str) -> dict[str, Any]:
        """Train phase 2 and measure it on the held-out images."""
        data = self._data(views)
        plan = data.plan(2)
        model = self._model()
        filling, kept = 0.0, None
        query: Query = exact
        batches: Batches
        if views:
            kept, filling = self.cache(views)
            batches = data.cached_batches(plan, kept)
            if kind != "exact":
                query = class_token(model) if kind == "class token" else projection(model, kept)
                batches = ({key: Requeried(one, query) for key, one in step.items()} for step in batches)
        else:
            batches = data.batches(plan)
        objective = build_objective(model, data.images, data.config, 2)
        optimizer = build_optimizer(objective.trainable(), plan.settings)
        begun = time.perf_counter()
        train_steps(
            objective,
            optimizer,
            batches,
            plan,
            first_step=0,
            after_step=lambda record, stopping: None,
        )
        seconds = time.perf_counter() - begun
        metrics = self._measured(model, query)
        return {
            "trial": name,
            "views": views,
            "query": kind,
            "metrics": {key: metrics[key] for key in ("overall", "mean_per_class", "many", "medium", "few")},
            "kept_views": 0 if kept is None else len(kept.numbers),
            "kept_bytes": 0 if kept is None else len(kept.numbers) * kept.shape.stored_bytes,
            "filling_seconds": round(filling, 1),
            "steps_seconds": round(seconds, 1),
            "steps": plan.steps,
            "draws": 2 * plan.steps * plan.batch_size,
            **self._agreement(model, query, kind),
        }

    def _measured(self, model: LPT, query: Query) -> dict[str, Any]:
        with torch.inference_mode():
            predicted = [model.classify(Encoded(one.tokens, query(one))).cosines.argmax(dim=1) for one in self.encoded]
        return measure(self.held.labels, torch.cat(predicted).numpy(), self.counts, GROUPS).to_dict()

    def _agreement(self, model: LPT, query: Query, kind: str) -> dict[str, float]:
        """How much a cheap query agrees with the exact one: mean cosine, share of images with the same best key."""
        if kind == "exact":
            return {}
        with torch.inference_mode():
            cheap, right = (torch.cat([rule(one) for one in self.encoded]) for rule in (query, exact))
            best = [model.groups.match(queries, 1).groups for queries in (cheap, right)]
        return {
            "query_cosine": round(float(torch.cosine_similarity(cheap, right).mean()), 4),
            "same_best_key": round(float((best[0] == best[1]).float().mean()), 4),
        }


def trials_of(args: argparse.Namespace, seed: int) -> list[tuple[str, int, str]]:
    """Name, kept views and query of each trial of a seed; the number of views is varied on the first seed alone."""
    views = [0, *args.views] if seed == args.seeds[0] else [QUERY_VIEWS]
    named = [(f"views {count}" if count else "fresh", count, "exact") for count in views]
    return [*named, ("class token", QUERY_VIEWS, "class token"), ("projection", QUERY_VIEWS, "projection")]


def main() -> None:
    """Run what is missing, write after each trial."""
    args = parse_arguments()
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {"trials": []}
    for seed in args.seeds:
        done = {(one["seed"], one["trial"]) for one in results["trials"]}
        wanted = [trial for trial in trials_of(args, seed) if (seed, trial[0]) not in done]
        if not wanted:
            continue
        study = Study(args, seed)
        with reproducible(int(study.prepared.config.runtime.threads)):
            for trial in sorted(wanted, key=lambda one: one[1]):
                row = {"seed": seed, **study.trial(*trial)}
                print(json.dumps(row), flush=True)
                results["trials"].append(row)
                write_json(args.output, results | facts(args, study))


def facts(args: argparse.Namespace, study: Study) -> dict[str, Any]:
    """What a result file says beside its rows."""
    return {
        "what": f"phase 2 on the development cut of CIFAR-100-LT, IF 100, {args.size}x{args.size}, held-out images",
        "command": shlex.join(["python", "-m", "benchmarks.accuracy.frozen_prefix", *sys.argv[1:]]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hardware": inspect_machine().describe(),
        "versions": Versions.here().model_dump() | {"python": platform.python_version()},
        "boundaries": GROUPS.describe(),
        "config": study.prepared.config.model_dump(mode="json"),
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--epochs", type=int, nargs=2, default=(4, 2), help="of phase 1 and of phase 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8], help="tried on the first seed")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings on top of the preset")
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/frozen_prefix.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
