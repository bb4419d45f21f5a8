"""Export a pack whole: pack and backbone as one `model.onnx`, with labels, preprocessing and probabilities in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lpt import __version__
from lpt.commands.export.model_graph import ModelGraph, resized_size
from lpt.commands.export.onnx_files import OPSET, check_equal, check_size, encode, run_once, trace
from lpt.packs.facts import class_facts
from lpt.packs.info import PackInfo
from lpt.packs.predictor import Predictor


def encode_pack(predictor: Predictor) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of `model.onnx` for the first pack of a predictor, and the facts that are its metadata.

    The graph takes `images`, uint8 [B, height, width, 3]: RGB pictures, resized to the size in the metadata. It gives
    `probabilities` [B, C], `scores` [B, C] and, if the pack uses group prompts, `groups` [B, k].

    Args:
        predictor: a float32 predictor on the CPU, with engine torch.

    Raises:
        ConfigError: the weights are too large for one file.
        RunError: ONNX Runtime computes something else than PyTorch.
    """
    info = predictor.pack().info
    graph = ModelGraph(predictor.model(), info).eval()
    check_size(graph, info.backbone.name)
    example = torch.zeros((2, *resized_size(info), 3), dtype=torch.uint8)
    names = ("probabilities", "scores", *(("groups",) if info.uses_group_prompts else ()))
    model = trace(
        graph, {"images": example}, {"images": {0: torch.export.Dim("batch")}}, inputs=("images",), outputs=names
    )
    facts = model_facts(info)
    content = encode(model, facts)
    _check(graph, content, resized_size(info))
    return content, facts


def model_facts(info: PackInfo) -> dict[str, Any]:
    """Return what `model.onnx` says about itself, by key of its metadata."""
    height, width = resized_size(info)
    preprocessing, setting = info.preprocessing, info.probabilities
    told = ("class", "training_images", "shot_group")
    return {
        "classes": [{name: facts[name] for name in told} for facts in class_facts(info)],
        "preprocessing": {
            "height": height,
            "width": width,
            "interpolation": preprocessing.interpolation,
            "white": preprocessing.white,
            "steps": f"Turn the picture upright (EXIF), lay it on white if it is transparent, make it RGB, resize it "
            f"to {width} x {height} pixels whatever its aspect ({preprocessing.interpolation}, antialiased), and give "
            f"the bytes as uint8 [batch, {height}, {width}, 3]. Crop and normalisation are in the graph.",
        },
        "probabilities": {
            **setting.model_dump(mode="json"),
            "meaning": f"softmax({setting.scale:g} * score / {setting.temperature:.4g}); "
            f"{setting.fit_in_words}; for "
            + ("even classes" if setting.classes == "even" else "the class frequencies of the training images"),
        },
        "rejection": None if info.rejection is None else info.rejection.model_dump(mode="json"),
        "method": info.method.name,
        "backbone": info.backbone.model_dump(mode="json", include={"name", "weight_hash", "licence"}),
        "pack_sha256": info.tensors_sha256,
        "versions": {"lpt": __version__, "torch": torch.__version__, "opset": OPSET},
    }


def _check(graph: ModelGraph, content: bytes, size: tuple[int, int]) -> None:
    """Compare ONNX Runtime with PyTorch on two images of noise."""
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = graph(torch.from_numpy(images))[0].numpy()
    given = run_once(content, "probabilities", {"images": images})
    check_equal(given, wanted, "the exported model gives other probabilities")
