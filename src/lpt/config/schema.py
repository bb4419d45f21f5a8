"""The configuration of a run: every field with its unit, unknown keys refused, all faults reported at once.

A field whose type admits `"auto"` is resolved by `lpt.commands.fit.auto` before training; the resolved configuration is
saved in the run folder and can be run again as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lpt.config.architecture import Architecture
from lpt.config.bounds import (
    MOST_PIXELS,
    Areas,
    Aspects,
    CentralCrop,
    Interpolation,
    Scale,
)
from lpt.errors import ConfigError

Auto = Literal["auto"]
Size = Annotated[int, Field(ge=8, le=MOST_PIXELS)]
Positive = Annotated[int, Field(ge=1)]
Sampling = Literal["instance", "balanced", "square_root", "effective_number"]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, numbers are finite, values are checked also when assigned."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which images, and how they are split."""

    source: str | None = Field(
        None, description="Folder of class folders, CSV, JSONL, `path label` list, or hf:NAME[:image[:label]]."
    )
    test: str | None = Field(None, description="Test images, same forms. Default: the source's own test split.")
    validation: str | float | None = Field(
        None, description="Validation images (same forms), or the fraction of each class to cut from train."
    )
    image_root: Path | None = Field(None, description="Folder that relative image paths start from.")
    image_column: str | None = Field(None, description="Column of image paths in a table (found by name if unset).")
    label_column: str | None = Field(None, description="Column of labels in a table (found by name if unset).")
    long_tail: float | None = Field(None, ge=1, description="Imbalance factor to cut a balanced set to (n_max/n_min).")
    long_tail_max: Positive | None = Field(None, description="Images of the largest class after the cut.")
    bad_images: Literal["stop", "skip"] = Field("stop", description="What to do with an image that cannot be read.")
    few_below: int = Field(20, ge=1, description="A class with fewer training images than this is `few`.")
    many_above: int = Field(100, ge=1, description="A class with more training images than this is `many`.")
    cache: Auto | bool = Field("auto", description="Keep decoded images in memory. auto: when they fit in 1 GiB.")

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.few_below > self.many_above + 1:
            raise ValueError(f"few_below ({self.few_below}) must not exceed many_above + 1 ({self.many_above + 1})")
        if isinstance(self.validation, float) and not 0 < self.validation < 1:
            raise ValueError(f"validation, as a fraction, must lie between 0 and 1; got {self.validation}")
        return self


class BackboneConfig(Section):
    """The frozen Vision Transformer."""

    name: str = Field("vit_base_patch16_224.augreg_in21k", description="timm model name.")
    checkpoint: Path | None = Field(None, description="Local weights of that architecture (.safetensors, .pth, .npz).")


class ImageConfig(Section):
    """From a picture to the network's input."""

    size: Auto | Size | tuple[Size, Size] = Field("auto", description="Input height and width, pixels.")
    crop_area: Areas = Field((0.08, 1.0), description="Area of the random training crop, share of image.")
    crop_aspect: Aspects = Field((3 / 4, 4 / 3), description="Width/height of the random training crop.")
    flip: bool = Field(True, description="Mirror training images at random. Off where left and right mean something.")
    test_crop: CentralCrop = Field(0.875, description="Side of the central test crop, share of the resized image.")
    test_views: Literal[1, 5] = Field(
        1,
        description="1: the centre; 5: the corners of the resized image too, scores averaged (5 times the cost).",
    )
    interpolation: Interpolation = Field("bicubic", description="How images are resized.")

    @model_validator(mode="after")
    def _check(self) -> ImageConfig:
        if self.test_views == 5 and self.test_crop == 1:
            raise ValueError("test_views 5 needs test_crop below 1: the five crops of the whole image are the same")
        return self


class ModelConfig(Architecture, Section):
    """What is trained, its sizes (DESIGN section 2), and where it starts."""

    adapter_size: Auto | Annotated[int, Field(ge=0)] = Field(  # type: ignore[assignment]
        0,
        description="Numbers in the bottleneck of an adapter (AdaptFormer) beside every MLP. 0: none. auto: LIFT's "
        "rule, 2 ** floor(log2(classes / (2 * blocks))).",
    )
    head_init: Literal["random", "class_means", "linear_probe"] = Field(
        "random",
        description="Head at the start: random, the unit mean of the frozen features of each class, or (linear head) "
        "a linear probe on these features, solved to convergence.",
    )
    prompt_init: Literal["random", "tokens"] = Field(
        "random",
        description="Shared prompts at the start: random, or k-means centres of the image tokens of each block. They "
        "are some 25 times as long then and need a rate several times as high.",
    )
    key_init: Literal["random", "kmeans"] = Field(
        "random", description="Keys at the start of phase 2: random, or k-means centres of the training queries."
    )
    group_init: Literal["random", "shared"] = Field(
        "random", description="Group prompts at the start of phase 2: random, or that added to the shared prompt."
    )

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.head_init == "linear_probe" and self.head != "linear":
            raise ValueError("head_init linear_probe needs head: linear")
        return self


