"""`lpt compare`: every method on the same data, with the same draws, in one table.

A cell is one method on one seed, an ordinary run folder. Finished cells are kept, an interrupted one is gone on with.
"""

from __future__ import annotations

import json
import math
import re
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from lpt.commands.compare.budget import share_of_steps
from lpt.commands.compare.cells import (
    check_same_images,
    check_same_weights,
    comparison_facts,
    read_cell,
)
from lpt.commands.compare.inference_cost import InferenceCost, kept_inference_cost
from lpt.commands.compare.plan import (
    DEFAULT_METHODS,
    HOLDOUT,
    REFERENCE,
    Opener,
    Plan,
    cell_changes,
    cell_values,
    changes,
    of_the_machine,
    plan_of,
    stored_settings,
    with_test_images,
)
from lpt.commands.compare.store import (
    check_overwritable,
    stored_plan,
    throw_away,
    why_kept,
    write_plan,
)
from lpt.commands.fit.auto import suit_to_counts
from lpt.commands.fit.disk import check_prefix_cache, disk_needed
from lpt.commands.fit.fit import data_fingerprint, fit_prepared, resume_prepared
from lpt.commands.fit.prepare import (
    Prepared,
    describe,
    open_data,
    prepare,
    printable,
    warn_of_data,
    with_absolute_paths,
)
from lpt.commands.inputs import config_file, inputs_of
from lpt.config.lint import doubled_balance, unused_settings
from lpt.config.presets import with_preset
from lpt.config.recipes import METHODS
from lpt.config.schema import RunConfig
from lpt.config.values import merge, read_yaml, to_yaml
from lpt.data.manifest import Splits
from lpt.errors import ConfigError, LptError, RunError
from lpt.evaluation.comparison import Comparison
from lpt.report.comparison import print_comparison, write_comparison
from lpt.system.files import write_text
from lpt.system.hardware import inspect_machine
from lpt.system.interrupt import Interrupted
from lpt.system.owned import Input
from lpt.system.processes import several_started
from lpt.training.folder import RunFolder
from lpt.training.loop import lacks_memory

Key = tuple[str, int]


