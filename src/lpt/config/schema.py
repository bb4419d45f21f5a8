"""The configuration of a run: its fields, their units and limits, and the rules that say when a field has an effect.

A field that accepts `"auto"` is resolved by `lpt.commands.fit.auto` before training. The run folder keeps the resolved
configuration, which can be run again as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from lpt.config.architecture import GROUPED, PHASE_2, Architecture
from lpt.config.bounds import (
    MAX_PIXELS,
    MOST_PIXELS,
    Areas,
    Aspects,
    CentralCrop,
    Interpolation,
    Scale,
    White,
    not_a_share,
    share_or_source,
)
from lpt.config.faults import fault_lines
from lpt.config.rules import used_if, used_if_any, used_unless
from lpt.errors import ConfigError

Auto = Literal["auto"]
InputSide = Annotated[int, Field(ge=8, le=MOST_PIXELS)]
Positive = Annotated[int, Field(ge=1)]
Sampling = Literal["instance", "balanced", "square_root", "effective_number"]

STEPS = used_if_any(
    used_unless("train.phase1.epochs", 0),
    used_unless("train.phase2.epochs", 0),
    reason="no phase has epochs: nothing is trained in steps",
    summary="a phase has epochs",
)
"""The rule of settings that only training in steps uses."""
BALANCED_BATCHES = used_if("train.sampling", "dual", "balanced", reason="{path} is {value}: no batch is class-balanced")
"""The rule of settings for class-balanced batches."""
EPOCHS = used_unless("epochs", 0, obvious=True)
"""The rule of every other setting of a phase."""


class Section(BaseModel):
    """A section: it refuses unknown keys and infinite numbers, and also checks values that are assigned later."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class DataConfig(Section):
    """The images, and how they are split."""

    source: str | None = Field(
        None, description="A folder of class folders, a CSV, JSONL or `path label` list, or hf:NAME[:image[:label]]."
    )
    test: Annotated[str | float | None, BeforeValidator(share_or_source)] = Field(
        None,
        description="Test images, in the same forms, or the share of each class to hold out of train: 0.2 or 20%. "
        "Default: the test split of the source.",
    )
    validation: Annotated[str | float | None, BeforeValidator(share_or_source)] = Field(
        None,
        description="Validation images, in the same forms, or the share of each class to take from train: 0.1 or 10%.",
    )
    image_root: Path | None = Field(None, description="Folder that relative image paths start from.")
    image_column: str | None = Field(None, description="Column of image paths in a table. Default: by its name.")
    label_column: str | None = Field(None, description="Column of labels in a table. Default: by its name.")
    split_column: str | None = Field(
        None, description="Column of a table that says train, validation or test. Default: by its values."
    )
    long_tail: float | None = Field(
        None, ge=1, description="Cut a balanced set to this imbalance factor, n_max / n_min."
    )
    long_tail_max: Annotated[
        Positive | None, used_unless("long_tail", None, reason="{path} is not set: nothing is cut")
    ] = Field(None, description="Images of the largest class after the cut.")
    bad_images: Literal["stop", "skip", "repair"] = Field(
        "stop",
        description="What to do with an image that cannot be read. repair: take a JPEG that lacks its last bytes as "
        "far as it goes, and stop at others.",
    )
    max_pixels: Annotated[int, Field(ge=1, le=10**10)] = Field(
        MAX_PIXELS, description="Most pixels of an image file; a larger image counts as one that cannot be read."
    )
    few_below: int = Field(20, ge=1, description="A class with fewer training images than this is `few`.")
    many_above: int = Field(100, ge=1, description="A class with more training images than this is `many`.")
    cache: Auto | bool = Field("auto", description="Keep decoded images in memory. auto: if they fit in 1 GiB.")

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.few_below > self.many_above + 1:
            raise ValueError(f"few_below ({self.few_below}) must not exceed many_above + 1 ({self.many_above + 1})")
        for name, value in (("test", self.test), ("validation", self.validation)):
            if isinstance(value, float) and not 0 < value < 1:
                raise ValueError(not_a_share(name, value))
        return self

    @field_validator("image_column", "label_column", "split_column", mode="before")
    @classmethod
    def _read_column(cls, value: Any) -> Any:
        """Read a name such as 2021 as text. YAML reads `no` and `on` as false and true, whatever was written."""
        if isinstance(value, bool):
            raise ValueError('a column called on, off, yes, no, true or false must stand in quotes, as "no"')
        return str(value) if isinstance(value, int) else value


