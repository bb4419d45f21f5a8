"""The methods that a user can choose from. Each is a set of values for the same model, loss and training loop.

A recipe names the trained parts, the head, the loss and the sampling. All methods draw as many images as LPT does under
the same preset. LPT draws two batches of B images a step; a method with one stream draws one batch of 2 B, for as many
steps as LPT's two phases have together.

Learning rates are those with the best mean of overall and few-shot accuracy on the development cut of CIFAR-100-LT
with the preset `laptop`; docs/explanation/trials.md lists what was tried. There are three exceptions. Plain fine-tuning
takes the rate of logit-adjusted fine-tuning. VPT-deep takes half of its best rate, at which a short training failed.
LIFT takes its published rate under the preset `paper`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lpt.config.schema import RunConfig
from lpt.errors import ConfigError

Values = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A named recipe.

    Args:
        name: its name for `--method`.
        title: its name in tables.
        reference: the paper or the library that it comes from.
        values: returns its values for a configuration, given that of the preset.
    """

    name: str
    title: str
    reference: str
    values: Callable[[RunConfig], Values]


def draws_as(base: RunConfig, *, sampling: str, **phase: Any) -> Values:
    """Return a `train` section with one stream and one phase that draws as many images as LPT's two phases.

    Args:
        base: the configuration of the preset.
        sampling: the sampling of the stream.
        phase: settings of the phase, over the common ones.
    """
    train = base.train
    epochs = train.phase1.epochs + train.phase2.epochs
    common = {"optimizer": "adamw", "warmup_epochs": 1, "schedule": "step", "head_lr": None, "layer_decay": 1.0}
    return {
        "sampling": sampling,
        "batch_size": base.step_draws,
        "phase1": {**common, **phase, "epochs": epochs},
        "phase2": {"epochs": 0},
    }


def _plain_loss(name: str, **values: Any) -> Values:
    """Return a `loss` section with a loss on the logits of a linear head and nothing else."""
    plain = {"label_smoothing": 0.0, "dropout": 0.0, "noise": 0.5, "reweighting": "none"}
    return {"name": name, "scale": 1.0, **plain, **values}


def _model(**values: Any) -> Values:
    """Return a `model` section with a linear head, random initial values and, unless given, nothing else trained."""
    start = dict.fromkeys(("head_init", "prompt_init", "key_init", "group_init"), "random")
    untrained = {"prompts": "none", "adapter_size": 0, "lora_rank": 0, "weights": "none"}
    adapter = {"adapter_norm": False, "adapter_scale": 0.1}  # AdaptFormer's
    return {**untrained, "head": "linear", **adapter, **start, **values}


def _trained(loss: Values, model: Values, **phase: Any) -> Callable[[RunConfig], Values]:
    """Return the values of a method that is trained in one phase and draws all images equally often."""

    def values(base: RunConfig) -> Values:
        return {"model": _model(**model), "loss": loss, "train": draws_as(base, sampling="instance", **phase)}

    return values


def _solved(loss: Values, **model: Any) -> Callable[[RunConfig], Values]:
    """Return the values of a method without training steps, whose head is computed from frozen features."""
    no_steps = {"sampling": "instance", "phase1": {"epochs": 0}, "phase2": {"epochs": 0}}
    return lambda base: {"model": _model(**model), "loss": loss, "train": no_steps}


def _lpt_phase1(base: RunConfig) -> Values:
    """Return the values of LPT's first phase alone, with LPT's two streams, for as many steps as its two phases."""
    phase = base.train.phase1.model_dump(exclude={"epochs"})
    kept = ("prompt_length", "prompt_init", "head_init", "adapter_size", "adapter_norm", "adapter_scale")
    model = {"prompts": "deep", "head": "cosine", **{name: getattr(base.model, name) for name in kept}}
    train = draws_as(base, sampling=base.train.sampling, **phase) | {"batch_size": base.train.batch_size}
    return {"model": _model(**model), "loss": base.loss.model_dump(), "train": train}


def _lift(base: RunConfig) -> Values:
    """Return the values of LIFT."""
    rate = 0.02 if base.preset == "paper" else 0.08  # published: 0.01 for a batch of 128; 0.08 was chosen for laptop
    adapter = {"adapter_size": "auto", "adapter_norm": True, "adapter_scale": None}
    return {
        "model": _model(**adapter, head="cosine", head_init="class_means"),
        "loss": _plain_loss("logit_adjusted", scale=25.0),
        "train": draws_as(base, sampling="instance", optimizer="sgd", lr=rate, weight_decay=5e-4, warmup_epochs=0),
    }


