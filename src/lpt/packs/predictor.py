"""Classify images with one or several packs on one frozen backbone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpt.config.bounds import check_positive
from lpt.data.cache import with_white
from lpt.data.decoding import Reading
from lpt.data.manifest import LabelledImages
from lpt.errors import ConfigError
from lpt.evaluation.calibration import adjust_prior, probabilities
from lpt.evaluation.predictions import Predictions, check_scores, predict_split
from lpt.model.backbone import FrozenViT
from lpt.model.build import to_bfloat16
from lpt.model.consent import permitted_name
from lpt.model.inference import InferenceModel, Scores
from lpt.model.pretrained import load_backbone
from lpt.packs.pack import Pack, load_pack
from lpt.packs.pictures import Picture, each_picture, read_picture
from lpt.system.files import last_part
from lpt.system.hardware import inspect_machine

ENGINES = ("auto", "torch")
PRECISIONS = ("auto", "fp32", "bf16")
PackOrPath = Pack | str | Path


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image.

    Args:
        name: path of the image, or its number in the call.
        classes: names of the most probable classes, best first.
        probabilities: their probabilities.
        groups: picked group prompts by descending cosine; empty if the pack uses none.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    groups: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.probabilities[0]


def load_predictor(
    packs: PackOrPath | Sequence[PackOrPath] | Mapping[str, PackOrPath],
    *,
    backbone: FrozenViT | str | None = None,
    checkpoint: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Predictor:
    """Load packs and their backbone, ready to classify.

    Args:
        packs: a pack, its folder or its run folder; several of these, named by their folders; or a mapping of names.
        backbone: a backbone, or its name; None: the one that the first pack names. A pack may only name backbones that
            come with lpt, and those in timm's organisation on the hub.
        checkpoint: local weights of the backbone, unless `backbone` is a `FrozenViT`.
        engine: auto or torch.
        device: auto, cpu, cuda or mps; a given `FrozenViT` stays where it is.
        precision: auto, fp32 or bf16; a given `FrozenViT` keeps its own. auto: float32 on a CPU, and bfloat16 on a card
            that is fast with it. In bfloat16 probabilities change by some hundredths, also with the batch size.

    Raises:
        PackError: a pack is damaged, belongs to other weights, or gives other outputs than where it was written.
        ConfigError: the backbone cannot be loaded, only the user may name it, or an argument is wrong.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine: {engine!r} is not accepted; choose {', '.join(ENGINES)}")
    named = _named_packs(packs)
    if backbone is None:
        first = next(iter(named.values()))
        weights = None if checkpoint is None else Path(checkpoint)
        backbone = permitted_name(first.info.backbone, first.path, checkpoint=weights)
    return Predictor(backbone, named, checkpoint=checkpoint, device=device, precision=precision)


