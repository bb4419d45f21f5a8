"""Measure whether the loader keeps up with training: the loader alone, a step alone, and both together.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.speed.pipeline --size 96 128 --photos 400

For each case all three rates are taken in one run with the preset's backbone and batches, in images per second:

- `loader`: batches are made ready for the model (read, cropped, moved, normalised), and thrown away;
- `step`: training steps of a phase on one fixed batch that is ready;
- `joint`: training steps of a phase fed by the loader, as in `lpt fit`.

Cases: CIFAR-100-LT at each `--size`, and with `--photos N` a folder of N generated JPEG photographs of 500x400 to
1000x750 pixels at 224, kept decoded in memory or read each time. `crops_one_core` compares the two ways to crop and
enlarge thumbnails. `--quick` does all of it on tiny images in seconds: its rates mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.accuracy.cifar100_cuts import CIFAR100
from benchmarks.record import describe_machine, describe_run
from lpt.commands.fit.prepare import Prepared, prepare
from lpt.commands.fit.request import RunRequest
from lpt.data.device_crops import resampled_crops, suits_device_crops
from lpt.data.transforms import Preprocessing
from lpt.system.files import write_json
from lpt.system.hardware import reproducible
from lpt.system.randomness import global_generator_restored
from lpt.training.batches import Batch, Batches
from lpt.training.loop import train_steps
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer

UNTIMED = 2
"""Steps before the clock starts: workers start, memory is taken."""


@dataclass(frozen=True)
class Case:
    """A data set at an input size (pixels), and further settings of the run."""

    name: str
    source: str
    size: int
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rates:
    """The rates of a case with a number of workers, images per second; `step` and `joint` by phase."""

    case: str
    size: int
    workers: int
    crops: str
    cached: bool
    loader: float
    step: dict[str, float]
    joint: dict[str, float]

    @property
    def kept_up(self) -> float:
        """Return the joint rate as a share of that of the step, in the phase where the share is lower."""
        return min(self.joint[phase] / self.step[phase] for phase in self.step)


@dataclass(frozen=True)
class ReadyBatch:
    """A batch whose images are normalised and on the device."""

    images: Tensor
    labels: Tensor

    def inputs(self, rows: slice, device: torch.device) -> Tensor:
        del device
        return self.images[rows]


def prepare_case(case: Case, arguments: argparse.Namespace, workers: int) -> Prepared:
    """Prepare a run of the case, of `UNTIMED` steps and then those to time."""
    steps = UNTIMED + arguments.steps
    settings = [
        f"image.size={case.size}",
        f"train.batch_size={arguments.batch}",
        f"train.epoch_steps={steps}",
        "train.phase1.epochs=1",
        "train.phase2.epochs=1",
        f"runtime.workers={workers}",
        f"runtime.seed={arguments.seed}",
        f"backbone.name={arguments.backbone}",
        "model.adapter_size=0",  # as when the committed rows were taken
    ]
    if arguments.quick:
        settings.append("runtime.threads=1")
    request = RunRequest(case.source, preset=arguments.preset, method="lpt", settings=[*settings, *case.settings])
    return prepare(request, read_images=False)


def load_batches(run: Prepared, phase: int) -> Batches:
    """Return the batches of a phase, as training gets them."""
    return run.phase_data.batches(run.phase_data.plan(phase))


def make_ready(batches: dict[str, Batch], device: torch.device) -> dict[str, Batch]:
    """Do everything to the batches of a step that comes before the model."""
    whole = slice(0, len(next(iter(batches.values())).labels))
    ready: dict[str, Batch] = {}
    for stream, batch in batches.items():
        images = batch.inputs(whole, device)
        assert isinstance(images, Tensor)
        ready[stream] = ReadyBatch(images, batch.labels)
    return ready


def images_per_second(times: list[float], images: int) -> float:
    """Return the rate from the times at which steps of so many images ended, without the untimed ones."""
    return images * (len(times) - UNTIMED) / (times[-1] - times[UNTIMED - 1])


def loader_rate(run: Prepared) -> float:
    """Return the rate of batches that are made ready and thrown away."""
    device, images, times = torch.device(str(run.config.runtime.device)), 0, []
    for batches in load_batches(run, phase=1):
        ready = make_ready(batches, device)
        finish(device)
        images = sum(len(batch.labels) for batch in ready.values())
        times.append(time.perf_counter())
    return images_per_second(times, images)


def training_rate(run: Prepared, phase: int, batches: Iterator[dict[str, Batch]]) -> float:
    """Return the rate of training steps on batches."""
    plan, model = run.phase_data.plan(phase), run.new_model()
    device, times = model.head.weight.device, []

    def after_step(*done: object) -> None:
        del done
        finish(device)
        times.append(time.perf_counter())

    objective = build_objective(model, run.train, run.config, phase)
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    train_steps(objective, optimizer, batches, plan, first_step=0, after_step=after_step)
    streams = 2 if run.config.loss.instance_weight > 0 else 1
    return images_per_second(times, streams * plan.batch_size)


def finish(device: torch.device) -> None:
    """Wait until a card has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, arguments: argparse.Namespace, console: Console) -> Iterator[Rates]:
    """Yield the rates of a case for each number of workers; a step alone is measured once."""
    step: dict[str, float] = {}
    for workers in arguments.workers:
        run = prepare_case(case, arguments, workers)
        device = torch.device(str(run.config.runtime.device))
        with reproducible(int(run.config.runtime.threads)):
            for phase in (1, 2):
                if len(step) < phase:
                    with console.status(f"{case.name}: a step of phase {phase} alone"):
                        fixed = make_ready(next(load_batches(run, phase)), device)
                        step[str(phase)] = training_rate(run, phase, itertools.repeat(fixed))
            with console.status(f"{case.name}, {workers} workers: the loader alone"):
                loader = loader_rate(run)
            joint = {}
            for phase in (1, 2):
                with console.status(f"{case.name}, {workers} workers: phase {phase} fed by the loader"):
                    joint[str(phase)] = training_rate(run, phase, load_batches(run, phase))
        where = str(device) if suits_device_crops(run.train, run.preprocessing, device) else "Pillow"
        yield Rates(case.name, case.size, workers, where, bool(run.config.data.cache), loader, step, joint)


