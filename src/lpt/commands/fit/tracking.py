"""Send a run to TensorBoard, W&B or MLflow through Accelerate, beside log.jsonl."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from accelerate import Accelerator, PartialState

from lpt.config.schema import RunConfig
from lpt.errors import ConfigError
from lpt.evaluation.metrics import Metrics
from lpt.training.callbacks import Callback
from lpt.training.loop import StepRecord
from lpt.training.phase_data import phase_plan

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def check_trackers(config: RunConfig) -> None:
    """Raise `ConfigError` if a tracker of the configuration is not installed."""
    missing = [name for name in config.runtime.log_with if find_spec(_PACKAGES[name]) is None]
    if missing:
        raise ConfigError(
            f"runtime.log_with: {', '.join(missing)} not installed. "
            f"Next: pip install '.[{','.join(missing)}]' in the folder of LPT"
        )


def new_accelerator(config: RunConfig, folder: Path) -> Accelerator:
    """Return an Accelerator with its trackers started; a run uses nothing else of it."""
    on_cpu = config.runtime.device == "cpu"
    if on_cpu and PartialState(cpu=True).device.type != "cpu":
        on_cpu = False  # Accelerate keeps a process's first device; training goes by the model's
    accelerator = Accelerator(  # no mixed precision: trackers do not need it, and not every device has it
        cpu=on_cpu, mixed_precision="no", log_with=list(config.runtime.log_with), project_dir=str(folder)
    )
    flat = {f"{section}.{key}": str(value) for section, fields in config.model_dump(mode="json").items()
            if isinstance(fields, dict) for key, value in fields.items()}  # fmt: skip
    accelerator.init_trackers("lpt", config=flat)
    return accelerator


class TrackerCallback(Callback):
    """A callback that sends every step and the result to trackers. Phase 2 counts its steps on from phase 1."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self._accelerator = new_accelerator(config, folder)
        self._offset = {1: 0, 2: phase_plan(config, 1).steps}
        self._last = 0

    def on_step_end(self, record: StepRecord) -> None:
        """Send a step's numbers."""
        self._last = self._offset[record.phase] + record.step
        values = {f"train/{key}": value for key, value in asdict(record).items() if key != "step" and value is not None}
        self._accelerator.log(values, step=self._last)

    def result(self, metrics: dict[str, Metrics]) -> None:
        """Send the final metrics and close the trackers."""
        for split, measured in metrics.items():
            numbers = {f"{split}/{key}": value for key, value in measured.to_dict().items() if isinstance(value, float)}
            self._accelerator.log(numbers, step=self._last)
        self._accelerator.end_training()
