"""`lpt compare`: every method on the same data, with the same draws, in one table.

A cell is one method on one seed, an ordinary run folder. Finished cells are kept, an interrupted one is gone on with.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from lpt.config import RunConfig, merge, parse_assignments
from lpt.data.manifest import IntArray, Splits
from lpt.errors import ConfigError, LptError, RunError
from lpt.evaluation.metrics import Metrics
from lpt.files import remove_leftovers, write_json
from lpt.methods.recipes import METHODS, method_named
from lpt.pack import Versions, load_pack
from lpt.predictor import Predictor
from lpt.report.comparison import Cell, Comparison, Cost, print_comparison, write_comparison
from lpt.run.dry_run import duration, estimate_run
from lpt.run.fit import fit_prepared, resume_prepared
from lpt.run.inference_cost import inference_ratio
from lpt.run.prepare import Prepared, describe, gather_values, prepare, warn_of_data
from lpt.training.folder import RunFolder
from lpt.training.interrupt import Interrupted

REFERENCE = "lpt"
DEFAULT_METHODS = ("linear-probe", "linear-probe-la", "fine-tuning-la", "vpt-deep", "lift", "lpt")
OWN_SECTIONS = ("model", "loss")
OWN_TRAINING = ("sampling", "batch_size", "phase1", "phase2")
Opener = Callable[[int], Splits]


@dataclass(frozen=True)
class Plan:
    """What a comparison consists of; kept in its folder, so that going on does the same.

    Args:
        methods: names, rows of the table.
        seeds: of every random draw.
        values: the user's configuration, which LPT is trained with.
        own: further values of single methods, by name.
        share: part of the preset's steps that every method is trained for.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Any]
    own: dict[str, dict[str, Any]]
    share: float = 1.0


def compare(
    data: str | Path | Opener | None = None,
    output: str | Path | None = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: Sequence[int] = (0,),
    budget: float | None = None,
    preset: str | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    console: Console | None = None,
) -> Comparison:
    """Train and measure several methods on the same data, with as many image draws each, and compare them with LPT.

    Args:
        data: where the images are, as for `lpt.fit`; or what opens the splits of a seed.
        output: folder of the comparison; one that is there is gone on with. None: `comparison`.
        methods: names from `lpt.methods.recipes.METHODS`.
        seeds: a cell is trained for each.
        budget: minutes that the whole may take, by a few real steps of each method: steps are cut to it. None: all
            steps of the preset.
        preset, config: as for `lpt.fit`; they are about LPT, and what the other methods share with it.
        settings: `section.field=value` likewise, or `METHOD:section.field=value` for one method alone.
        overwrite: throw away another comparison that is in `output`.
        console: where to report; None: silent.

    Raises:
        ConfigError, DataError: something is to be corrected before anything is trained.
        RunError: a cell failed; the others are finished and in the table.
    """
    console = console or Console(quiet=True)
    folder = Path(output or "comparison")
    plan = _plan(data, methods, seeds, preset, config, settings)
    runner = _Runner(folder, plan, data if callable(data) else None, console)
    runner.begin(overwrite=overwrite, budget=budget)
    failed = runner.train()
    comparison = runner.collect(failed)
    summary = write_comparison(folder, comparison)
    print_comparison(comparison, console, summary=summary)
    console.print(f"Tables, plots and the run of every cell: {folder}", markup=False)
    if failed:
        told = "\n".join(f"  {method}, seed {seed}: {reason}" for (method, seed), reason in failed.items())
        raise RunError(f"{len(failed)} cells failed, the others are in {folder}:\n{told}")
    return comparison


def cell_values(plan: Plan, method: str, base: RunConfig) -> dict[str, Any]:
    """The configuration that a method is trained with, over the preset's.

    LPT has the user's values. The other methods share data, backbone, pictures and machine with it, and take what is
    trained, loss and rates from their recipe, for the same draws.

    Args:
        plan: the comparison.
        method: its name.
        base: LPT's configuration.
    """
    values = plan.values
    if method != REFERENCE:
        train = {key: value for key, value in values.get("train", {}).items() if key not in OWN_TRAINING}
        shared = {key: value for key, value in values.items() if key not in OWN_SECTIONS}
        values = merge({**shared, "train": train}, METHODS[method].values(base))
    return merge(values, {"method": method, **plan.own.get(method, {})})


