"""Export a backbone as one `backbone.onnx` in which a pack is an input."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import save

from lpt import __version__
from lpt.commands.export.compose import Traced, compose
from lpt.commands.export.onnx_files import OPSET, check_equal, check_size, encode, run_once, trace
from lpt.commands.export.parts import Parts, different_blocks, example_inputs
from lpt.config.architecture import Architecture
from lpt.data.manifest import Float32Array
from lpt.model.backbone import FrozenViT, patch_pixels
from lpt.model.build import build_model
from lpt.model.lpt import LPT
from lpt.packs.exported import DESCRIPTION, GRAPH, POSITIONS, BackboneExport
from lpt.packs.files import sha256
from lpt.packs.pack_arrays import pack_arrays


def encode_backbone(backbone: FrozenViT) -> dict[str, bytes]:
    """Return the files of an exported backbone by name, the description first.

    Args:
        backbone: the backbone, in float32 at the size of its weights.

    Raises:
        ConfigError: a part of it cannot be exported, or the weights are too large for one file.
        RunError: ONNX Runtime computes something else than PyTorch.
    """
    parts = Parts(backbone)
    check_size(parts, backbone.name)
    example, dynamic = example_inputs(parts)
    with torch.no_grad():
        outputs = list(parts(example))
    model = trace(parts, {"inputs": example}, {"inputs": dynamic}, inputs=list(example), outputs=outputs)
    traced_as = {**different_blocks(backbone), backbone.depth - 1: backbone.depth - 1}
    graph = compose(Traced(model, parts.state_dict()), backbone.depth, backbone.width, traced_as)
    rows, columns = backbone.vit.patch_embed.grid_size
    grid = parts.positions.transpose(1, 2).reshape(1, backbone.width, rows, columns)
    positions = save({"positions": np.ascontiguousarray(grid.numpy())})
    content = encode(graph, {"backbone": backbone.record.name, "weight_hash": backbone.record.weight_hash})
    _check(backbone, content, grid.numpy())
    description = BackboneExport(
        backbone=backbone.record.without_folders(),
        depth=backbone.depth,
        width=backbone.width,
        patch=patch_pixels(backbone.vit),
        prefix_tokens=backbone.vit.num_prefix_tokens,
        graph_sha256=sha256(content),
        positions_sha256=sha256(positions),
        opset=OPSET,
        versions={"lpt": __version__, "torch": torch.__version__},
    )
    text = description.model_dump_json(indent=2) + "\n"
    return {DESCRIPTION: text.encode(), POSITIONS: positions, GRAPH: content}


def _check(backbone: FrozenViT, content: bytes, positions: Float32Array) -> None:
    """Compare ONNX Runtime with PyTorch on two images and a pack of random tensors, in which no number is idle."""
    method = Architecture(
        prompt_length=2, shared_blocks=backbone.depth // 2, pool_size=3, adapter_size=2, adapter_scale=0.5
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(method, backbone, 4)
        for tensor in model.parameters():
            tensor.normal_(0, 0.5)
        images = torch.randn(2, 3, *backbone.image_size)
        assert isinstance(model, LPT)
        wanted = model(images).cosines.numpy()
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = pack_arrays(method, tensors, backbone.depth, backbone.width, group_prompts=True)
    given = run_once(content, "scores", {**arrays, "images": images.numpy(), "positions": positions})
    check_equal(given, wanted, "the exported backbone gives other scores")
