"""The cases that `benchmarks.speed` times and counts: LPT and the textbook model of tests/oracle.py.

Both have the same weights and images. Run from the root of the repository, where `tests` can be imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
from tests.oracle import PARAMETERS, Output, Textbook, load_into, train_only
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lpt.losses import AsymmetricGCL, draw_cloud
from lpt.model import LPT, FrozenViT

PHASE2 = "phase-2 step"
CACHED = "phase-2 step, frozen part kept"
PHASE1 = "phase-1 step"
INFERENCE = "inference"
PLAIN = "plain forward"
TRAINED = {1: ("shared.tokens", "head.weight"), 2: PARAMETERS[1:]}
SIMILARITY_WEIGHT = 0.5
QUICK_SIZE = 32


class Key(NamedTuple):
    """A form, `textbook`, `lpt` or `timm`, and the case that it runs."""

    form: str
    case: str


# A ratio is the first one's cost over the second one's.
RATIOS = {
    PHASE2: (Key("textbook", PHASE2), Key("lpt", PHASE2)),
    CACHED: (Key("textbook", PHASE2), Key("lpt", CACHED)),
    PHASE1: (Key("textbook", PHASE1), Key("lpt", PHASE1)),
    INFERENCE: (Key("textbook", INFERENCE), Key("lpt", INFERENCE)),
    "inference in plain forwards": (Key("lpt", INFERENCE), Key("timm", PLAIN)),
}


class Sizes(NamedTuple):
    """The sizes of the method and of a batch; the published ones by default (K is half the blocks)."""

    batch: int
    classes: int = 100
    prompt_length: int = 10
    pool_size: int = 20
    top_k: int = 2


def build_vit(name: str, size: int, seed: int) -> VisionTransformer:
    """Build a backbone with random weights; `quick` is a tiny one."""
    torch.manual_seed(seed)
    if name == "quick":
        vit = VisionTransformer(img_size=size, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=0)
    else:
        vit = timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
    return vit.eval()


class Contest:
    """Both models on one backbone and one batch in one precision, and a function for each case.

    Args:
        vit: the backbone in float32; it is copied.
        sizes: sizes of the method and the batch.
        dtype: of the backbone, and of prompts, keys and head of the textbook; those of LPT are float32 as in a run.
        device: `cpu` or `cuda`.
        seed: of parameters, images, labels and noise.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        sizes: Sizes,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        method: dict[str, Any] = {
            "prompt_length": sizes.prompt_length,
            "shared_blocks": len(vit.blocks) // 2,
            "pool_size": sizes.pool_size,
            "top_k": sizes.top_k,
        }
        self.textbook = Textbook.random(vit, num_classes=sizes.classes, seed=seed, dtype=torch.float32, **method)
        self.vit = self.textbook.vit.to(device, dtype)
        self.model = LPT(FrozenViT(self.vit), num_classes=sizes.classes, **method)  # the two share the backbone
        load_into(self.model, self.textbook)
        self.model.to(device)
        for name in ("shared", "pool", "keys", "head"):
            setattr(self.textbook, name, getattr(self.textbook, name).to(device, dtype))
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(sizes.batch, 3, *vit.patch_embed.img_size, generator=generator).to(device)
        self.converted = self.images.to(dtype)  # the textbook takes images in its precision
        self.labels = torch.randint(sizes.classes, (sizes.batch,), generator=generator).to(device)
        self.cloud = draw_cloud((sizes.batch, sizes.classes), generator).to(device)
        self.criterion = AsymmetricGCL(list(range(sizes.classes, 0, -1)), gamma_pos=0.0, gamma_neg=4.0).to(device)
        with torch.no_grad():
            self.constants = self.model.shared_constants()
            self.kept = self.model.encode(self.images)

    def cases(self) -> dict[Key, Callable[[], Any]]:
        """Return a function for each case; those of one ratio follow each other."""
        model, textbook = self.model, self.textbook
        return {
            Key("textbook", PHASE2): lambda: self.train_textbook(2),
            Key("lpt", PHASE2): lambda: self.train(2, lambda: model(self.images)),
            Key("lpt", CACHED): lambda: self.train(2, lambda: model.classify(self.kept)),
            Key("textbook", PHASE1): lambda: self.train_textbook(1),
            Key("lpt", PHASE1): lambda: self.train(1, lambda: model.forward_shared(self.images)),
            Key("textbook", INFERENCE): lambda: infer(lambda: textbook(self.converted)),
            Key("lpt", INFERENCE): lambda: infer(lambda: model(self.images, constants=self.constants)),
            Key("timm", PLAIN): lambda: infer(lambda: self.vit(self.converted)),
        }

    def train(self, phase: int, forward: Callable[[], Any]) -> Any:
        """Run LPT forward and backward; return its output, the cosines alone in phase 1."""
        train_only(self.model, *TRAINED[phase])
        return self._backward(forward())

    def train_textbook(self, phase: int) -> Any:
        """Run the textbook model forward and backward; return its output, the cosines alone in phase 1."""
        self.textbook.train_only(*TRAINED[phase])
        return self._backward((self.textbook.forward_shared if phase == 1 else self.textbook)(self.converted))

    def _backward(self, output: Any) -> Any:
        if isinstance(output, Tensor):
            self.criterion(output, self.labels, self.cloud).backward()
        else:
            loss = self.criterion(output.cosines, self.labels, self.cloud)
            (loss - SIMILARITY_WEIGHT * output.similarity).backward()
        return output


