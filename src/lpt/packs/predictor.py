"""Classify images with any number of packs on one frozen backbone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lpt.config.bounds import check_positive
from lpt.data.decoding import Reading
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.errors import ConfigError
from lpt.evaluation.scores import check_scores
from lpt.model.consent import permitted_name
from lpt.packs.engine import ENGINES, PRECISIONS, Engine, LoadedPack, Output
from lpt.packs.exported import is_exported
from lpt.packs.hub import parse_address
from lpt.packs.pack import Pack, load_pack
from lpt.packs.pictures import Picture, each_picture, read_picture
from lpt.packs.prediction import Prediction, Prepared, by_pack, describe, label_of
from lpt.packs.prior import Prior, deployed_weights
from lpt.packs.rejection import check_threshold
from lpt.system.files import last_part
from lpt.system.packages import explain_missing_packages

if TYPE_CHECKING:
    from torch import Tensor

    from lpt.evaluation.predictions import Predictions
    from lpt.model.backbone import FrozenViT
    from lpt.model.inference import InferenceModel

PackOrPath = Pack | str | Path


def load_predictor(
    packs: PackOrPath | Sequence[PackOrPath] | Mapping[str, PackOrPath],
    *,
    backbone: FrozenViT | str | Path | None = None,
    checkpoint: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Predictor:
    """Load packs and their backbone, ready to classify.

    Args:
        packs: a pack, its folder, its run folder or its address `hf://OWNER/NAME[@REVISION]` on the hub; several of
            these, named by their folders or repositories; or a mapping of names.
        backbone: a backbone, its name, or the folder that `lpt export --backbone` wrote; None: the one that the first
            pack names. A pack may only name backbones that come with lpt, and those in timm's organisation on the hub.
        checkpoint: local weights of the backbone, unless `backbone` is a `FrozenViT`.
        engine: auto, torch or onnx. onnx runs an exported backbone, and needs no PyTorch; auto takes it if the backbone
            is the folder of one.
        device: auto, cpu, cuda or mps; a given `FrozenViT` stays where it is.
        precision: auto, fp32 or bf16; a given `FrozenViT` keeps its own. auto: float32 on a CPU, and bfloat16 on a card
            that is fast with it. In bfloat16 probabilities change by some hundredths, also with the batch size.

    Raises:
        PackError: a pack is damaged, belongs to other weights, or gives other outputs than where it was written.
        ConfigError: the backbone cannot be loaded, only the user may name it, or an argument is wrong.

    Example:
        >>> predictor = lpt.load_predictor({"photos": "runs/photos"})
        >>> predictor.pack_names
        ('photos',)
    """
    return Predictor(
        backbone, packs, checkpoint=checkpoint, engine=engine, device=device, precision=precision
    )  # fmt: skip


class Predictor:
    """Any number of packs on a backbone, ready to classify.

    Several threads may call all of its methods at once: packs come and go while others predict.

    Args:
        backbone: a backbone from `lpt.load_backbone`, or its name; None: the one that the first pack names.
        packs: a pack or its path, several of these (named by their folders), or a mapping of names.
        checkpoint, engine, device, precision: as for `lpt.load_predictor`.

    Raises:
        PackError: a pack is damaged, belongs to other weights, or gives other outputs than where it was written.
        ConfigError: the backbone cannot be loaded, or an argument is wrong.

    Example:
        >>> predictor = lpt.Predictor("lpt-demo-glyphs", "runs/photos")
        >>> (prediction,) = predictor.predict("photos/test/light/0.jpg", top_k=2)
        >>> len(prediction.classes), prediction.label in ("dark", "grey", "light")
        (2, True)
    """

    def __init__(
        self,
        backbone: FrozenViT | str | Path | None,
        packs: PackOrPath | Sequence[PackOrPath] | Mapping[str, PackOrPath],
        *,
        checkpoint: str | Path | None = None,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        for name, value, accepted in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
            if value not in accepted:
                raise ConfigError(f"{name}: {value!r} is not accepted; choose {', '.join(accepted)}")
        named = _named_packs(packs)
        if backbone is None and engine == "onnx":
            raise ConfigError(
                "backbone: engine onnx needs the folder of an exported backbone. Next: write one with lpt export, "
                "where PyTorch is installed"
            )
        self._lock = threading.Lock()
        with explain_missing_packages("lpt.Predictor"):
            if backbone is None:
                first = next(iter(named.values()))
                weights = None if checkpoint is None else Path(checkpoint)
                backbone = permitted_name(first.info.backbone, first.origin, checkpoint=weights)
            self._engine = _new_engine(engine, backbone, checkpoint=checkpoint, device=device, precision=precision)
        for pack in named.values():  # before any model is built
            pack.check_hash(
                self._engine.backbone_hash, str(backbone) if isinstance(backbone, str | Path) else backbone.name
            )
        self._loaded: dict[str, LoadedPack] = {name: self._engine.load(pack) for name, pack in named.items()}

    @property
    def engine(self) -> Engine:
        """What runs the network."""
        return self._engine

    @property
    def pack_names(self) -> tuple[str, ...]:
        """Names of the packs, the default first."""
        return tuple(self._loaded)

    def add(self, pack: PackOrPath, name: str | None = None, *, replace: bool = False) -> str:
        """Verify a pack, make it ready, and return its name; predictions go on meanwhile.

        Args:
            pack: a pack, its folder, its run folder or its address on the hub.
            name: its name; None: that of its folder.
            replace: take the place of a pack of this name. Images that were prepared for the former one keep it.

        Raises:
            PackError: it is damaged, belongs to other weights, or gives other outputs than where it was written.
            ConfigError: the name is taken, and `replace` is not set.
        """
        read = _loaded(pack)
        name = _name_of(read) if name is None else str(name)
        if not replace and name in self._loaded:
            raise _taken(name)
        loaded = self._engine.load(read)
        with self._lock:
            if not replace and name in self._loaded:
                raise _taken(name)
            self._loaded = {**self._loaded, name: loaded}
        return name

    def remove(self, name: str) -> None:
        """Remove a pack by its name; images that were prepared for it can still be classified.

        Raises:
            ConfigError: there is no pack of this name.
        """
        with self._lock:
            self._find(name)
            self._loaded = {other: loaded for other, loaded in self._loaded.items() if other != name}

    def pack(self, name: str | None = None) -> Pack:
        """Return a pack by name; the first one by default."""
        return self._find(name)[1].pack

    def model(self, name: str | None = None) -> InferenceModel:
        """Return the PyTorch model of a pack by name; of the first one by default.

        Raises:
            ConfigError: there is no such pack, or the engine is not torch.
        """
        from lpt.packs.torch_engine import TorchPack

        loaded = self._find(name)[1]
        if not isinstance(loaded, TorchPack):
            raise ConfigError(f"engine: {self._engine.name} has no PyTorch model; load the predictor with engine torch")
        return loaded.model

    def predict(
        self,
        images: Picture | Iterable[Picture],
        *,
        pack: str | Iterable[str] | None = None,
        top_k: int = 5,
        batch_size: int = 32,
        prior: Prior | None = None,
        attention: bool = False,
        reject: bool = False,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: an image or several: paths, Pillow images, bytes of image files, files opened for bytes, uint8
                arrays [H, W, 3], tensors [3, H, W] (uint8, or float in 0..1); an array or tensor with one dimension
                more holds several.
            pack: name of the pack, or a name for each image; the first pack by default.
            top_k: number of classes for each image, at least 1; above the number of classes: all.
            batch_size: images in a forward pass, at least 1; they may belong to different packs.
            prior: expected share of each class by name, where the images come from; missing classes count 0. Or
                `even`, or `training`: as frequent as among the training images of each pack.
            attention: also return where the class token looked.
            reject: also say which images show none of the classes, by the threshold of the pack; a prior changes
                nothing of it.

        Raises:
            ConfigError: the pack is unknown or has no threshold, or an argument is not accepted.
            DataError: an image cannot be read.
            RunError: the scores of an image are not finite.
        """
        predictions = self.iterate(
            images, pack=pack, top_k=top_k, batch_size=batch_size, prior=prior, attention=attention, reject=reject
        )  # fmt: skip
        return list(predictions)

    def iterate(
        self,
        images: Picture | Iterable[Picture],
        *,
        pack: str | Iterable[str] | None = None,
        top_k: int = 5,
        batch_size: int = 32,
        prior: Prior | None = None,
        attention: bool = False,
        reject: bool = False,
    ) -> Iterator[Prediction]:
        """Classify images as `predict` does, one after the other, with one batch in memory."""
        check_positive(top_k=top_k, batch_size=batch_size)
        if pack is None or isinstance(pack, str):
            name = self._find(pack)[0]
            if prior is not None:
                deployed_weights(self.pack(name), prior)  # refuses it before an image is read
            if reject:
                check_threshold(self.pack(name))
            names: Iterator[str] = repeat(name)
        else:
            names = iter(pack)
        classify = partial(self.classify, top_k=top_k, prior=prior, attention=attention, reject=reject)
        return self._iterate(names, each_picture(images), batch_size, classify)

    def _iterate(
        self,
        names: Iterator[str],
        images: Iterator[Picture],
        batch_size: int,
        classify: Callable[[list[Prepared]], list[Prediction]],
    ) -> Iterator[Prediction]:
        batch: list[Prepared] = []
        for number, image in enumerate(images):
            name = next(names, None)
            if name is None:
                raise ConfigError(f"pack: there are names for {number} images, and more images. Give one for each")
            batch.append(self.prepare(image, pack=name, number=number))
            if len(batch) == batch_size:
                yield from classify(batch)
                batch = []
        if batch:
            yield from classify(batch)
        if not isinstance(names, repeat) and next(names, None) is not None:
            raise ConfigError("pack: there are more names than images. Give one for each")

    def prepare(self, picture: Picture, *, pack: str | None = None, number: int = 0) -> Prepared:
        """Decode an image and transform it for a pack; no network runs. Threads may do this ahead.

        Args:
            picture: an image in any form that `predict` takes.
            pack: name of the pack; the first one by default.
            number: what to call an image without a path.

        Raises:
            ConfigError: the pack is unknown, or the image is nothing that is accepted.
            DataError: the image cannot be read.
        """
        name, loaded = self._find(pack)
        preprocessing = loaded.pack.info.preprocessing
        image_name, pixels = read_picture(picture, number, Reading(white=preprocessing.white))
        return Prepared(image_name, name, loaded, preprocessing.test_array(pixels))

    def run(self, batch: Sequence[Prepared], *, attention: bool = False) -> list[Output]:
        """Run the network once on prepared images, which may belong to different packs; in their order.

        Raises:
            RunError: the scores of an image are not finite.
        """
        outputs = self._engine.run([(item.loaded, item.pixels) for item in batch], attention=attention)
        for items, given in by_pack(batch, outputs):
            table = np.stack([output.scores for output in given])
            check_scores(table, lambda row, items=items: items[row].name, model_name=label_of(items[0].loaded.pack))  # type: ignore[misc]
        return outputs

    def classify(
        self,
        batch: Sequence[Prepared],
        *,
        top_k: int = 5,
        prior: Prior | None = None,
        attention: bool = False,
        reject: bool = False,
    ) -> list[Prediction]:
        """Classify prepared images in one run of the network; arguments and errors as for `predict`."""
        outputs = self.run(batch, attention=attention)
        runs = (describe(*same, top_k=top_k, prior=prior, reject=reject) for same in by_pack(batch, outputs))
        return [prediction for run in runs for prediction in run]

    def split(self, images: LabelledImages, *, pack: str | None = None, **options: object) -> Predictions:
        """Return the scores of all images of a split; options as in `lpt.evaluation.predictions.predict_split`."""
        from lpt.data.cache import with_white
        from lpt.evaluation.predictions import SplitClassifier, predict_split

        loaded = self._find(pack)[1]
        info = loaded.pack.info
        (images,) = with_white([images], info.preprocessing.white)
        picks = info.uses_group_prompts

        def classify(pixels: Tensor) -> tuple[Float32Array, IntArray | None]:
            outputs = self._engine.run([(loaded, image) for image in pixels.numpy()])
            scores = np.stack([output.scores for output in outputs])
            return scores, np.array([output.groups for output in outputs]) if picks else None

        if self._engine.name == "torch":  # in the batches of training, which its numbers were measured with
            classifier = SplitClassifier.of_model(self.model(pack))
        else:
            classifier = SplitClassifier(classify, len(info.class_names), picks)
        return predict_split(classifier, images, info.preprocessing, model_name=label_of(loaded.pack), **options)  # type: ignore[arg-type]

    def _find(self, name: str | None) -> tuple[str, LoadedPack]:
        """Return a pack and its name; the first one for None."""
        packs = self._loaded
        if name is None and packs:
            name = next(iter(packs))
        if name is None or name not in packs:
            wanted = "there is no pack here" if name is None else f"there is no pack {name!r} here"
            raise ConfigError(f"{wanted}; loaded: {', '.join(packs) or 'none'}")
        return name, packs[name]