class Predictor:
    """One or several packs on a backbone, ready to classify; `lpt.load_predictor` also finds the backbone.

    Args:
        backbone: a backbone from `lpt.load_backbone`, or its name.
        packs: a pack or its path, several of these (named by their folders), or a mapping of names.
        checkpoint: local weights, if the backbone is given by name.
        device: auto, cpu, cuda or mps, if the backbone is given by name; a `FrozenViT` stays where it is.
        precision: auto, fp32 or bf16 as for `lpt.load_predictor`, if the backbone is given by name; a `FrozenViT` keeps
            its own.

    Raises:
        PackError: a pack is damaged, belongs to other weights, or gives other outputs than where it was written.
        ConfigError: the backbone cannot be loaded, or an argument is wrong.
    """

    def __init__(
        self,
        backbone: FrozenViT | str,
        packs: PackOrPath | Sequence[PackOrPath] | Mapping[str, PackOrPath],
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision: {precision!r} is not accepted; choose {', '.join(PRECISIONS)}")
        self._packs = _named_packs(packs)
        low = False
        if isinstance(backbone, FrozenViT):
            self.device = backbone.device
        elif isinstance(backbone, str):
            machine = inspect_machine(device)
            self.device = torch.device(machine.device)
            low = precision == "bf16" or (precision == "auto" and machine.fast_bf16 and machine.device != "cpu")
            backbone = load_backbone(backbone, checkpoint=None if checkpoint is None else Path(checkpoint))
        else:
            raise ConfigError(
                f"backbone: give a FrozenViT or a name, not {type(backbone).__name__}. "
                "lpt.load_predictor(packs) loads the one that the pack names"
            )
        for pack in self._packs.values():  # before any model is built
            pack.check_backbone(backbone)
        self._dtype = torch.bfloat16 if low else backbone.dtype
        models = {name: pack.build(backbone) for name, pack in self._packs.items()}  # all are verified in float32
        self._models: dict[str, InferenceModel] = {}
        for name, model in models.items():
            model.to(self.device)
            if low:
                to_bfloat16(model)
            info = self._packs[name].info
            self._models[name] = InferenceModel(model, info.preprocessing, group_prompts=info.uses_group_prompts)

    @property
    def pack_names(self) -> tuple[str, ...]:
        """Names of the packs, the default first."""
        return tuple(self._packs)

    @property
    def dtype(self) -> torch.dtype:
        """Data type that the backbone computes in."""
        return self._dtype

    def pack(self, name: str | None = None) -> Pack:
        """Return a pack by name; the first one by default."""
        return self._packs[self._checked(name)]

    def model(self, name: str | None = None) -> InferenceModel:
        """Return the model of a pack by name; of the first one by default."""
        return self._models[self._checked(name)]

    def predict(
        self,
        images: Picture | Iterable[Picture],
        *,
        pack: str | None = None,
        top_k: int = 5,
        batch_size: int = 32,
        prior: Mapping[str, float] | None = None,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: an image or several: paths, Pillow images, bytes of image files, files opened for bytes, uint8
                arrays [H, W, 3], tensors [3, H, W] (uint8, or float in 0..1); an array or tensor with one dimension
                more holds several.
            pack: name of the pack; the first by default.
            top_k: number of classes for each image, at least 1; above the number of classes: all.
            batch_size: images in a forward pass, at least 1.
            prior: expected share of each class by name, where the images come from; missing classes count 0.

        Raises:
            ConfigError: the pack is unknown, or an argument is not accepted.
            DataError: an image cannot be read.
            RunError: the scores of an image are not finite.
        """
        return list(self.iterate(images, pack=pack, top_k=top_k, batch_size=batch_size, prior=prior))

    def iterate(
        self,
        images: Picture | Iterable[Picture],
        *,
        pack: str | None = None,
        top_k: int = 5,
        batch_size: int = 32,
        prior: Mapping[str, float] | None = None,
    ) -> Iterator[Prediction]:
        """Classify images as `predict` does, one after the other, with one batch in memory."""
        name = self._checked(pack)
        check_positive(top_k=top_k, batch_size=batch_size)
        if prior is not None:
            _check_prior(self._packs[name], prior)
        return self._iterate(name, each_picture(images), top_k, batch_size, prior)

    def _iterate(
        self, name: str, images: Iterator[Picture], top_k: int, batch_size: int, prior: Mapping[str, float] | None
    ) -> Iterator[Prediction]:
        preprocessing = self._packs[name].info.preprocessing
        transform, reading = preprocessing.test_transform(), Reading(white=preprocessing.white)
        batch: list[tuple[str, Tensor]] = []
        for number, image in enumerate(images):
            image_name, picture = read_picture(image, number, reading)
            batch.append((image_name, transform(picture)))
            if len(batch) == batch_size:
                yield from self._classify(name, batch, top_k, prior)
                batch = []
        if batch:
            yield from self._classify(name, batch, top_k, prior)

    def split(self, images: LabelledImages, *, pack: str | None = None, **options: object) -> Predictions:
        """Return the scores of all images of a split; options as in `lpt.evaluation.predictions.predict_split`."""
        name = self._checked(pack)
        info, model = self._packs[name].info, self._models[name].model
        (images,) = with_white([images], info.preprocessing.white)
        return predict_split(
            model,
            images,
            info.preprocessing,
            group_prompts=info.uses_group_prompts,
            model_name=_label(self._packs[name]),
            **options,  # type: ignore[arg-type]
        )

    def scores(self, inputs: Tensor, *, pack: str | None = None) -> Scores:
        """Return scores and picked groups of normalised images, as in `InferenceModel.scores`."""
        return self.model(pack).scores(inputs)

    def _checked(self, name: str | None) -> str:
        """Return the name of a pack; the first one for None."""
        if name is None:
            return next(iter(self._packs))
        if name not in self._packs:
            raise ConfigError(f"there is no pack {name!r} here; loaded: {', '.join(self._packs)}")
        return name

    def _classify(
        self, name: str, batch: list[tuple[str, Tensor]], top_k: int, prior: Mapping[str, float] | None
    ) -> Iterator[Prediction]:
        pack = self._packs[name]
        scores, groups = self._models[name].classify(torch.stack([pixels for _, pixels in batch]))
        table = scores.cpu().numpy()
        check_scores(table, lambda row: batch[row][0], model_name=_label(pack))
        table = probabilities_of(pack, table, prior=prior)
        check_scores(table, lambda row: batch[row][0], model_name=_label(pack))
        order = np.argsort(-table, axis=1, kind="stable")[:, :top_k]
        for row, (image_name, _) in enumerate(batch):
            picked = () if groups is None else tuple(groups[row].tolist())
            classes = tuple(pack.info.class_names[index] for index in order[row])
            yield Prediction(image_name, classes, tuple(table[row, order[row]].tolist()), picked)


def probabilities_of(
    pack: Pack, scores: npt.NDArray[np.floating], *, prior: Mapping[str, float] | None = None
) -> npt.NDArray[np.floating]:
    """Return softmax(scale * score / temperature) of a pack, adjusted to a class prior if there is one.

    Without `prior` the probabilities assume even classes if training balanced them, as LPT does, else the frequencies
    of the training images (`probabilities.classes` of the pack). [n, C] -> [n, C].

    Raises:
        ConfigError: the prior names unknown classes or has no positive value.
    """
    setting = pack.info.probabilities
    table = probabilities(scores, setting.scale, setting.temperature)
    if prior is None:
        return table
    _check_prior(pack, prior)
    deployed = np.array([prior.get(name, 0.0) for name in pack.info.class_names], dtype=np.float64)
    counts = np.asarray(pack.info.class_counts, dtype=np.float64)
    trained = np.ones(len(deployed)) if setting.classes == "even" else np.maximum(counts, 1)
    return adjust_prior(table, trained / trained.sum(), deployed / deployed.sum())


def _label(pack: Pack) -> str:
    """Return what messages call a pack."""
    return f"the pack {pack.path}"


def _check_prior(pack: Pack, prior: Mapping[str, float]) -> None:
    unknown = sorted(map(str, set(prior) - set(pack.info.class_names)))
    shares: list[object] = list(prior.values())
    wrong = [share for share in shares if not isinstance(share, Real) or not 0 <= float(share) < math.inf]
    if unknown or wrong or not any(shares):
        raise ConfigError(
            "prior: give a finite share of at least 0, some positive, for classes of the pack; "
            f"unknown: {', '.join(unknown[:5]) or 'none'}"
        )


def _named_packs(packs: object) -> dict[str, Pack]:
    """Load packs that are given in any form, and name them."""
    if isinstance(packs, Mapping | Sequence) and not packs:
        raise ConfigError("packs: give at least one pack")
    if isinstance(packs, Mapping):
        return {str(name): _loaded(pack) for name, pack in packs.items()}
    several = list(packs) if isinstance(packs, Sequence) and not isinstance(packs, str) else [packs]
    named: dict[str, Pack] = {}
    for pack in map(_loaded, several):
        name = pack.path.resolve().parent.name if pack.path.name == "pack" else last_part(pack.path)
        if name in named:
            raise ConfigError(f"two packs are named {name!r}: give them as a mapping of names to packs")
        named[name] = pack
    return named


def _loaded(pack: object) -> Pack:
    if isinstance(pack, Pack):
        return pack
    if isinstance(pack, str | Path):
        return load_pack(pack)
    raise ConfigError(f"packs: {type(pack).__name__} is not a pack, a path, a list or a mapping of these")