def infer(forward: Callable[[], Any]) -> Any:
    """Run without a graph."""
    with torch.inference_mode():
        return forward()


# --- agreement -------------------------------------------------------------------------------------------------------

# Largest difference of a cosine, and of a gradient relative to its norm.
TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.05, 0.25)}


def agreement(contest: Contest, dtype: torch.dtype) -> dict[str, Any]:
    """Compare outputs and gradients of LPT and the textbook model, and say whether they differ by rounding alone.

    Top-k is discontinuous. So picks need only agree where the k-th and the next cosine are further apart than the
    tolerance of a cosine. What follows from picks is compared on images whose picks agree, gradients only if all agree.
    """
    cosines, gradients = TOLERANCES[dtype]
    cases = contest.cases()
    reference, ours = cases[Key("textbook", PHASE1)](), cases[Key("lpt", PHASE1)]()
    differences = {"phase 1 cosines": difference(ours, reference), **_gradient_errors(contest, 1)}
    wide: Output = cases[Key("textbook", PHASE2)]()
    for case in (PHASE2, CACHED, INFERENCE):
        output = cases[Key("lpt", case)]()
        same = (output.groups.sort(dim=1).values == wide.groups.sort(dim=1).values).all(dim=1)
        if same.any():
            differences[f"{case}: cosines"] = difference(output.cosines[same], wide.cosines[same])
        differences[f"{case}: similarity"] = difference(output.similarity, wide.similarity)
        differences[f"{case}: picks that differ clearly"] = float((~same & _clear(wide, cosines)).sum())
        if case != INFERENCE and same.all():
            differences |= {f"{case}: {name}": error for name, error in _gradient_errors(contest, 2).items()}
    wrong = [
        name
        for name, value in differences.items()
        if not value <= (gradients if "gradient" in name else 0 if "picks" in name else cosines)
    ]
    return {
        "agree": not wrong,
        "outside_tolerance": wrong,
        "tolerance_of_cosines": cosines,
        "tolerance_of_gradients": gradients,
        "differences": differences,
    }


def difference(value: Tensor, reference: Tensor) -> float:
    """Return the largest absolute difference."""
    return float((value.detach().double() - reference.detach().double()).abs().max())


def _gradient_errors(contest: Contest, phase: int) -> dict[str, float]:
    """Return the norm of the difference of the gradients of each trained tensor, over the norm of the textbook's."""
    ours, reference = dict(contest.model.named_parameters()), dict(contest.textbook.named())
    errors = {}
    for name in TRAINED[phase]:
        gradient, expected = ours[name].grad, reference[name].grad
        assert gradient is not None
        assert expected is not None
        error = (gradient.double() - expected.double()).norm() / expected.double().norm()
        errors[f"phase {phase} gradient of {name}"] = float(error)
    return errors


def _clear(output: Output, tolerance: float) -> Tensor:
    """Return which images have a k-th and a next cosine that differ by more than the tolerance, [B]."""
    ranked = output.matching.double().sort(dim=1, descending=True).values
    picks = output.groups.shape[1]
    if picks == ranked.shape[1]:
        return torch.ones(len(ranked), dtype=torch.bool, device=ranked.device)
    return ranked[:, picks - 1] - ranked[:, picks] > tolerance