def _new_engine(
    engine: str, backbone: FrozenViT | str | Path, *, checkpoint: str | Path | None, device: str, precision: str
) -> Engine:
    """Return the engine for a backbone; auto: ONNX Runtime if the backbone is the folder of an exported one."""
    if engine == "onnx" or (engine == "auto" and is_exported(backbone)):
        from lpt.packs.onnx import OnnxEngine

        if checkpoint is not None or not isinstance(backbone, str | Path):
            raise ConfigError("backbone: engine onnx takes the folder of an exported backbone, and no checkpoint")
        return OnnxEngine(backbone, device=device, precision=precision)
    from lpt.packs.torch_engine import TorchEngine

    if isinstance(backbone, Path):
        raise ConfigError(f"backbone: {backbone} is not the folder of an exported backbone. Give one, or a name")
    return TorchEngine(backbone, checkpoint=checkpoint, device=device, precision=precision)


def _taken(name: str) -> ConfigError:
    return ConfigError(f"there is a pack {name!r} already: give another name, remove that one, or replace it")


def pack_name(path: Path) -> str:
    """Return the name of a pack, by its folder or the run folder that holds it."""
    return path.resolve().parent.name if path.name == "pack" else last_part(path)


def _name_of(pack: Pack) -> str:
    return pack_name(pack.path) if pack.address is None else parse_address(pack.address).name


def _named_packs(packs: object) -> dict[str, Pack]:
    """Load packs that are given in any form, and name them."""
    if isinstance(packs, Mapping | Sequence) and not packs:
        raise ConfigError("packs: give at least one pack")
    if isinstance(packs, Mapping):
        return {str(name): _loaded(pack) for name, pack in packs.items()}
    several = list(packs) if isinstance(packs, Sequence) and not isinstance(packs, str) else [packs]
    named: dict[str, Pack] = {}
    for pack in map(_loaded, several):
        name = _name_of(pack)
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
