"""The trials: what each second pass has and how it trains."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.accuracy.second_pass.model import Parts

ADJUSTED = ("loss.name=logit_adjusted", "loss.scale=25", "loss.label_smoothing=0", "loss.noise=0.5")
INSTANCE = ("train.sampling=instance", "train.batch_size=64")


@dataclass(frozen=True)
class Trial:
    """A second pass.

    Args:
        parts: what it has.
        settings: over the preset `laptop`.
        average: decay of the mean of the weights over the steps that is measured in place of the last ones; 0: none.
        flipped: measure the mirror images too.
    """

    parts: Parts = field(default_factory=Parts)
    settings: tuple[str, ...] = ()
    average: float = 0.0
    flipped: bool = False


def _rate(value: float) -> str:
    return f"train.phase2.lr={value}"


TRIALS: dict[str, Trial] = {
    "preset": Trial(),
    "preset, fused": Trial(Parts(fused=True)),
    "adjusted": Trial(settings=(*INSTANCE, *ADJUSTED)),
    "adjusted 1e-2": Trial(settings=(*INSTANCE, *ADJUSTED, _rate(1e-2))),
    "adapters 8, adjusted 1e-2": Trial(Parts("none", 8), (*INSTANCE, *ADJUSTED, _rate(1e-2))),
    "groups, adapters 8, adjusted 1e-2": Trial(Parts("pool", 8), (*INSTANCE, *ADJUSTED, _rate(1e-2))),
    "replace, adapters 8, adjusted 1e-2": Trial(Parts("replace", 8), (*INSTANCE, *ADJUSTED, _rate(1e-2))),
    "groups, adapters 8, adjusted 1e-2, mean": Trial(
        Parts("pool", 8), (*INSTANCE, *ADJUSTED, _rate(1e-2)), average=0.99
    ),
    "groups, adapters 16, adjusted 2e-2": Trial(Parts("pool", 16), (*INSTANCE, *ADJUSTED, _rate(2e-2))),
    "classes, adapters 8, adjusted 1e-2": Trial(Parts("pool", 8, keys="classes"), (*INSTANCE, *ADJUSTED, _rate(1e-2))),
    "patches, adapters 8, adjusted 1e-2": Trial(
        Parts("pool", 8, reads="patches"), (*INSTANCE, *ADJUSTED, _rate(1e-2)), flipped=True
    ),
    "patches, adapters 8, dual 1e-2": Trial(Parts("pool", 8, reads="patches"), (_rate(1e-2),)),
    "groups, adapters 8, fused, dual 1e-2": Trial(Parts("pool", 8, fused=True), (_rate(1e-2),)),
}