class LossConfig(Section):
    """The classification loss, and what is added to it."""

    name: Literal["a_gcl", "gcl", "cross_entropy", "focal", "logit_adjusted", "balanced_softmax", "ldam"] = Field(
        "a_gcl", description="a_gcl: LPT's asymmetric Gaussian clouded logit loss; the others as in their papers."
    )
    scale: Scale = Field(20.0, description="Factor s on the cosines; 1 for the logits of a linear head.")
    margin: float = Field(0.1, ge=0, description="a_gcl: taken from the true class's cosine.")
    ldam_margin: float = Field(0.5, ge=0, description="ldam: the largest margin, of the rarest class.")
    noise: Auto | Annotated[float, Field(ge=0)] = Field(
        0.5, description="a_gcl, gcl: strength of the Gaussian cloud. auto: by how uneven the classes are."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Mass spread over all classes (not focal, ldam).")
    gamma_balanced: tuple[float, float] = Field((0.0, 4.0), description="a_gcl: gamma_pos, gamma_neg, balanced batch.")
    gamma_instance: tuple[float, float] = Field((0.5, 8.0), description="a_gcl: gamma_pos, gamma_neg, other batches.")
    focal_gamma: float = Field(2.0, ge=0, description="focal: focusing exponent.")
    tau: float = Field(1.0, ge=0, description="logit_adjusted: strength of the adjustment.")
    reweighting: Literal["none", "inverse_frequency", "effective_number"] = Field(
        "none", description="Weights of the classes in the loss (class-weighted, class-balanced loss)."
    )
    reweight_from: float = Field(
        0.0, ge=0, lt=1, description="Share of the phase after which they apply (0.8: deferred re-weighting, DRW)."
    )
    effective_beta: float = Field(0.9999, ge=0, lt=1, description="beta of the effective number of images.")
    instance_weight: float = Field(0.5, ge=0, description="eta at epoch 0 of a phase; falls linearly to 0.")
    similarity_weight: float = Field(0.5, ge=0, description="Weight of the query-key similarity in phase 2.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on the class token's features.")


class PhaseConfig(Section):
    """How one phase is trained."""

    epochs: int = Field(90, ge=0, description="Epochs; 0 leaves the phase out.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum 0.9, or AdamW.")
    lr: float = Field(0.02, gt=0, description="Learning rate at batch size 256; scaled by batch_size / 256 for SGD.")
    head_lr: float | None = Field(None, gt=0, description="The head's rate, likewise. None: lr.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Factor on the rate of the backbone's own weights from each block to that before."
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    warmup_epochs: int = Field(
        1,
        ge=0,
        description="Epochs of linear warm-up from min_lr, then cosine. Schedule step: half of the epochs where there "
        "are no more than that.",
    )
    min_lr: float = Field(1e-6, ge=0, description="Learning rate in epoch 0 of the warm-up.")
    schedule: Literal["epoch", "step"] = Field("epoch", description="When the learning rate changes.")

    @model_validator(mode="after")
    def _check(self) -> PhaseConfig:
        if self.schedule == "epoch" and 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"all {self.epochs} epochs would be warm-up (warmup_epochs {self.warmup_epochs}): nothing would be "
                "learnt. Set more epochs, or warmup_epochs 0"
            )
        return self


class PrefixCacheConfig(Section):
    """What is frozen in phase 2 (blocks 1..K and the query), kept for some augmented views instead of computed anew."""

    views: int = Field(0, ge=0, description="Augmented views of an image that phase 2 draws from. 0: keep nothing.")
    store: Auto | Literal["memory", "disk"] = Field(
        "auto", description="Where they are kept: memory, or disk (the run folder). auto: memory when they fit."
    )
    dtype: Auto | Literal["fp32", "bf16", "fp16"] = Field("auto", description="How they are kept. auto: as computed.")


class TrainConfig(Section):
    """Batches and phases."""

    sampling: Literal["dual"] | Sampling = Field(
        "dual",
        description="dual: LPT's two streams, class-balanced and instance-balanced; else one stream: images equally "
        "often, classes equally often, by the square root of their counts, or by their effective numbers.",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(256, description="Images of each stream in a step, B.")
    images_per_class: Positive = Field(4, description="Images of a class in a class-balanced batch.")
    epoch_steps: Auto | Positive = Field("auto", description="Steps of an epoch. auto: by preset.")
    micro_batch: Auto | Positive = Field("auto", description="Images in memory at a time, of either stream.")
    phase1: PhaseConfig = PhaseConfig()
    phase2: PhaseConfig = PhaseConfig()


class RuntimeConfig(Section):
    """The machine. None of it changes what is learnt beyond rounding."""

    seed: int = Field(0, ge=0, description="Seed of every random draw.")
    device: str = Field("auto", description="auto, cpu, cuda or mps.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Arithmetic of the frozen blocks.")
    threads: Auto | Positive = Field("auto", description="CPU threads. auto: the cores this process may use.")
    workers: Auto | Annotated[int, Field(ge=0)] = Field("auto", description="Processes that read images.")
    checkpoint_seconds: float = Field(60.0, ge=0, description="Least seconds between two checkpoints.")
    log_with: list[Literal["tensorboard", "wandb", "mlflow"]] = Field([], description="Trackers beside log.jsonl.")


class RunConfig(Section):
    """A whole run."""

    preset: str = Field("auto", description="The scale the defaults come from: backbone, size and draws.")
    method: str = Field("lpt", description="The method the defaults come from; lpt methods lists them.")
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    prefix_cache: PrefixCacheConfig = PrefixCacheConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def streams(self) -> tuple[Sampling, ...]:
        """Names of the streams that a step draws a batch from; without instance weight LPT draws one alone."""
        if self.train.sampling != "dual":
            return (self.train.sampling,)
        return ("balanced", "instance") if self.loss.instance_weight > 0 else ("balanced",)

    @property
    def balances_classes(self) -> bool:
        """Whether training makes up for the frequencies of the classes, by its loss or by what it draws."""
        loss, train = self.loss, self.train
        if not (train.phase1.epochs or train.phase2.epochs):
            # Class means do not know how many images they are of; a probe is solved without weights or draws.
            return self.model.head_init != "linear_probe" or self.adjusts_logits
        return self.adjusts_logits or loss.reweighting != "none" or self.evens_draws

    @property
    def adjusts_logits(self) -> bool:
        """Whether the loss shifts the logits by the frequencies of the classes."""
        return self.loss.name == "balanced_softmax" or (self.loss.name == "logit_adjusted" and self.loss.tau > 0)

    @property
    def evens_draws(self) -> bool:
        """Whether classes are drawn about equally often, by LPT's two streams with the weights of their losses."""
        return self.train.sampling in ("dual", "balanced", "effective_number")

    @property
    def step_draws(self) -> int:
        """Images that a step draws, over all streams."""
        return len(self.streams) * self.train.batch_size

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if not self.model.grouped and self.train.phase2.epochs:
            raise ValueError(
                f"train.phase2.epochs must be 0 for prompts: {self.model.prompts}; only LPT's grouped prompts have a "
                f"second phase (got {self.train.phase2.epochs})"
            )
        if self.model.head == "linear" and self.loss.name in ("a_gcl", "gcl", "ldam"):
            raise ValueError(f"loss.name {self.loss.name} puts margins on cosines: it needs model.head: cosine")
        return self


def validate(values: dict[str, Any], *, origin: str) -> RunConfig:
    """A checked configuration.

    Raises:
        ConfigError: every fault at once, each by its dotted path with the value received.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [_fault_line(fault) for fault in error.errors(include_url=False)]
        raise ConfigError(
            f"{origin}: {len(lines)} fault(s) in the configuration:\n"
            + "\n".join(lines)
            + "\nThe fields, their units and their defaults are listed by: lpt config"
        ) from None


def _fault_line(fault: Any) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "(whole)"
    if fault["type"] == "extra_forbidden":
        return f"  {path}: no such field ({_accepted_fields(fault['loc'])})"
    shown = fault["input"] if not isinstance(fault["input"], dict) else "..."
    return f"  {path}: {fault['msg'].removeprefix('Value error, ')} (got {shown!r})"


def _accepted_fields(location: tuple[int | str, ...]) -> str:
    section: Any = RunConfig
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        if field is None:
            break
        section = field.annotation
    return "accepted: " + ", ".join(section.model_fields)