def crop_rates(sides: list[int], sizes: list[int], seconds: float) -> list[dict[str, float]]:
    """Crop thumbnails, enlarge and normalise them on one core, at each side and size; images per second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    for side, size in itertools.product(sides, sizes):
        pixels = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
        half = (0.5, 0.5, 0.5)
        preprocessing = Preprocessing(
            size=(size, size),
            mean=half,
            std=half,
            interpolation="bicubic",
            test_crop=1,
            crop_area=(0.3, 1),
            crop_aspect=(3 / 4, 4 / 3),
            flip=True,
        )
        transform = preprocessing.train_transform()

        def by_pillow(pixels: Any = pixels, transform: Any = transform, made: Preprocessing = preprocessing) -> None:
            made.normalize(torch.stack([transform(Image.fromarray(image)) for image in pixels]))

        def by_products(pixels: Any = pixels, transform: Any = transform, made: Preprocessing = preprocessing) -> None:
            crops = torch.tensor([transform.draw(*image.shape[:2]) for image in pixels])
            made.normalize(resampled_crops(torch.from_numpy(pixels), crops, made.size, made.interpolation))

        with global_generator_restored():
            pillow, products = (32 / fastest(act, seconds) for act in (by_pillow, by_products))
        rows.append({"side": side, "size": size, "pillow": round(pillow), "products": round(products)})
    torch.set_num_threads(threads)
    return rows


def fastest(act: Callable[[], None], seconds: float) -> float:
    """Return the processor time of the fastest run, seconds, of those that fit in so much time."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    act()
    while not times or time.perf_counter() < end:
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return min(times)


