"""Put the traced parts of a backbone together as one ONNX graph in which a pack is an input.

The graph has two passes of L blocks. The first, under the shared prompt, runs up to `query_blocks` and gives the query.
The second runs from `shared_blocks` on, under the shared and the picked group prompts; before that it takes the tokens
of the first. Every block stands in an `If`, so that what a pack does not need is not computed, and all passes share one
copy of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

OUTPUTS = ("scores", "groups", "query", "attention")
_FLOATS: dict[str, tuple[str | int, ...]] = {
    "images": ("batch", 3, "height", "width"),
    "positions": (1, "D", "rows", "columns"),
    "extra": (1, "extra_tokens", "D"),
    "shared": ("L", "prompt_length", "D"),
    "group_prompts": ("pool", "later_blocks", "prompt_length", "D"),
    "keys": ("pool", "D"),
    "picks": ("top_k",),
    "down": ("L", "D", "adapter_size"),
    "down_bias": ("L", "adapter_size"),
    "up": ("L", "adapter_size", "D"),
    "up_bias": ("L", "D"),
    "head": ("D", "classes"),
    "head_bias": ("classes",),
}
"""Inputs of the graph and their shapes; `L` and `D` stand for the backbone's numbers."""
_NUMBERS, _FLAGS = ("shared_blocks", "query_blocks"), ("adapters", "adapter_norm", "cosine")
INPUTS = (*_FLOATS, *_NUMBERS, *_FLAGS)


@dataclass
class Traced:
    """A model of parts side by side, and the weights of all blocks by name."""

    model: ModelProto
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.order = {id(node): number for number, node in enumerate(graph.node)}
        self.used: dict[str, TensorProto] = {}

    def paste(
        self, names: Mapping[str, str], tag: str, weight: Callable[[str], str] = lambda name: name
    ) -> list[NodeProto]:
        """Return copies of the nodes between some inputs and outputs of the parts.

        Args:
            names: new names of these inputs and outputs.
            tag: first part of the names of everything between them.
            weight: turns the name of a weight into that of another block.
        """

        def renamed(name: str) -> str:
            if not name or name in names:
                return names.get(name, "")
            if name in self.constants:
                return self._use(name, weight(name))
            return f"{tag}/{name}"

        nodes = [copy.deepcopy(node) for node in self._between(names)]
        for node in nodes:
            node.name = f"{tag}/{node.name}"
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
        return nodes

    def _between(self, names: Mapping[str, str]) -> list[NodeProto]:
        """Return the nodes that the outputs among these names need, in their order."""
        wanted = [name for name in names if name in self.producers]
        chosen: dict[int, NodeProto] = {}
        while wanted:
            node = self.producers.get(wanted.pop())
            if node is not None and id(node) not in chosen:
                chosen[id(node)] = node
                wanted += [name for name in node.input if name not in names]
        return sorted(chosen.values(), key=lambda node: self.order[id(node)])

    def _use(self, traced: str, name: str) -> str:
        """Register a constant of the new graph: one of the model, or the weight of this name."""
        if name not in self.used:
            tensor = self.constants[traced]
            if name in self.weights:
                tensor = numpy_helper.from_array(self.weights[name].detach().contiguous().numpy(), name)
            self.used[name] = tensor
        return name


