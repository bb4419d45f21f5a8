"""`benchmarks.speed.counts` agrees with a count by hand; `benchmarks.speed` runs, and its models agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from benchmarks.speed import speed
from benchmarks.speed.counts import gflop_per_image
from benchmarks.speed.speed_cases import (
    CACHED,
    INFERENCE,
    PHASE1,
    PHASE2,
    PLAIN,
    QUICK_SIZE,
    RATIOS,
    Contest,
    Key,
    Sizes,
    agreement,
    build_vit,
)

SIZES = Sizes(batch=4, classes=7, prompt_length=3, pool_size=5, top_k=2)


class Shape(NamedTuple):
    """A ViT by hand: N tokens, D width, L blocks (K of them shared), an MLP of 4 D; patches of `patch` numbers."""

    n: int = 17
    d: int = 32
    depth: int = 4
    shared: int = 2
    patch: int = 3 * 8 * 8

    def embed(self) -> int:
        return 2 * (self.n - 1) * self.patch * self.d

    def linear(self, tokens: int, factor: int) -> int:
        """Multiply-adds of `tokens` rows with a matrix of factor x D x D, twice."""
        return 2 * tokens * factor * self.d**2

    def rest(self, queries: int, keys: int) -> int:
        """Attention on keys, projection and MLP."""
        return 4 * queries * keys * self.d + self.linear(queries, 1 + 8)

    def block(self, keys: int) -> int:
        return self.linear(self.n, 3) + self.rest(self.n, keys)

    def last(self, keys: int) -> int:
        """A block for the class token alone."""
        return self.linear(1, 1) + self.linear(self.n, 2) + self.rest(1, keys)


def head(*rows: int) -> int:
    """Count the cosines of a feature with rows of width D."""
    return sum(2 * Shape().d * count for count in rows)


def by_hand() -> dict[Key, float]:
    """Count the operations of an image. Backward of a frozen layer costs as much as forward, attention twice."""
    s, p, b = Shape(), SIZES.prompt_length, SIZES.batch
    n, classes, keys = s.n, head(SIZES.classes), head(SIZES.pool_size)
    shared = s.depth * s.linear(p, 2) / b  # keys and values of the shared prompt: once for a batch
    group = (s.depth - s.shared) * s.linear(p, 2)
    suffix = s.block(n + p) + s.last(n + p)  # K is 2 of 4: block K+1 and the last
    final = s.block(n + 2 * p) + s.last(n + 2 * p) + group
    once = s.linear(n, 3)  # block K+1's queries, keys and values serve both passes

    def attention(queries: int, keys: int) -> int:
        return 4 * queries * keys * s.d

    # phase 2 backward: the last block down to its input tokens, block K+1 down to its prompts (its fused kernel gives
    # all three gradients, the projection of frozen image tokens needs none), prompts' own projections, the two heads
    down_last = s.linear(1, 1) + s.linear(n, 2) + s.rest(1, n + 2 * p) + attention(1, n + 2 * p)
    down_first = s.rest(n, n + 2 * p) + attention(n, n + 2 * p)
    back2 = down_last + down_first + group + 2 * classes + keys
    # phase 1 backward: likewise from the last block to the first
    middle = s.block(n + p) + attention(n, n + p)
    back1: float = s.linear(1, 1) + s.linear(n, 2) + s.rest(1, n + p) + attention(1, n + p) + 2 * middle
    back1 += s.rest(n, n + p) + attention(n, n + p) + shared + 2 * classes
    prefix = s.embed() + s.shared * s.block(n + p)
    inference = prefix + suffix + final - once + classes + keys
    return {
        Key("timm", PLAIN): s.embed() + s.depth * s.block(n),
        Key("lpt", INFERENCE): inference,
        Key("lpt", PHASE2): inference + shared + back2,
        Key("lpt", CACHED): shared + final + classes + keys + back2,
        Key("lpt", PHASE1): shared + prefix + suffix + classes + back1,
    }


def test_counts_are_those_of_the_formula() -> None:
    """Nothing is left out (attention is counted as well) and nothing is computed that need not be."""
    counts = gflop_per_image(build_vit("quick", QUICK_SIZE, seed=0), SIZES)
    for key, expected in by_hand().items():
        assert counts[key] * 1e9 == pytest.approx(expected, rel=1e-9), key


def test_speed_runs_and_outputs_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every case runs in both precisions; times are not checked."""
    path = tmp_path / "speed.json"
    speed.main(["--quick", "--precisions", "float32", "bfloat16", "--threads", "1", "--output", str(path)])
    result = json.loads(path.read_text(encoding="utf-8"))
    assert all(each["agree"] for each in result["agreement"].values())
    assert len(result["rows"]) == 2 * 8
    assert all(row["images_per_second"] > 0 for row in result["rows"])
    assert {row["name"] for row in result["ratios"] if row["precision"] == "float32"} == set(RATIOS)
    assert "phase-2 step" in capsys.readouterr().out


def test_a_disagreement_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong outputs are found, and no time is reported for them."""
    contest = Contest(build_vit("quick", QUICK_SIZE, seed=0), SIZES)
    with torch.no_grad():
        contest.textbook.shared[2] *= -1
    result = agreement(contest, torch.float32)
    assert not result["agree"]
    assert any("cosines" in name for name in result["outside_tolerance"])
    assert any("gradient" in name for name in result["outside_tolerance"])
    monkeypatch.setattr(speed, "agreement", lambda *arguments: result)
    with pytest.raises(SystemExit, match="differ"):
        speed.main(["--quick"])


def test_what_bfloat16_gains_in_all_is_against_the_textbook_in_float32() -> None:
    """4 s of the textbook in float32 against 1 s of LPT in bfloat16 is a ratio of 4, not 2."""
    seconds = {
        ("float32", "textbook"): 4.0,
        ("bfloat16", "textbook"): 3.0,
        ("float32", "lpt"): 2.0,
        ("bfloat16", "lpt"): 1.0,
    }
    keys = {key for pair in speed.RATIOS.values() for key in pair}
    times = {
        (precision, key): speed.Times([seconds.get((precision, key.form), 1.0)], 0, 0)
        for precision in ("float32", "bfloat16")
        for key in keys
    }
    ratios = speed.ratios_of(times, dict.fromkeys(keys, 1.0), ["float32", "bfloat16"])
    both = {ratio["name"]: ratio["measured"] for ratio in ratios if ratio["precision"] == "both"}
    assert len(both) == 4
    assert both["phase-2 step, textbook float32 against LPT bfloat16"] == 4.0
