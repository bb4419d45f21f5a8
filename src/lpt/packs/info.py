"""The description of a pack, `pack.json`: every field with the values that it accepts."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lpt.config.architecture import Architecture
from lpt.config.bounds import Count, Finite, Scale, Sha256, Size, Text
from lpt.config.faults import faults
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.model.record import BackboneRecord
from lpt.packs.additions import Addition
from lpt.packs.files import count_numbers, sha256
from lpt.packs.rejection import Rejection

FORMAT_VERSION = 1
REFERENCE_CLASSES = 16
REFERENCE_VARIANTS = 8
MOST_CLASSES = 1_000_000
MOST_CLASSES_WITH_USE = 100_000
"""Most classes whose use of group prompts is stored: a list for each, and a reader bounds the lists of pack.json."""
COUNTS_UNKNOWN = "The pack does not know how many training images its classes had: all of them count as few-shot."


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"different names are accepted; {reprlib.repr(twice)} occurs more than once")
    return names


def _no_repeats(numbers: list[int]) -> list[int]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("different numbers are accepted")
    return numbers


def _ascending(numbers: list[int]) -> list[int]:
    if any(number >= following for number, following in pairwise(numbers)):
        raise ValueError("different numbers in ascending order are accepted")
    return numbers


ClassNames = Annotated[
    list[Text], Field(fail_fast=True, min_length=2, max_length=MOST_CLASSES), AfterValidator(_distinct)
]  # fmt: skip
ClassCounts = Annotated[list[Count], Field(fail_fast=True, min_length=2, max_length=MOST_CLASSES)]
Share = Annotated[float, Field(ge=0, le=1)]
Values = Annotated[list[Finite], Field(fail_fast=True, min_length=1, max_length=MOST_CLASSES)]
Cosine = Annotated[float, Field(ge=-1.01, le=1.01)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Versions(_Section):
    """Versions of the software that wrote a pack."""

    lpt: Text
    timm: Text
    torch: Text

    @classmethod
    def here(cls) -> Versions:
        """Return the versions of the installed software; nothing is imported for it."""
        return cls(lpt=version("lpt"), timm=_version("timm"), torch=_version("torch"))


class Shots(_Section):
    """Boundaries of the shot groups, in training images of a class."""

    few_below: Size
    many_above: Size

    @model_validator(mode="after")
    def _check(self) -> Shots:
        if self.few_below > self.many_above + 1:
            raise ValueError(f"few_below ({self.few_below}) must not exceed many_above + 1 ({self.many_above + 1})")
        return self


class MethodInfo(Architecture):
    """The method of a pack: its name, its sizes and the phases that were trained."""

    name: Text
    phases: Annotated[list[Literal[1, 2]], Field(max_length=2), AfterValidator(_ascending)]
    trainable_parameters: Size
    share_of_backbone: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _check(self) -> MethodInfo:
        if 2 in self.phases and not self.grouped:
            raise ValueError(f"phases: only grouped prompts have phase 2; prompts are {self.prompts}")
        return self


ClassFrequencies = Literal["even", "training"]
"""How frequent classes are: all alike, or as among the training images."""
_NOTHING = "nothing"
"""`Probabilities.fitted_on` begins with it if no temperature was fitted."""


class Probabilities(_Section):
    """The probabilities of a pack: softmax(scale * score / temperature).

    Args:
        scale: as in training.
        temperature: fitted on validation data, or 1.
        fitted_on: the data that the temperature was fitted on, in words; or nothing, with the reason.
        classes: class frequencies that the probabilities assume: even, or those of the training images.
    """

    scale: Scale
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)]
    fitted_on: Text
    classes: ClassFrequencies = "even"

    @property
    def unfitted_because(self) -> str | None:
        """Why no temperature was fitted; None if one was."""
        if not self.fitted_on.startswith(_NOTHING):
            return None
        return self.fitted_on.removeprefix(_NOTHING).removesuffix("; temperature 1").strip(" ()")

    @property
    def fit_in_words(self) -> str:
        """On what the temperature was fitted, or why on nothing."""
        reason = self.unfitted_because
        return f"temperature fitted on {self.fitted_on}" if reason is None else f"no temperature fitted ({reason})"


class Reference(_Section):
    """The stored output for a `reference_image`, in float32; loading a pack on a backbone recomputes it.

    Args:
        variant: number of the image.
        classes: indices of some classes.
        cosines: their cosines, or logits of a linear head.
        mixed: the same under a weighted sum of all group prompts; None if the pack uses no group prompts.
        keys: cosines of the image's query with all keys; None if the pack uses no group prompts.
    """

    variant: Annotated[int, Field(ge=0, lt=REFERENCE_VARIANTS)]
    classes: Annotated[
        list[Annotated[int, Field(ge=0, lt=MOST_CLASSES)]],
        Field(fail_fast=True, min_length=1),
        AfterValidator(_ascending),
    ]
    cosines: Values
    mixed: Values | None = None
    keys: Annotated[list[Cosine], Field(fail_fast=True, min_length=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Reference:
        for name, values in (("cosines", self.cosines), ("mixed", self.mixed)):
            if values is not None and len(values) != len(self.classes):
                raise ValueError(f"there are {len(self.classes)} classes, but {len(values)} {name}")
        if (self.mixed is None) != (self.keys is None):
            raise ValueError("mixed and keys are given together or not at all")
        return self


class GroupUse(_Section):
    """The group prompts that the images of each class pick most.

    Args:
        split: the split that was measured: test, or validation.
        classes: for each class its group prompts, the most picked first; empty for a class without images.
    """

    split: Text
    classes: Annotated[
        list[Annotated[list[Count], Field(fail_fast=True), AfterValidator(_no_repeats)]],
        Field(fail_fast=True, min_length=2, max_length=MOST_CLASSES_WITH_USE),
    ]


class _Measures(BaseModel):
    """The measures of a split that this version knows; later versions may add more."""

    images: Size
    overall: Share
    mean_per_class: Share
    many: Share | None
    medium: Share | None
    few: Share | None
    boundaries: Text
    group_classes: Annotated[list[Count], Field(min_length=3, max_length=3)]
    top5: Share | None = None
    nll: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    ece: Share | None = None
    worst_decile: Share | None = None
    macro_f1: Share | None = None
    harmonic_mean: Share | None = None


class PackInfo(_Section):
    """The description of a pack, as stored in `pack.json`.

    `class_counts` are the training images of each class. Where nobody knows them, as for an imported checkpoint, they
    are all 1 and `counts_known` is false. `additions` are the classes at the end that were added without training.
    """

    format_version: Literal[1]
    versions: Versions
    backbone: BackboneRecord
    preprocessing: Preprocessing
    class_names: ClassNames
    class_counts: ClassCounts
    counts_known: bool = True
    shots: Shots
    method: MethodInfo
    probabilities: Probabilities
    metrics: Annotated[dict[Text, dict[str, Any]], Field(max_length=100)]
    training: dict[str, Any]
    reference: Reference
    group_use: GroupUse | None = None
    rejection: Rejection | None = None
    additions: Annotated[list[Addition], Field(max_length=MOST_CLASSES)] = []
    tensors_sha256: Sha256

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for split, values in metrics.items():
            try:
                _Measures.model_validate(values, strict=True)
            except ValidationError as error:
                raise ValueError(f"{reprlib.repr(split)}: {faults(error)}") from None
        return metrics

    @model_validator(mode="after")
    def _check(self) -> PackInfo:
        classes, reference, method = len(self.class_names), self.reference, self.method
        if len(self.class_counts) != classes:
            raise ValueError(f"there are {classes} class_names, but {len(self.class_counts)} class_counts")
        if not any(self.class_counts):
            raise ValueError("class_counts: at least one class with images is accepted")
        if reference.classes[-1] >= classes:
            raise ValueError(f"reference.classes: 0..{classes - 1} are accepted, got {reference.classes[-1]}")
        if reference.keys is not None and (2 not in method.phases or len(reference.keys) != method.pool_size):
            wanted = method.pool_size if 2 in method.phases else "no"
            raise ValueError(f"reference.keys: {wanted} values are accepted, got {len(reference.keys)}")
        self._check_group_use()
        self._check_additions()
        share = method.trainable_parameters / self.backbone.parameters
        if not math.isclose(method.share_of_backbone, share, rel_tol=1e-6):
            raise ValueError(f"method.share_of_backbone: {share} is accepted, got {method.share_of_backbone}")
        return self

    def _check_group_use(self) -> None:
        """Compare the use of group prompts with the classes and the pool."""
        if self.group_use is None:
            return
        classes, listed = len(self.class_names), self.group_use.classes
        if 2 not in self.method.phases:
            raise ValueError("group_use: null is accepted, the pack uses no group prompts")
        if len(listed) != classes:
            raise ValueError(f"group_use.classes: there are {classes} class_names, but {len(listed)} lists")
        largest, pool_size = max((max(groups) for groups in listed if groups), default=-1), self.method.pool_size
        if largest >= pool_size:
            raise ValueError(f"group_use.classes: 0..{pool_size - 1} are accepted, got {largest}")

    def _check_additions(self) -> None:
        """Compare the classes that were added with the classes and the head."""
        if self.additions and self.method.head != "cosine":
            raise ValueError(f"additions: none are accepted, the head is {self.method.head}")
        if self.trained_classes < 2:
            raise ValueError(f"additions: at most {len(self.class_names) - 2} classes are accepted")

    @classmethod
    def of(
        cls,
        *,
        backbone: BackboneRecord,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        class_counts: Sequence[int],
        shot_groups: ShotGroups,
        method: str,
        architecture: Architecture,
        phases: Sequence[int],
        probabilities: Probabilities,
        reference: Reference,
        tensors: bytes,
        metrics: Mapping[str, dict[str, Any]] | None = None,
        training: dict[str, Any] | None = None,
        group_use: GroupUse | None = None,
        rejection: Rejection | None = None,
        counts_known: bool = True,
    ) -> PackInfo:
        """Describe a pack that this software writes.

        Args:
            backbone: record of the backbone; the pack names local files without their folders.
            preprocessing, class_names, class_counts, counts_known, probabilities, reference: fields of the pack.
            shot_groups: boundaries of the shot groups.
            method: name of the method.
            architecture: sizes of the trained model.
            phases: trained phases, in ascending order.
            tensors: bytes of the tensors file.
            metrics: measures by split name.
            training: the training configuration.
            group_use: the group prompts that each class picks most; None where nothing was measured.
            rejection: the threshold for images that show none of the classes; None without validation images.
        """
        numbers = count_numbers(tensors)
        return cls(
            format_version=FORMAT_VERSION,
            versions=Versions.here(),
            backbone=backbone.without_folders(),
            preprocessing=preprocessing,
            class_names=list(class_names),
            class_counts=list(class_counts),
            counts_known=counts_known,
            shots=Shots(few_below=shot_groups.few_below, many_above=shot_groups.many_above),
            method=MethodInfo(
                **architecture.model_dump(include=set(Architecture.model_fields)),
                name=method,
                phases=list(phases),
                trainable_parameters=numbers,
                share_of_backbone=numbers / backbone.parameters,
            ),
            probabilities=probabilities,
            metrics=dict(metrics or {}),
            training=training or {},
            reference=reference,
            group_use=group_use,
            rejection=rejection,
            tensors_sha256=sha256(tensors),
        )

    @property
    def shot_groups(self) -> ShotGroups:
        """The shot groups of the classes."""
        return ShotGroups(self.shots.few_below, self.shots.many_above)

    @property
    def added_classes(self) -> int:
        """The number of classes that were added without training: the last ones."""
        return sum(addition.classes for addition in self.additions)

    @property
    def trained_classes(self) -> int:
        """The number of classes that were trained: the first ones."""
        return len(self.class_names) - self.added_classes

    @property
    def uses_group_prompts(self) -> bool:
        """Whether the pack went through phase 2; if not, it classifies under the shared prompt only."""
        return 2 in self.method.phases

    def trained_with(self, *path: str) -> Any:
        """Return a value of the training configuration by its path; None if it has none."""
        value: Any = self.training
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value


def _version(name: str) -> str:
    """Return the version of a library: of the loaded module, else of the installed package."""
    loaded = getattr(sys.modules.get(name), "__version__", None)
    try:
        return str(loaded or version(name))
    except PackageNotFoundError:
        return "not installed"