_CROSS_ENTROPY, _ADJUSTED = _plain_loss("cross_entropy"), _plain_loss("logit_adjusted")
_TUNED = {"lr": 1e-4, "head_lr": 1e-3, "layer_decay": 0.75, "weight_decay": 0.05}
_PROMPTS = {"lr": 4e-3, "weight_decay": 0.01}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "class-means",
            "nearest class mean",
            "Mensink et al., TPAMI 2013",
            _solved(_plain_loss("cross_entropy", scale=20.0), head="cosine", head_init="class_means"),
        ),
        Method(
            "linear-probe",
            "linear probe",
            "Alain and Bengio, 2016; cross-entropy, solved to convergence",
            _solved(_CROSS_ENTROPY, head_init="linear_probe"),
        ),
        Method(
            "linear-probe-la",
            "linear probe, logit-adjusted",
            "Menon et al., ICLR 2021; solved to convergence",
            _solved(_ADJUSTED, head_init="linear_probe"),
        ),
        Method(
            "fine-tuning",
            "full fine-tuning",
            "cross-entropy, with layer decay (Bao et al., ICLR 2022)",
            _trained(_CROSS_ENTROPY, {"weights": "all"}, **_TUNED),
        ),
        Method(
            "fine-tuning-la",
            "full fine-tuning, logit-adjusted",
            "Menon et al., ICLR 2021, with layer decay (Bao et al., ICLR 2022)",
            _trained(_ADJUSTED, {"weights": "all"}, **_TUNED),
        ),
        Method(
            "last-blocks",
            "last two blocks, logit-adjusted",
            "partial fine-tuning (Yosinski et al., NeurIPS 2014)",
            _trained(_ADJUSTED, {"weights": "last_blocks"}, **{**_TUNED, "lr": 1e-3}),
        ),
        Method(
            "bias",
            "biases only, logit-adjusted",
            "BitFit (Ben Zaken et al., ACL 2022)",
            _trained(_ADJUSTED, {"weights": "biases"}, lr=5e-4, weight_decay=0.0),
        ),
        Method(
            "vpt-deep",
            "VPT-deep",
            "Jia et al., ECCV 2022; cross-entropy",
            _trained(_CROSS_ENTROPY, {"prompts": "deep"}, **_PROMPTS),
        ),
        Method(
            "vpt-shallow",
            "VPT-shallow",
            "Jia et al., ECCV 2022; cross-entropy",
            _trained(_CROSS_ENTROPY, {"prompts": "shallow"}, **_PROMPTS),
        ),
        Method(
            "lora",
            "LoRA, logit-adjusted",
            "Hu et al., ICLR 2022; the peft library",
            _trained(_ADJUSTED, {"lora_rank": 8}, lr=5e-4, weight_decay=0.01),
        ),
        Method(
            "adaptformer",
            "AdaptFormer",
            "Chen et al., NeurIPS 2022; cross-entropy",
            _trained(_CROSS_ENTROPY, {"adapter_size": 64}, lr=4e-3, weight_decay=0.01),
        ),
        Method(
            "lift",
            "LIFT",
            "Shi et al., ICML 2024: small AdaptFormer, class-mean cosine head, logit-adjusted loss, SGD",
            _lift,
        ),
        Method(
            "vpt-gcl-drw",
            "VPT, GCL loss, DRW",
            "the base of GNM-PT (NeurIPS 2024): Li et al., CVPR 2022; Cao et al., NeurIPS 2019",
            _trained(
                _plain_loss("gcl", scale=20.0, noise=0.5, reweighting="effective_number", reweight_from=0.8),
                {"prompts": "deep", "head": "cosine"},
                **{**_PROMPTS, "lr": 1.6e-2},
            ),
        ),
        Method(
            "lpt-phase1",
            "LPT, phase 1 only",
            "Dong et al., ICLR 2023, section 3.2",
            _lpt_phase1,
        ),
        Method("lpt", "LPT", "Dong et al., ICLR 2023; both phases", lambda base: {}),
    )
}


def method_named(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ConfigError: there is no method of this name.
    """
    if name not in METHODS:
        raise ConfigError(f"method: there is no method {name!r}. Accepted: {', '.join(METHODS)}")
    return METHODS[name]