class _Composer:
    """Builds the graph; L blocks, of which `traced_as` gives the traced block of the same kind."""

    def __init__(self, parts: Traced, depth: int, traced_as: Mapping[int, int]) -> None:
        self.parts, self.depth, self.traced_as = parts, depth, traced_as
        self.constants: dict[str, TensorProto] = {}

    def nodes(self) -> list[NodeProto]:
        """Return the nodes of the graph in their order."""
        paste, depth = self.parts.paste, self.depth
        nodes = paste(
            {"images": "images", "positions": "positions", "extra": "extra", "embed/tokens": "first0"}, "embed"
        )
        for layer in range(depth):
            nodes += self._first(layer)
        nodes += paste({"class_token": f"first{depth}", "norm/features": "query"}, "query")
        match = {name: name for name in ("query", "keys", "picks", "group_prompts")}
        nodes += paste({**match, "match/groups": "groups", "match/mean": "group_mean"}, "match")
        nodes.append(helper.make_node("Identity", ["first0"], ["second0"], "second0"))
        for layer in range(depth):
            nodes += self._second(layer)
        nodes += paste({"class_token": f"second{depth}", "norm/features": "features"}, "norm")
        head = {name: name for name in ("features", "cosine", "head", "head_bias")}
        return nodes + paste({**head, "head/scores": "scores"}, "head")

    def _first(self, layer: int) -> list[NodeProto]:
        """Return a block of the first pass: its tokens, or unchanged ones beyond `query_blocks`."""
        tag, tokens = f"first_pass/block{layer}", f"first{layer}"
        no_group = helper.make_node(
            "Slice", [tokens, self._ints(0), self._ints(0), self._ints(1)], [f"{tag}/group"], f"{tag}/group"
        )
        run = [no_group, *self._block(layer, tag, tokens, f"{tag}/group")]
        skip = [helper.make_node("Identity", [tokens], [f"{tag}/skipped"], f"{tag}/skip")]
        if layer == self.depth - 1:
            class_token = [tokens, self._ints(0), self._ints(1), self._ints(1)]
            skip = [helper.make_node("Slice", class_token, [f"{tag}/skipped"], f"{tag}/skip")]
            # never used: the second pass runs the last block then
            skip.append(helper.make_node("ReduceMax", [tokens, self._ints(2)], [f"{tag}/no_attention"], keepdims=0))
        return self._if(layer, tag, "Greater", "query_blocks", run, skip, "first")

    def _second(self, layer: int) -> list[NodeProto]:
        """Return a block of the second pass: its tokens, or those of the first pass before `shared_blocks`."""
        tag = f"second_pass/block{layer}"
        index = helper.make_node("Sub", [self._int(layer), "shared_blocks"], [f"{tag}/index"], f"{tag}/index")
        group = helper.make_node("Gather", ["group_mean", f"{tag}/index"], [f"{tag}/group"], f"{tag}/group", axis=1)
        run = [index, group, *self._block(layer, tag, f"second{layer}", f"{tag}/group")]
        skip = [helper.make_node("Identity", [f"first{layer + 1}"], [f"{tag}/skipped"], f"{tag}/skip")]
        if layer == self.depth - 1:
            skip.append(helper.make_node("Identity", ["first_attention"], [f"{tag}/no_attention"]))
        return self._if(layer, tag, "LessOrEqual", "shared_blocks", run, skip, "second")

    def _block(self, layer: int, tag: str, tokens: str, group: str) -> list[NodeProto]:
        """Return a block with its adapter; its outputs are `tag`/out and, in the last block, `tag`/attention."""
        traced = self.traced_as[layer]
        prefix, own = f"vit.blocks.{traced}.", f"vit.blocks.{layer}."
        names = {"tokens": tokens, "prompt": f"{tag}/prompt", "group_prompt": group}
        names |= {f"block{traced}/tokens": f"{tag}/changed", f"block{traced}/inside": f"{tag}/inside"}
        if layer == self.depth - 1:
            names[f"block{traced}/attention"] = f"{tag}/attention"
        prompt = helper.make_node("Gather", ["shared", self._int(layer)], [f"{tag}/prompt"], f"{tag}/prompt", axis=0)
        block = self.parts.paste(
            names, tag, lambda name: own + name.removeprefix(prefix) if name.startswith(prefix) else name
        )
        return [prompt, *block, self._adapter(layer, tag)]

    def _adapter(self, layer: int, tag: str) -> NodeProto:
        """Return the `If` that adds what the adapter of a block gives, where the pack has adapters."""
        inside = f"{tag}/adapter"
        names = {"inside": f"{tag}/inside", "adapter_norm": "adapter_norm", "adapter/added": f"{inside}/added"}
        nodes = []
        for name in ("down", "down_bias", "up", "up_bias"):
            names[name] = f"{inside}/{name}"
            nodes.append(helper.make_node("Gather", [name, self._int(layer)], [names[name]], names[name], axis=0))
        nodes += self.parts.paste(names, inside)
        nodes.append(helper.make_node("Add", [f"{tag}/changed", f"{inside}/added"], [f"{inside}/out"], f"{inside}/out"))
        plain = helper.make_node("Identity", [f"{tag}/changed"], [f"{inside}/plain"], f"{inside}/plain")
        return _make_if("adapters", [f"{tag}/out"], nodes, [f"{inside}/out"], [plain], [f"{inside}/plain"], inside)

    def _if(
        self,
        layer: int,
        tag: str,
        relation: str,
        number: str,
        run: Sequence[NodeProto],
        skip: Sequence[NodeProto],
        chain: str,
    ) -> list[NodeProto]:
        """Return the nodes that run a block where a number stands in a relation to its index, and skip it elsewhere."""
        outputs, kept, skipped = [f"{chain}{layer + 1}"], [f"{tag}/out"], [f"{tag}/skipped"]
        if layer == self.depth - 1:
            outputs.append("attention" if chain == "second" else "first_attention")
            kept.append(f"{tag}/attention")
            skipped.append(f"{tag}/no_attention")
        runs = helper.make_node(relation, [number, self._int(layer)], [f"{tag}/runs"], f"{tag}/runs")
        return [runs, _make_if(f"{tag}/runs", outputs, run, kept, skip, skipped, tag)]

    def _int(self, value: int) -> str:
        return self._constant(f"int_{value}", np.array(value, dtype=np.int64))

    def _ints(self, value: int) -> str:
        return self._constant(f"ints_{value}", np.array([value], dtype=np.int64))

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def compose(parts: Traced, depth: int, width: int, traced_as: Mapping[int, int]) -> ModelProto:
    """Return the whole graph as a model.

    Args:
        parts: the traced parts.
        depth, width: blocks L and token width D of the backbone.
        traced_as: for each block the traced block of the same kind.
    """
    composer = _Composer(parts, depth, traced_as)
    nodes = composer.nodes()
    sizes: dict[str | int, str | int] = {"L": depth, "D": width}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [sizes.get(side, side) for side in shape])
        for name, shape in _FLOATS.items()
    ]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, []) for name in _NUMBERS]
    inputs += [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in _FLAGS]
    shapes: dict[str, list[str | int]] = {
        "scores": ["batch", "classes"],
        "groups": ["batch", "top_k"],
        "query": ["batch", width],
        "attention": ["batch", "tokens"],
    }
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name == "groups" else TensorProto.FLOAT, shapes[name])
        for name in OUTPUTS
    ]
    initializers = [*parts.used.values(), *composer.constants.values()]
    graph = helper.make_graph(nodes, "backbone", inputs, outputs, initializers)
    traced = parts.model
    return helper.make_model(graph, opset_imports=traced.opset_import, ir_version=traced.ir_version)


def _make_if(
    condition: str,
    outputs: Sequence[str],
    then: Sequence[NodeProto],
    then_outputs: Sequence[str],
    otherwise: Sequence[NodeProto],
    else_outputs: Sequence[str],
    name: str,
) -> NodeProto:
    return helper.make_node(
        "If",
        [condition],
        list(outputs),
        f"{name}/if",
        then_branch=_branch(then, then_outputs, f"{name}/then"),
        else_branch=_branch(otherwise, else_outputs, f"{name}/else"),
    )


def _branch(nodes: Sequence[NodeProto], outputs: Sequence[str], name: str) -> GraphProto:
    """Return a branch of an `If`: it has no inputs, and uses the names around it."""
    return helper.make_graph(nodes, name, [], [onnx.ValueInfoProto(name=output) for output in outputs])