def compare(
    data: str | Path | Opener | None = None,
    output: str | Path | None = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: Sequence[int] = (0,),
    budget: float | None = None,
    holdout: float = HOLDOUT,
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
        methods: names from `lpt.config.recipes.METHODS`.
        seeds: a cell is trained for each.
        budget: minutes that the whole may take, by a few real steps of each method: steps are cut to it. None: all
            steps of the preset.
        holdout: share of each class to test on, where the data has no test images.
        preset, config: as for `lpt.fit`; they are about LPT, and what the other methods share with it.
        settings: `section.field=value` likewise, or `METHOD:section.field=value` for one method alone.
        overwrite: throw away the comparison that is in `output`, with all its runs; what is of neither stays.
        console: where to report; None: silent.

    Raises:
        ConfigError, DataError: something is to be corrected before anything is trained.
        RunError: the folder holds something else, or a cell failed; then the others are finished and in the table.
    """
    console = console or Console(quiet=True)
    if several_started():
        raise ConfigError("lpt compare runs in one process; start it without torchrun or accelerate launch")
    folder = Path(output or "comparison")
    plan = plan_of(data, methods, seeds, preset, config, settings, holdout)
    runner = _Runner(folder, plan, data if callable(data) else None, console, config_file(config))
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


class _Runner:
    """Trains what is missing of a comparison and gathers what is there."""

    def __init__(
        self, folder: Path, plan: Plan, opener: Opener | None, console: Console, config: Path | None = None
    ) -> None:
        self.folder, self.plan, self.opener, self.console, self.config = folder, plan, opener, console, config
        self.share: float | None = None
        self.own: dict[str, Any] = dict(plan.own)
        self._anew = False
        self._opened: tuple[int, Prepared] | None = None
        self._checked = False

    def begin(self, *, overwrite: bool, budget: float | None) -> None:
        """Check everything, and write down or read back what later commands need to do the same."""
        begun = time.monotonic()
        self._anew = overwrite
        if overwrite:
            check_overwritable(self.folder, self._inputs)  # before anything that takes long
        before = None if overwrite else stored_plan(self.folder)
        asked = {"values": self.plan.values, "holdout": self.plan.holdout, "budget_minutes": budget}
        asked = json.loads(json.dumps(asked, default=str))
        if before is not None:
            then, now = ({**one, **one["values"], "values": {}} for one in ({key: before[key] for key in asked}, asked))
            changed = changes(then, now)
            if changed:
                may_go = not why_kept(self.folder, self._inputs)
                throw = ", or throw that one away, with all its runs, with --overwrite" if may_go else ""
                raise RunError(
                    f"{self.folder} holds a comparison with other settings: {'; '.join([*changed.values()][:5])}.\n"
                    f"Choose another folder with --output{throw}."
                )
            self.share = before["share"]
            others = {name: values for name, values in before["own"].items() if name not in self.plan.methods}
            self.own = {**others, **self.plan.own}
            self._take(before["machine"])
        first = self.prepared(self.plan.seeds[0])
        describe(first, self.console)
        warn_of_data(first, self.console)
        self._check_cells()
        for seed in sorted({seed for _, seed in self._begun()} - {self.plan.seeds[0]}):
            self._splits(seed)  # checks the images of its cells
        if budget is not None:
            self.share = self._share_within(60 * budget - (time.monotonic() - begun))
        if overwrite:
            check_overwritable(self.folder, lambda: inputs_of(self.plan.values, self.config, first.splits))
            if left := throw_away(self.folder):
                self.console.print(left, style="yellow", markup=False)
            self._anew = False
        runtime = first.config.runtime
        machine = {"device": runtime.device, "precision": runtime.precision}
        own = json.loads(json.dumps(self.own, default=str))
        write_plan(self.folder, {**asked, "own": own, "machine": machine, "share": self.share})

    def _inputs(self) -> Iterable[Input]:
        return inputs_of(self.plan.values, self.config)

    def _take(self, machine: Mapping[str, str]) -> None:
        """Go on with the device and precision that the comparison was begun with."""
        runtime = {**machine, **self.plan.values.get("runtime", {})}
        self.plan = replace(self.plan, values=merge(self.plan.values, {"runtime": runtime}))

    def _check_cells(self) -> None:
        """Stop at a fault in any method's settings, and at a trained cell whose settings are not those of now.

        Cells of every seed count, also of seeds that this command does not name: a row of the table is of one setting.
        """
        for method in self.plan.methods:
            try:
                cell = self.cell(method, self.plan.seeds[0])
                disk_needed(cell)  # builds the model, without memory
                check_prefix_cache(cell, Console(quiet=True))
            except LptError as error:
                raise type(error)(f"{method}: {error}") from None
            self._warn_of_own(method, cell.config)
        weights = self.prepared(self.plan.seeds[0]).backbone.record
        for method, seed in self._begun():
            run = self.run_folder(method, seed)
            check_same_weights(run, weights)
            if method not in self.plan.methods:
                continue
            changed = cell_changes(stored_settings(run.config), self._wanted(method))
            if changed:
                raise RunError(
                    f"{run.path} was trained with other settings: {'; '.join(changed[:5])}.\n"
                    "Remove that folder to train it again, or choose another with --output."
                )

    def _warn_of_own(self, method: str, config: RunConfig) -> None:
        """Say which of the settings that are a method's alone do nothing, or the same thing twice."""
        own = self.plan.own.get(method)
        if own is None:
            return
        base = self._over_preset(self._values(method, own=False))
        for line in [*unused_settings(own, base, config), *doubled_balance(config)]:
            self.console.print(f"  {method}: {line}", style="yellow", markup=False)

    def _begun(self) -> list[Key]:
        """Cells that are in the folder, finished or not; none where all of them are to be thrown away."""
        if self._anew:
            return []
        runs = [run for run in self.folder.glob("runs/*/seed*") if RunFolder(run).begun]
        keys = [(run.parent.name, int(run.name[4:])) for run in runs if re.fullmatch(r"seed\d+", run.name)]
        return sorted((method, seed) for method, seed in keys if method in METHODS)

    def _over_preset(self, values: dict[str, Any]) -> RunConfig:
        """Values over their preset's; fields may still be `auto`."""
        device = str((values.get("runtime") or {}).get("device", "auto"))
        return with_preset(values, inspect_machine(device).device, origin="the settings").config

    def _values(self, method: str, *, own: bool = True) -> dict[str, Any]:
        """What a method is trained with; without `own` as if nothing were said of it alone."""
        plan = self.plan if own else replace(self.plan, own={})
        return cell_values(plan, method, self._over_preset(plan.values))

    def _wanted(self, method: str) -> dict[str, Any]:
        """Settings of a method; what goes by machine and seed, and not by the class counts, may still be `auto`."""
        config, base = with_absolute_paths(self._over_preset(self._values(method))), self.prepared(self.plan.seeds[0])
        if config.train.epoch_steps != "auto":
            config.train.epoch_steps = self._epoch_steps(config)
        return suit_to_counts(config, base.splits.counts_before_cut, base.backbone.depth).config.model_dump(mode="json")

    def prepared(self, seed: int) -> Prepared:
        """LPT's run of a seed, with the splits that all methods share, decoded once where they fit in memory."""
        if self._opened is None or self._opened[0] != seed:
            splits, values = self._splits(seed), self._values_of(seed)
            opened = prepare(splits, config=values, read_images=not self._checked, console=self.console)
            self._opened, self._checked = (seed, opened), True
        return self._opened[1]

    def _values_of(self, seed: int) -> dict[str, Any]:
        """LPT's values for a seed."""
        return merge(self.plan.values, {"runtime": {"seed": seed}})

    def _splits(self, seed: int) -> Splits:
        """The images of a seed.

        Raises:
            RunError: cells of this seed were trained or tested on others.
        """
        splits = open_data(self._values_of(seed)) if self.opener is None else self.opener(seed)
        splits = printable(with_test_images(splits, self.plan.holdout))
        assert splits.test is not None
        runs = [self.run_folder(method, seed) for method, other in self._begun() if other == seed]
        fingerprint = data_fingerprint(splits.train) if runs else ""
        for run in runs:
            check_same_images(run, fingerprint, splits.test)
        return splits

    def cell(self, method: str, seed: int) -> Prepared:
        """The run of a cell, checked.

        One that was begun, and is to be gone on with, has the settings of then, but for what the user says of the
        machine now.
        """
        base, run = self.prepared(seed), self.run_folder(method, seed)
        values = merge(self._values(method), {"runtime": {"seed": seed}})
        values = merge(values, {"train": {"epoch_steps": self._epoch_steps(base.config)}})
        if run.begun and not run.finished and not self._anew:
            values = merge(read_yaml(run.config), of_the_machine(self.plan.values))
        return prepare(replace(base.splits, train=base.train), config=values, read_images=False)

    def _epoch_steps(self, config: RunConfig) -> int:
        """Steps of an epoch of every method, of LPT's configuration."""
        share = 1.0 if self.share is None else self.share
        return max(math.floor(share * int(config.train.epoch_steps)), 1)

    def train(self) -> dict[Key, str]:
        """Train every cell that is not finished; what failed, with its reason."""
        failed: dict[Key, str] = {}
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
            except Exception as error:  # whatever it is, the other cells are worth their time
                failed[method, seed] = self._reason(error, method, seed)
                self.console.print(f"  failed: {failed[method, seed]}", style="red", markup=False)
        return failed

    def _reason(self, error: Exception, method: str, seed: int) -> str:
        """Why a cell failed, in words; what no one foresaw is written down whole."""
        if isinstance(error, LptError):
            return str(error)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and lacks_memory(error)):
            return "the memory does not hold it"
        path = self._error_file(method, seed)
        path.parent.mkdir(exist_ok=True)
        write_text(path, "".join(traceback.format_exception(error)))
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]} (the whole of it: {path})"

    def _error_file(self, method: str, seed: int) -> Path:
        return self.folder / "errors" / f"{method}_seed{seed}.txt"

    def _train_cell(self, method: str, seed: int, run: RunFolder) -> None:
        prepared = self.cell(method, seed)
        if run.begun:
            now = to_yaml(with_absolute_paths(prepared.config, prepared.splits))
            write_text(run.config, now)  # perhaps of another device or precision than then
            result = resume_prepared(prepared, run, self.console)
        else:
            result = fit_prepared(prepared, run.path, overwrite=True, console=self.console, config=self.config)
        self._error_file(method, seed).unlink(missing_ok=True)
        one = result.metrics["test"]
        few = "–" if one.few is None else f"{100 * one.few:.1f}"
        self.console.print(f"  overall {100 * one.overall:.1f}, few-shot {few}", highlight=False)

    def run_folder(self, method: str, seed: int) -> RunFolder:
        """Where a cell lies."""
        return RunFolder(self.folder / "runs" / method / f"seed{seed}")

    def collect(self, failed: Mapping[Key, str]) -> Comparison:
        """What the finished cells say; also those of methods and seeds that an earlier command trained."""
        methods, seeds = self._all_there()
        inference = {method: self._inference(method) for method in methods}
        cells, missing, counts, trained, told = [], dict(failed), {}, {}, []
        for seed in seeds:
            for method in methods:
                run = self.run_folder(method, seed)
                if run.finished:
                    cell, counts[seed], facts = read_cell(run, method, seed, inference[method])
                    cells.append(cell)
                    trained[seed] = facts["train_images"]
                    told.append(facts)
                elif (method, seed) not in failed:
                    missing[method, seed] = "begun before" if run.begun else "not asked for"
        base = self.prepared(self.plan.seeds[0])
        return Comparison(
            cells=cells,
            methods=methods,
            titles={name: METHODS[name].title for name in methods},
            train_counts=counts or {self.plan.seeds[0]: base.splits.counts_before_cut},
            train_images=trained or {self.plan.seeds[0]: len(base.splits.train)},
            class_names=base.splits.class_names,
            groups=base.groups,
            reference=REFERENCE,
            missing=missing,
            facts=comparison_facts(base, self.own, told),
        )

    def _all_there(self) -> tuple[list[str], list[int]]:
        """Methods and seeds of this command and of the cells that are in the folder, in the order of the recipes."""
        there = self._begun()
        methods = {*self.plan.methods, *(method for method, _ in there)}
        return [name for name in METHODS if name in methods], sorted({*self.plan.seeds, *(seed for _, seed in there)})

    def _inference(self, method: str) -> InferenceCost | None:
        """What an image costs a method, beside the plain backbone."""
        runs = [run for run in sorted(self.folder.glob(f"runs/{method}/seed*")) if RunFolder(run).finished]
        config = self.prepared(self.plan.seeds[0]).config
        kept = self.folder / "inference.json"
        try:
            with self.console.status(f"measuring inference: {METHODS[method].title}"):
                packs = [run / "pack" for run in runs]
                return kept_inference_cost(kept, method, packs, config.backbone, config.runtime)
        except LptError as error:
            told = f"  the inference time of {METHODS[method].title} is left out: {error}"
            self.console.print(told, style="yellow", markup=False)
            return None

    def _share_within(self, seconds: float) -> float | None:
        """The part of the preset's steps for so many seconds; that of an earlier command, if its methods had steps."""
        if self.share is not None:
            self.console.print(
                f"[bold]Budget[/bold]: {100 * self.share:.0f} % of the preset's steps, as this comparison was begun; "
                "the minutes are not counted anew"
            )
            return self.share
        seed = self.plan.seeds[0]
        return share_of_steps(
            ((METHODS[method].title, self.cell(method, seed)) for method in self.plan.methods),
            seeds=len(self.plan.seeds),
            epoch_steps=int(self.prepared(seed).config.train.epoch_steps),
            seconds=seconds,
            console=self.console,
        )
