"""Export a backbone as one `backbone.onnx` in which a pack is an input."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import save

from lpt import __version__
from lpt.commands.export.compose import Traced, compose
from lpt.commands.export.onnx_files import OPSET, check_size, encode, trace
from lpt.commands.export.parts import Parts, different_blocks, example_inputs
from lpt.model.backbone import FrozenViT, patch_pixels
from lpt.packs.exported import DESCRIPTION, GRAPH, POSITIONS, BackboneExport
from lpt.packs.files import sha256


def encode_backbone(backbone: FrozenViT) -> dict[str, bytes]:
    """Return the files of an exported backbone by name, the description first.

    Args:
        backbone: the backbone, in float32 at the size of its weights.

    Raises:
        ConfigError: a part of it cannot be exported, or the weights are too large for one file.
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