class BackboneConfig(Section):
    """The frozen Vision Transformer."""

    name: str = Field("vit_base_patch16_224.augreg_in21k", description="Name of the timm model.")
    checkpoint: Path | None = Field(None, description="Local file with its weights: .safetensors, .pth or .npz.")


class ImageConfig(Section):
    """The way from an image file to the network's input."""

    size: Auto | InputSide | tuple[InputSide, InputSide] = Field(
        "auto", description="Height and width of the input, pixels."
    )
    crop_area: Annotated[Areas, STEPS] = Field(
        (0.08, 1.0), description="Area of the random training crop, as a share of the image."
    )
    crop_aspect: Annotated[Aspects, STEPS] = Field(
        (3 / 4, 4 / 3), description="Width / height of the random training crop."
    )
    flip: Annotated[bool, STEPS] = Field(
        True, description="Mirror training images at random. Set to false where left and right have a meaning."
    )
    test_crop: CentralCrop = Field(0.875, description="Side of the central test crop, as a share of the resized image.")
    test_views: Literal[1, 2, 5] = Field(
        1,
        description="1: the centre. 2: its mirror image too. 5: the centre and the corners of the resized image. "
        "Scores are averaged; a prediction costs so many times as much.",
    )
    interpolation: Interpolation = Field("bicubic", description="How images are resized.")
    white: Auto | White | None = Field(
        None,
        description="Value of white in images of more than 8 bits, grey levels as stored. auto: the largest value of "
        "the training images. Default: that of the file's type, 65535 for 16 bits.",
    )

    @model_validator(mode="after")
    def _check(self) -> ImageConfig:
        if self.test_views == 5 and self.test_crop == 1:
            raise ValueError("test_views 5 needs test_crop below 1: the five crops of the whole image are the same")
        if self.test_views == 2 and not self.flip:
            raise ValueError("test_views 2 looks at the mirror image, but flip false says that it is another picture")
        return self


class ModelConfig(Architecture, Section):
    """The trained parts, their sizes and their initial values."""

    adapter_size: Auto | Annotated[int, Field(ge=0)] = Field(  # type: ignore[assignment]
        0,
        description="Width of the bottleneck of an adapter (AdaptFormer) beside every MLP. 0: no adapters. auto: "
        "LIFT's rule, 2 ** floor(log2(classes / (2 * blocks))).",
    )
    head_init: Literal["random", "class_means", "linear_probe"] = Field(
        "random",
        description="Initial head. class_means: the unit mean of the frozen features of each class. linear_probe "
        "(linear head only): a probe on these features, solved to convergence.",
    )
    prompt_init: Annotated[Literal["random", "tokens"], used_unless("prompts", "none")] = Field(
        "random",
        description="Initial shared prompts. tokens: k-means centres of the image tokens of each block, about 25 "
        "times as long as random ones; they need a learning rate several times as high.",
    )
    key_init: Annotated[Literal["random", "kmeans"], GROUPED, PHASE_2] = Field(
        "random", description="Initial keys of phase 2. kmeans: k-means centres of the training queries."
    )
    group_init: Annotated[Literal["random", "shared"], GROUPED, PHASE_2] = Field(
        "random", description="Initial group prompts of phase 2. shared: the shared prompt plus random numbers."
    )

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.head_init == "linear_probe" and self.head != "linear":
            raise ValueError("head_init linear_probe needs head: linear")
        return self