def write_photos(folder: Path, count: int, seed: int, small: bool) -> None:
    """Write JPEG files of two classes that cost as much as photographs: smooth shapes, edges and a little noise.

    500x400 to 1000x750 pixels, quality 90, some 1 to 2 bits a pixel; `small`: a tenth of each side.
    """
    random = np.random.default_rng(seed)
    for number in range(count):
        scale = random.uniform(1, 2) * (0.1 if small else 1)
        width, height = int(500 * scale), int(random.uniform(375, 400) * scale)
        coarse = random.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=float)
        x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
        edges = 40 * np.sign(np.sin((x * random.normal() + y * random.normal()) / 15))
        pixels = np.clip(smooth + edges + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"class {number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def table(rates: list[Rates]) -> Table:
    """Return the rates as a table for the terminal."""
    drawn = Table(title="images per second", title_justify="left", box=None, pad_edge=False)
    for heading in ("case", "workers", "crops", "loader", "step\n1", "joint\n1", "step\n2", "joint\n2", "kept\nup"):
        drawn.add_column(heading, justify="left" if heading in ("case", "crops") else "right", no_wrap=True)
    for row in rates:
        phases = [f"{rate[phase]:,.1f}" for phase in ("1", "2") for rate in (row.step, row.joint)]
        drawn.add_row(
            row.case, str(row.workers), row.crops, f"{row.loader:,.0f}", *phases, f"{100 * row.kept_up:.0f} %"
        )
    return drawn


def list_cases(arguments: argparse.Namespace, photos: Path) -> list[Case]:
    """Return the cases to measure, and write their photographs."""
    cases = []
    for size in arguments.size:
        long_tail = ("data.long_tail=100",) if arguments.source.startswith("hf:") else ()
        cases.append(Case(f"{arguments.name} at {size}", arguments.source, size, long_tail))
    if arguments.photos:
        write_photos(photos, arguments.photos, arguments.seed, small=arguments.quick)
        size = arguments.photo_size
        for cached in (False, True):
            name = f"photographs {'kept' if cached else 'read'} at {size}"
            cases.append(Case(name, str(photos), size, (f"data.cache={str(cached).lower()}",)))
    return cases


def main() -> None:
    """Measure, print the table and write the result file."""
    arguments, console = parse_arguments(), Console()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rates = [row for case in list_cases(arguments, Path(folder)) for row in measure(case, arguments, console)]
    quick = arguments.quick
    crops = crop_rates([16] if quick else [16, 32, 48, 64], [32] if quick else [96, 128, 224], 0.02 if quick else 1.0)
    console.print(table(rates))
    what = "loader, step and joint rates of training, and two ways to make crops; images per second"
    record = {
        **describe_run(what, "benchmarks.speed.pipeline"),
        **describe_machine(),
        "seed": arguments.seed,
        "preset": arguments.preset,
        "backbone": arguments.backbone,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "seconds": round(time.perf_counter() - start, 1),
        "rows": [rounded(row) for row in rates],
        "crops_one_core": crops,
    }
    path = arguments.output / f"pipeline_{arguments.tag}.json"
    write_json(path, record)
    console.print(f"written: {path}")


def rounded(row: Rates) -> dict[str, Any]:
    """Return a row for the result file."""
    phases = {key: {phase: round(rate, 1) for phase, rate in getattr(row, key).items()} for key in ("step", "joint")}
    return asdict(row) | phases | {"loader": round(row.loader, 1), "kept_up": round(row.kept_up, 3)}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--name", default="CIFAR-100-LT", help="what to call the source")
    parser.add_argument("--size", type=int, nargs="+", default=[96, 128], help="input sides, pixels")
    parser.add_argument("--photos", type=int, default=0, metavar="N", help="photographs to generate and measure")
    parser.add_argument("--photo-size", type=int, default=224, help="input side for photographs, pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of each stream in a step")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k", help="timm model name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tag", default="cpu", help="the result file is pipeline_TAG.json")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="tiny photographs and backbone: does it run at all?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.photos, arguments.photo_size, arguments.workers = [], 12, 32, [0, 1]
        arguments.backbone, arguments.batch, arguments.steps, arguments.tag = "lpt-demo-glyphs", 4, 2, "quick"
    return arguments


if __name__ == "__main__":
    main()
