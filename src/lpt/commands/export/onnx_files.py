"""Trace a network with `torch.onnx.export`, and turn the result into the bytes of an ONNX file."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from lpt import __version__
from lpt.errors import ConfigError, RunError
from lpt.system.onnx_runtime import onnxruntime
from lpt.system.text import size_of

OPSET = 20
MOST_BYTES = 2**31 - 2**24
"""Most bytes of weights: an ONNX file ends at 2 GiB."""
TOLERANCE = 1e-4
"""Largest accepted difference of a score or a probability from that of PyTorch."""
_TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._dynamo")


def check_size(module: nn.Module, name: str) -> None:
    """Check that the weights of a network fit one ONNX file.

    Raises:
        ConfigError: they do not.
    """
    needed = sum(4 * tensor.numel() for tensor in module.state_dict().values())
    if needed > MOST_BYTES:
        raise ConfigError(
            f"the backbone {name} has {size_of(needed)} of weights, and one ONNX file holds at most 2 GiB. Predict "
            "with engine torch, or train a pack on a smaller backbone"
        )


def trace(
    module: nn.Module,
    example: Mapping[str, Any],
    dynamic: Mapping[str, Any],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    """Return a network as an ONNX model, without notes of where it was traced.

    Args:
        module: the network.
        example: arguments of its `forward` by name.
        dynamic: for each of them the sides that may vary.
        inputs, outputs: names of its inputs and outputs.
    """
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(example),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dict(dynamic),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model.graph)
    del model.metadata_props[:]
    return model


def encode(model: onnx.ModelProto, facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of an ONNX file, with facts as its metadata: text as it is, anything else as JSON."""
    model.producer_name, model.producer_version, model.doc_string = "lpt", __version__, ""
    texts = {
        name: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()
    }
    onnx.helper.set_model_props(model, texts)
    return model.SerializeToString(deterministic=True)


def run_once(content: bytes, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return an output of an ONNX file in ONNX Runtime."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (given,) = session.run([output], dict(inputs))
    return np.asarray(given)


def check_equal(given: npt.NDArray[Any], wanted: npt.NDArray[Any], what: str) -> None:
    """Check that ONNX Runtime gives what PyTorch gives; `what` begins the message.

    Raises:
        RunError: it does not.
    """
    worst = float(np.abs(given - wanted).max())
    if not worst <= TOLERANCE:
        raise RunError(
            f"{what} in ONNX Runtime {onnxruntime.__version__} than in PyTorch (by up to {worst:.2g}). Nothing was "
            "written. Install other versions of torch and onnxscript, and try again"
        )


def _strip(graph: onnx.GraphProto) -> None:
    """Remove the notes of the exporter: they hold lines and paths of the source."""
    del graph.value_info[:], graph.metadata_props[:]
    graph.doc_string = ""
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.doc_string = ""


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the exporter says about itself from the screen; its errors are raised."""
    before = {name: logging.getLogger(name).level for name in _TALKATIVE}
    try:
        for name in before:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