class LossConfig(Section):
    """The classification loss, and what is added to it."""

    name: Literal["a_gcl", "gcl", "cross_entropy", "focal", "logit_adjusted", "balanced_softmax", "ldam"] = Field(
        "a_gcl", description="a_gcl: LPT's asymmetric Gaussian clouded logit loss. The others: as in their papers."
    )
    scale: Scale = Field(20.0, description="Factor s on the cosines; 1 for the logits of a linear head.")
    margin: Annotated[float, used_if("name", "a_gcl")] = Field(
        0.1, ge=0, description="Margin subtracted from the cosine of the true class."
    )
    ldam_margin: Annotated[float, used_if("name", "ldam")] = Field(
        0.5, ge=0, description="Largest margin, that of the rarest class."
    )
    noise: Annotated[Auto | Annotated[float, Field(ge=0)], used_if("name", "a_gcl", "gcl")] = Field(
        0.5, description="Strength of the Gaussian cloud. auto: by the imbalance of the classes."
    )
    label_smoothing: Annotated[float, STEPS, used_unless("name", "focal", "ldam")] = Field(
        0.1, ge=0, lt=1, description="Mass spread over all classes."
    )
    gamma_balanced: Annotated[tuple[float, float], used_if("name", "a_gcl"), BALANCED_BATCHES] = Field(
        (0.0, 4.0), description="gamma_pos and gamma_neg for class-balanced batches."
    )
    gamma_instance: Annotated[
        tuple[float, float],
        used_if("name", "a_gcl"),
        used_unless("train.sampling", "balanced", reason="all batches are class-balanced"),
        used_if_any(
            used_unless("train.sampling", "dual"),
            used_unless("instance_weight", 0),
            reason="all batches are class-balanced",
        ),
    ] = Field((0.5, 8.0), description="gamma_pos and gamma_neg for all other batches.")
    focal_gamma: Annotated[float, used_if("name", "focal")] = Field(2.0, ge=0, description="Focusing exponent.")
    tau: Annotated[float, used_if("name", "logit_adjusted")] = Field(
        1.0, ge=0, description="Strength of the logit adjustment."
    )
    reweighting: Annotated[Literal["none", "inverse_frequency", "effective_number"], STEPS] = Field(
        "none", description="Weights of the classes in the loss: a class-weighted or class-balanced loss."
    )
    reweight_from: Annotated[float, STEPS, used_unless("reweighting", "none")] = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the phase after which the weights apply. 0.8: deferred re-weighting, DRW.",
    )
    effective_beta: Annotated[
        float,
        STEPS,
        used_if_any(
            used_if("reweighting", "effective_number"),
            used_if("train.sampling", "effective_number"),
            reason="neither loss.reweighting nor train.sampling is effective_number",
        ),
    ] = Field(0.9999, ge=0, lt=1, description="beta of the effective number of images.")
    instance_weight: Annotated[
        float, STEPS, used_if("train.sampling", "dual", reason="{path} is {value}: there is one stream")
    ] = Field(0.5, ge=0, description="Weight eta of the instance-balanced stream in epoch 0; falls linearly to 0.")
    similarity_weight: Annotated[float, GROUPED, PHASE_2] = Field(
        0.5, ge=0, description="Weight of the query-key similarity in phase 2."
    )
    dropout: Annotated[float, STEPS] = Field(0.1, ge=0, lt=1, description="Dropout on the class token's features.")

    @property
    def adjustment(self) -> float:
        """Strength tau of the logit adjustment: 1 for balanced_softmax, 0 for a loss that does not adjust logits."""
        return {"logit_adjusted": self.tau, "balanced_softmax": 1.0}.get(self.name, 0.0)


class PhaseConfig(Section):
    """One phase of training."""

    epochs: int = Field(90, ge=0, description="Epochs. 0: leave the phase out.")
    optimizer: Annotated[Literal["sgd", "adamw"], EPOCHS] = Field("sgd", description="SGD with momentum 0.9, or AdamW.")
    lr: Annotated[float, EPOCHS] = Field(
        0.02, gt=0, description="Learning rate. SGD: for batch size 256, scaled by batch_size / 256."
    )
    head_lr: Annotated[float | None, EPOCHS] = Field(
        None, gt=0, description="Learning rate of the head, scaled likewise. Default: lr."
    )
    layer_decay: Annotated[
        float,
        EPOCHS,
        used_unless("model.weights", "none", reason="no weights of the backbone train ({path} is {value})"),
    ] = Field(
        1.0, gt=0, le=1, description="Factor on the learning rate of the backbone from each block to the one before it."
    )
    weight_decay: Annotated[float, EPOCHS] = Field(0.01, ge=0, description="Weight decay.")
    warmup_epochs: Annotated[int, EPOCHS] = Field(
        1,
        ge=0,
        description="Epochs of linear warm-up from min_lr; a cosine schedule follows. Half of the epochs if there "
        "are no more than that (schedule step only).",
    )
    min_lr: Annotated[float, EPOCHS, used_unless("warmup_epochs", 0)] = Field(
        1e-6, ge=0, description="Learning rate at the start of the warm-up."
    )
    schedule: Annotated[Literal["epoch", "step"], EPOCHS] = Field(
        "epoch", description="Change the learning rate at every epoch or at every step."
    )

    @model_validator(mode="after")
    def _check(self) -> PhaseConfig:
        if self.schedule == "epoch" and 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"all {self.epochs} epochs would be warm-up (warmup_epochs {self.warmup_epochs}): nothing would be "
                "learnt. Set more epochs, or warmup_epochs 0"
            )
        return self


