"""Packs on one frozen backbone, ready to classify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lpt.data.decoding import as_rgb, read_image
from lpt.data.manifest import LabelledImages
from lpt.errors import ConfigError
from lpt.evaluation.calibration import adjust_prior, probabilities
from lpt.evaluation.predictions import Predictions, check_scores, predict_split
from lpt.model import LPT, Classifier, FrozenViT, to_bfloat16
from lpt.model.backbone import KeyValue
from lpt.model.consent import backbone_for
from lpt.model.inference import classify
from lpt.packs.info import uses_group_prompts
from lpt.packs.pack import Pack, load_pack
from lpt.system.hardware import inspect_machine

PRECISIONS = ("auto", "fp32", "bf16")
Picture = str | Path | Image.Image
Probabilities = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """Classes of one image.

    Args:
        name: the image's path, or its number in the call.
        classes: names of the most probable classes, best first.
        probabilities: theirs.
        groups: group prompts that were picked for it, by descending cosine; empty after phase 1 alone.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class _Ready:
    pack: Pack
    model: Classifier
    constants: list[KeyValue] | None


class Predictor:
    """Classify images with one or several packs on one backbone.

    The keys and values of each pack's shared prompt are computed once, here (DESIGN section 3, item 2).

    Args:
        backbone: a backbone from `lpt.load_backbone`, its name, or None to load the one the first pack names. A pack
            may name none but those shipped with lpt and those in timm's organisation on the hub.
        packs: a pack or its path, several of them (named by their folders), or packs by name.
        checkpoint: local backbone weights, when the backbone is given by name or None.
        device: auto, cpu, cuda or mps, for a backbone loaded here; one that is given stays where it is.
        precision: auto, fp32 or bf16, likewise.

    Raises:
        PackError: a pack is damaged, belongs to other weights, or gives other outputs than where it was written.
        ConfigError: the backbone cannot be had, the pack names one that only the user may name, or an argument is
            wrong.
    """

    def __init__(
        self,
        backbone: FrozenViT | str | None,
        packs: Pack | str | Path | Sequence[Pack | str | Path] | Mapping[str, Pack | str | Path],
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision: {precision!r} is not accepted; choose {', '.join(PRECISIONS)}")
        loaded = _named_packs(packs)
        low = False
        if isinstance(backbone, FrozenViT):
            self.device = backbone.device
        else:
            machine = inspect_machine(device)
            self.device = torch.device(machine.device)
            low = precision == "bf16" or (precision == "auto" and machine.fast_bf16)
            first, file = next(iter(loaded.values())), None if checkpoint is None else Path(checkpoint)
            backbone = backbone_for(first.info.backbone, first.path, name=backbone, checkpoint=file)
        for pack in loaded.values():  # before anything is built on it
            pack.check_backbone(backbone)
        self._dtype = torch.bfloat16 if low else backbone.dtype
        models = {name: pack.build(backbone) for name, pack in loaded.items()}  # verified in float32
        self._ready: dict[str, _Ready] = {}
        for name, model in models.items():
            model.to(self.device)
            if low:
                to_bfloat16(model)
            constants = None
            if isinstance(model, LPT) and uses_group_prompts(loaded[name].info):
                with torch.inference_mode():
                    constants = model.shared_constants()
            self._ready[name] = _Ready(loaded[name], model, constants)

    @property
    def pack_names(self) -> tuple[str, ...]:
        """Names of the packs, the default first."""
        return tuple(self._ready)

    @property
    def dtype(self) -> torch.dtype:
        """What the backbone computes in."""
        return self._dtype

    def pack(self, name: str | None = None) -> Pack:
        """A pack by name; the first one by default."""
        return self._named(name).pack

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
            images: paths or pictures.
            pack: which pack; the first by default.
            top_k: how many classes to give for an image.
            batch_size: images in a forward pass.
            prior: share of each class expected where the images come from, by class name; classes left out count 0.

        Raises:
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
        """As `predict`, one image after the other, with one batch in memory."""
        ready = self._named(pack)
        waiting: list[tuple[str, Tensor]] = []
        images = [images] if isinstance(images, str | Path | Image.Image) else images
        for number, image in enumerate(images):
            waiting.append(_opened(ready.pack, image, number))
            if len(waiting) == batch_size:
                yield from self._classify(ready, waiting, top_k, prior)
                waiting = []
        if waiting:
            yield from self._classify(ready, waiting, top_k, prior)

    def split(self, images: LabelledImages, *, pack: str | None = None, **options: object) -> Predictions:
        """Cosines of all images of a split; options as in `lpt.evaluation.predictions.predict_split`."""
        ready = self._named(pack)
        preprocessing = ready.pack.info.preprocessing
        grouped = uses_group_prompts(ready.pack.info)
        return predict_split(
            ready.model, images, preprocessing, group_prompts=grouped, model_name=_called(ready), **options  # type: ignore[arg-type]
        )  # fmt: skip

    @torch.inference_mode()
    def scores(self, inputs: Tensor, *, pack: str | None = None) -> tuple[Tensor, Tensor | None]:
        """Cosines (logits of a linear head) and picked groups of preprocessed images.

        [B, 3, height, width], or [B, V, 3, height, width] of a pack with several test views -> [B, C] and [B, k].
        """
        ready = self._named(pack)
        return classify(ready.model, inputs.to(self.device), ready.constants)

    def _named(self, name: str | None) -> _Ready:
        if name is None:
            return next(iter(self._ready.values()))
        if name not in self._ready:
            raise ConfigError(f"there is no pack {name!r} here; loaded: {', '.join(self._ready)}")
        return self._ready[name]

    def _classify(
        self, ready: _Ready, waiting: list[tuple[str, Tensor]], top_k: int, prior: Mapping[str, float] | None
    ) -> Iterator[Prediction]:
        info = ready.pack.info
        inputs = info.preprocessing.normalize(torch.stack([pixels for _, pixels in waiting]))
        name = next(key for key, value in self._ready.items() if value is ready)
        scores, groups = self.scores(inputs, pack=name)
        given = scores.cpu().numpy()
        check_scores(given, lambda row: waiting[row][0], model_name=_called(ready))
        table = probabilities_of(ready.pack, given, prior=prior)
        check_scores(table, lambda row: waiting[row][0], model_name=_called(ready))
        order = np.argsort(-table, axis=1, kind="stable")[:, :top_k]
        for row, (image_name, _) in enumerate(waiting):
            picked = () if groups is None else tuple(groups[row].tolist())
            classes = tuple(info.class_names[index] for index in order[row])
            yield Prediction(image_name, classes, tuple(table[row, order[row]].tolist()), picked)


def probabilities_of(
    pack: Pack, scores: npt.NDArray[np.floating], *, prior: Mapping[str, float] | None = None
) -> Probabilities:
    """softmax(scale * score / temperature) of a pack, for a deployment's own class prior if one is given.

    Before `prior` is applied they are for even classes where training balanced them, as LPT's does, and for the
    frequencies of the training images where it did not (`probabilities.classes` of the pack says which).
    [n, C] -> [n, C].

    Raises:
        ConfigError: the prior names unknown classes or has no positive value.
    """
    setting = pack.info.probabilities
    given = probabilities(scores, setting.scale, setting.temperature)
    if prior is None:
        return given
    unknown = sorted(set(prior) - set(pack.info.class_names))
    if unknown or not any(share > 0 for share in prior.values()) or min(prior.values()) < 0:
        raise ConfigError(
            "prior: give a share of at least 0, some positive, for classes of the pack; "
            f"unknown: {', '.join(unknown[:5]) or 'none'}"
        )
    deployed = np.array([prior.get(name, 0.0) for name in pack.info.class_names], dtype=np.float64)
    counts = np.asarray(pack.info.class_counts, dtype=np.float64)
    trained = np.ones(len(deployed)) if setting.classes == "even" else np.maximum(counts, 1)
    return adjust_prior(given, trained / trained.sum(), deployed / deployed.sum())


def _called(ready: _Ready) -> str:
    return f"the pack {ready.pack.path}"


def _opened(pack: Pack, image: Picture, number: int) -> tuple[str, Tensor]:
    transform = pack.info.preprocessing.test_transform()
    if isinstance(image, Image.Image):
        return str(number), transform(as_rgb(image))
    return str(image), transform(read_image(Path(image), str(image)))


def _named_packs(packs: object) -> dict[str, Pack]:
    if isinstance(packs, Mapping | Sequence) and not packs:
        raise ConfigError("packs: give at least one pack")
    if isinstance(packs, Mapping):
        return {str(name): _loaded(pack) for name, pack in packs.items()}
    several = list(packs) if isinstance(packs, Sequence) and not isinstance(packs, str) else [packs]
    named: dict[str, Pack] = {}
    for pack in map(_loaded, several):
        name = pack.path.resolve().parent.name if pack.path.name == "pack" else pack.path.name
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
