"""What runs the network behind a predictor: an engine. It takes packs in, and images of any of them in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from lpt.data.array_transforms import UInt8Array
from lpt.data.manifest import Float32Array
from lpt.packs.pack import Pack

ENGINES = ("auto", "torch", "onnx")
PRECISIONS = ("auto", "fp32", "bf16")


class Output(NamedTuple):
    """The output for an image.

    Args:
        scores: cosine with each class, or logit of a linear head, [C].
        groups: indices of the picked group prompts by descending cosine; empty if the pack uses none.
        attention: attention of the class token to each patch in the last block, mean over the heads, [rows, columns];
            None unless asked for. The shares of prompts and prefix tokens are left out, so its sum is below 1.
    """

    scores: Float32Array
    groups: tuple[int, ...]
    attention: Float32Array | None


class LoadedPack(Protocol):
    """A pack that an engine has verified and made ready; it goes on working after the predictor has removed it."""

    @property
    def pack(self) -> Pack:
        """The pack."""

    @property
    def note(self) -> str:
        """What to know about how it runs, such as that it has a backbone of its own; empty if there is nothing."""


class Engine(Protocol):
    """A frozen backbone that classifies images with any of its packs. `load` may run while `run` does."""

    @property
    def name(self) -> str:
        """Name of the engine: torch or onnx."""

    @property
    def backbone_hash(self) -> str:
        """sha256 over the weights of the backbone."""

    @property
    def device(self) -> str:
        """Device that it computes on: cpu, cuda, cuda:1, mps."""

    @property
    def precision(self) -> str:
        """Data type that the backbone computes in: float32, bfloat16, float16, float64."""

    def load(self, pack: Pack) -> LoadedPack:
        """Verify a pack and make it ready.

        Raises:
            PackError: it belongs to other weights, does not fit them, or gives other outputs.
        """

    def run(self, batch: Sequence[tuple[LoadedPack, UInt8Array]], *, attention: bool = False) -> list[Output]:
        """Classify images, each with its pack.

        Args:
            batch: for each image its pack, and its pixels from the test transform: uint8 [3, height, width], or several
                views [V, 3, height, width] whose scores are averaged; the first view picks the groups.
            attention: return the attention of the class token too, of the first view.
        """