class PrefixCacheConfig(Section):
    """The cache of what is frozen in phase 2: the output of blocks 1..K and the query, for some augmented views."""

    views: int = Field(0, ge=0, description="Augmented views of an image that phase 2 draws from. 0: no cache.")
    store: Auto | Literal["memory", "disk"] = Field(
        "auto", description="Where to keep them. disk: in the run folder. auto: in memory if they fit."
    )
    dtype: Auto | Literal["fp32", "bf16", "fp16"] = Field(
        "auto", description="Number type to keep them in. auto: as computed."
    )


class TrainConfig(Section):
    """The batches and the two phases."""

    sampling: Annotated[Literal["dual"] | Sampling, STEPS] = Field(
        "dual",
        description="dual: LPT's two streams, class-balanced and instance-balanced. The others are one stream, with "
        "all images equally often (instance), all classes equally often (balanced), or something between the two.",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(256, description="Images of each stream in a step, B.")
    images_per_class: Annotated[Positive, STEPS, BALANCED_BATCHES] = Field(
        4, description="Images of a class in a class-balanced batch."
    )
    epoch_steps: Annotated[Auto | Positive, STEPS] = Field("auto", description="Steps of an epoch. auto: by preset.")
    micro_batch: Auto | Positive = Field("auto", description="Images of a stream in memory at a time.")
    phase1: PhaseConfig = PhaseConfig()
    phase2: PhaseConfig = PhaseConfig()


class RuntimeConfig(Section):
    """The machine. Apart from the seed, it changes results by rounding only."""

    seed: int = Field(0, ge=0, description="Seed of every random draw.")
    device: str = Field("auto", description="auto, cpu, cuda or mps.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Number type of the frozen blocks.")
    threads: Auto | Positive = Field("auto", description="CPU threads. auto: all cores that this process may use.")
    workers: Auto | Annotated[int, Field(ge=0)] = Field("auto", description="Processes that read images.")
    checkpoint_seconds: float = Field(60.0, ge=0, description="Least time between two checkpoints, seconds.")
    log_with: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        [], description="Trackers to log to, besides log.jsonl."
    )


class RunConfig(Section):
    """The configuration of a run."""

    preset: str = Field(
        "auto", description="Preset that the defaults come from: backbone, input size and training time."
    )
    method: str = Field("auto", description="Method that the defaults come from; lpt methods lists them.")
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    prefix_cache: Annotated[PrefixCacheConfig, GROUPED, PHASE_2] = PrefixCacheConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def streams(self) -> tuple[Sampling, ...]:
        """The streams that a step draws a batch from; `dual` has one alone where `instance_weight` is 0."""
        if self.train.sampling != "dual":
            return (self.train.sampling,)
        return ("balanced", "instance") if self.loss.instance_weight > 0 else ("balanced",)

    @property
    def step_draws(self) -> int:
        """Images that a step draws from all streams."""
        return len(self.streams) * self.train.batch_size

    @property
    def trains_in_steps(self) -> bool:
        """Whether a phase has epochs; otherwise the head is computed from frozen features."""
        return bool(self.train.phase1.epochs or self.train.phase2.epochs)

    @property
    def balances_classes(self) -> bool:
        """Whether training makes up for the frequencies of the classes, by its loss or by its sampling."""
        if not self.trains_in_steps:
            # Class means do not depend on the counts; a probe is solved without class weights and sampling.
            return self.model.head_init != "linear_probe" or self.adjusts_logits
        return self.adjusts_logits or self.loss.reweighting != "none" or self.evens_draws

    @property
    def adjusts_logits(self) -> bool:
        """Whether the loss shifts the logits by the frequencies of the classes."""
        return self.loss.adjustment > 0

    @property
    def evens_draws(self) -> bool:
        """Whether classes are drawn about equally often; `dual` by its two streams and the weights of their losses."""
        return self.train.sampling in ("dual", "balanced", "effective_number")

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
    """Return the configuration with these values, checked.

    Args:
        values: values by section.
        origin: where they come from, for the error.

    Raises:
        ConfigError: a value is wrong; all faults are reported at once, each with its dotted path and its value.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = fault_lines(error, RunConfig)
        raise ConfigError(
            f"{origin}: {len(lines)} fault(s) in the configuration:\n"
            + "\n".join(lines)
            + "\nThe fields, their units and their defaults are listed by: lpt config"
        ) from None