class _Runner:
    """Trains what is missing of a comparison and gathers what is there."""

    def __init__(self, folder: Path, plan: Plan, opener: Opener | None, console: Console) -> None:
        self.folder, self.plan, self.opener, self.console = folder, plan, opener, console
        self._opened: tuple[int, Prepared] | None = None
        self._base: Prepared | None = None

    def begin(self, *, overwrite: bool, budget: float | None) -> None:
        """Check everything, and write down or read back the plan."""
        plan_file = self.folder / "plan.json"
        remove_leftovers(self.folder)
        if self.folder.is_dir() and any(self.folder.iterdir()) and not plan_file.is_file():
            raise RunError(f"{self.folder} holds files and is no comparison of lpt; choose another with --output")
        before = json.loads(plan_file.read_text(encoding="utf-8")) if plan_file.is_file() else None
        asked = {"values": self.plan.values, "own": self.plan.own, "budget_minutes": budget}
        if before is not None and {key: before[key] for key in asked} != json.loads(json.dumps(asked, default=str)):
            if not overwrite:
                raise RunError(
                    f"{self.folder} holds a comparison with other settings (plan.json says which). Choose another "
                    "folder with --output, or throw its table away with --overwrite; finished cells of the same "
                    "settings are kept by giving the same command again."
                )
            before = None
            for cell in sorted((self.folder / "runs").glob("*/seed*")):
                RunFolder.create(cell, overwrite=True)
        prepared = self.prepared(self.plan.seeds[0])
        describe(prepared, self.console)
        warn_of_data(prepared, self.console)
        for method in self.plan.methods:
            self.cell(method, self.plan.seeds[0])  # a fault in any method's settings stops here
        share = 1.0 if before is None else float(before["share"])
        if before is None and budget is not None:
            share = self._share_for(budget)
        self.plan = Plan(self.plan.methods, self.plan.seeds, self.plan.values, self.plan.own, share)
        write_json(plan_file, {**json.loads(json.dumps(asked, default=str)), "share": share})

    def prepared(self, seed: int) -> Prepared:
        """LPT's run of a seed, with the splits that all methods share."""
        if self._opened is None or self._opened[0] != seed:
            values = merge(self.plan.values, {"runtime": {"seed": seed}})
            splits = None if self.opener is None else self.opener(seed)
            self._opened = seed, prepare(splits, config=values, read_images=self._base is None, console=self.console)
            self._base = self._base or self._opened[1]
        return self._opened[1]

    def cell(self, method: str, seed: int) -> Prepared:
        """The run of a cell, checked."""
        base = self.prepared(seed)
        values = merge(cell_values(self.plan, method, base.config), {"runtime": {"seed": seed}})
        steps = max(round(self.plan.share * int(base.config.train.epoch_steps)), 1)
        values = merge(values, {"train": {"epoch_steps": steps}})
        return prepare(base.splits, config=values, read_images=False)

    def train(self) -> dict[tuple[str, int], str]:
        """Train every cell that is not finished; what failed, with its reason."""
        failed: dict[tuple[str, int], str] = {}
        cells = [(method, seed) for seed in self.plan.seeds for method in self.plan.methods]
        for number, (method, seed) in enumerate(cells, start=1):
            run = self.run_folder(method, seed)
            said = f"{number} of {len(cells)}: {METHODS[method].title}, seed {seed}"
            if run.finished:
                self.console.print(f"[dim]{escape(said)}: done before[/dim]")
                continue
            self.console.print(f"[bold]{escape(said)}[/bold]")
            try:
                self._train_cell(method, seed, run)
            except Interrupted:
                raise Interrupted(
                    f"stopped in {said}; everything is saved in {self.folder}\nGo on with the same command."
                ) from None
            except LptError as error:
                failed[method, seed] = str(error)
                self.console.print(f"  failed: {error}", style="red", markup=False)
        return failed

    def _train_cell(self, method: str, seed: int, run: RunFolder) -> None:
        prepared = self.cell(method, seed)
        if run.config.is_file():
            result = resume_prepared(prepared, run, self.console)
        else:
            result = fit_prepared(prepared, run.path, overwrite=True, console=self.console)
        one = result.metrics["test"]
        few = "–" if one.few is None else f"{100 * one.few:.1f}"
        self.console.print(f"  overall {100 * one.overall:.1f}, few-shot {few}", highlight=False)

    def run_folder(self, method: str, seed: int) -> RunFolder:
        """Where a cell lies."""
        return RunFolder(self.folder / "runs" / method / f"seed{seed}")

    def collect(self, failed: Mapping[tuple[str, int], str]) -> Comparison:
        """What the finished cells say; also those of methods and seeds that were trained by an earlier command."""
        methods, seeds = self._all_there()
        ratios = self._inference(methods)
        cells, missing, counts = [], list(failed), {}
        for seed in seeds:
            for method in methods:
                run = self.run_folder(method, seed)
                if run.finished:
                    cell, counts[seed] = _cell(run, method, seed, ratios.get(method))
                    cells.append(cell)
                elif (method, seed) not in failed:
                    missing.append((method, seed))
        base = self.prepared(self.plan.seeds[0])
        return Comparison(
            cells=cells,
            methods=methods,
            titles={name: METHODS[name].title for name in methods},
            train_counts=counts or {self.plan.seeds[0]: base.splits.counts_before_cut},
            class_names=base.splits.class_names,
            groups=base.groups,
            reference=REFERENCE,
            missing=missing,
            facts=self._facts(base),
        )

    def _all_there(self) -> tuple[list[str], list[int]]:
        """Methods and seeds of this command and of the cells that are in the folder, in the order of the recipes."""
        there = [(run.parent.name, int(run.name.removeprefix("seed"))) for run in self.folder.glob("runs/*/seed*")]
        methods = {*self.plan.methods, *(method for method, _ in there)}
        return [name for name in METHODS if name in methods], sorted({*self.plan.seeds, *(seed for _, seed in there)})

    def _inference(self, methods: Sequence[str]) -> dict[str, float]:
        """Time for an image by each method over that of the plain backbone; measured once and kept."""
        path = self.folder / "inference.json"
        known: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for method in methods:
            finished = [run for run in sorted(self.folder.glob(f"runs/{method}/seed*")) if RunFolder(run).finished]
            if method in known or not finished:
                continue
            with self.console.status(f"measuring inference: {METHODS[method].title}"):
                config = self.prepared(self.plan.seeds[0]).config
                device, precision = str(config.runtime.device), str(config.runtime.precision)
                predictor = Predictor(None, load_pack(finished[0] / "pack"), device=device, precision=precision)
                known[method] = inference_ratio(predictor, threads=int(config.runtime.threads))
            write_json(path, known)
        return known

    def _share_for(self, budget: float) -> float:
        """The part of the preset's steps that fits into so many minutes, at most all."""
        steps = fixed = 0.0
        for method in self.plan.methods:
            with self.console.status(f"trying a few steps: {METHODS[method].title}"):
                estimate = estimate_run(self.cell(method, self.plan.seeds[0]))
            for part in estimate.parts:
                if part.name.startswith("phase"):
                    steps += part.seconds
                else:
                    fixed += part.seconds
        left = 60 * budget / len(self.plan.seeds) - fixed
        if left <= 0:
            needed = math.ceil(len(self.plan.seeds) * fixed / 60)
            raise ConfigError(
                f"--budget: {budget:g} minutes are too few; measuring alone takes about {needed} on this machine. Give "
                "more, or fewer methods or seeds."
            )
        share = min(1.0, left / steps) if steps else 1.0
        total = len(self.plan.seeds) * (fixed + share * steps)
        self.console.print(
            f"[bold]Budget[/bold]: {100 * share:.0f} % of the preset's steps for every method, about {duration(total)}"
        )
        return share

    def _facts(self, base: Prepared) -> dict[str, Any]:
        record, config = base.backbone.record, base.config
        assert record is not None
        height, width = base.preprocessing.size
        draws = round(self.plan.share * int(config.train.epoch_steps)) * config.step_draws
        return {
            "command": "lpt " + shlex.join(sys.argv[1:]),
            "data": str(config.data.source or "given in Python"),
            "backbone": f"{record.name} at {height}x{width}",
            "preset": config.preset,
            "image_draws": draws * (config.train.phase1.epochs + config.train.phase2.epochs),
            "machine": base.machine.describe(),
            "versions": Versions.here().model_dump(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }


def _plan(
    data: str | Path | Opener | None,
    methods: Sequence[str],
    seeds: Sequence[int],
    preset: str | None,
    config: str | Path | Mapping[str, Any] | None,
    settings: Sequence[str],
) -> Plan:
    """The plan that a command asks for, its own names and settings checked."""
    if not methods or not seeds:
        raise ConfigError("compare: give at least one method and one seed")
    for method in methods:
        method_named(method)
    for name, given in (("method", methods), ("seed", seeds)):
        if len(set(given)) < len(given):
            raise ConfigError(f"compare: a {name} is given twice: {', '.join(map(str, given))}")
    common, own = [], dict[str, list[str]]()
    for setting in settings:
        method, colon, rest = setting.partition(":")
        if colon and method in METHODS:
            own.setdefault(method, []).append(rest)
        else:
            common.append(setting)
    source = None if callable(data) else data
    values = gather_values(source, {"preset": preset}, config, common, needs_source=not callable(data))
    if values.get("method", REFERENCE) != REFERENCE:
        raise ConfigError("compare: method is given by --methods, not in the configuration")
    parsed = {method: parse_assignments(assignments) for method, assignments in own.items()}
    return Plan(tuple(methods), tuple(seeds), values, parsed)


def _cell(run: RunFolder, method: str, seed: int, ratio: float | None) -> tuple[Cell, IntArray]:
    """A finished run as a cell, and the training images of each class."""
    facts = json.loads(run.metrics.read_text(encoding="utf-8"))
    if "test" not in facts:
        raise RunError(f"{run.path} was not tested: a comparison needs test images (--test)")
    info = load_pack(run.pack).info
    index = {name: number for number, name in enumerate(info.class_names)}
    with run.predictions.open(encoding="utf-8", newline="") as lines:
        rows = [(index[row["class"]], index[row["predicted"]]) for row in csv.DictReader(lines)]
    labels, predicted = np.array(rows, dtype=np.int64).T
    cost = Cost(
        trained_parameters=facts["trainable_parameters"],
        stored_bytes=facts["pack_bytes"],
        train_seconds=facts["train_seconds"],
        peak_memory_bytes=facts["peak_memory_bytes"],
        image_draws=facts["image_draws"],
        inference_ratio=ratio,
    )
    counts = np.asarray(info.class_counts, dtype=np.int64)
    return Cell(method, seed, Metrics.from_dict(facts["test"]), labels, predicted, cost), counts
