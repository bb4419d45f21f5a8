"""`benchmarks.serving packs` runs on a small backbone; nothing that it counts as a fault happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.serving import packs_side

import lpt


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where ten packs of all kinds lie, and what they stand on."""
    folder = tmp_path_factory.mktemp("serving")
    common = {**packs_side.small_backbone(str(folder)), "threads": torch.get_num_threads()}
    packs_side.write(str(folder / "packs"), 10, differing=True, size=32, **common)
    return {"folder": str(folder / "packs"), "count": 10, **common}


def test_the_packs_are_of_every_kind_and_load(packs: dict[str, Any]) -> None:
    started = packs_side.start(**packs)
    assert len(started["load_milliseconds"]["best_by_kind"]) == len(packs_side.KINDS)
    read = [lpt.load_pack(path) for path in sorted(Path(packs["folder"]).iterdir())]
    assert len({len(pack.info.class_names) for pack in read}) == 7
    assert {pack.info.method.prompts for pack in read} == {"grouped", "deep", "none"}


def test_mixed_batches_hold_many_packs(packs: dict[str, Any]) -> None:
    rates = packs_side.rates(**packs, rounds=1)
    assert rates["packs_in_a_mixed_batch"] > 7
    assert rates["mixed_over_alone"]["measured"] > 0


def test_no_prediction_fails_while_packs_change(packs: dict[str, Any]) -> None:
    changed = packs_side.changing(**packs, batches=3)
    assert (changed["failed_calls"], changed["wrong_predictions"]) == (0, 0)
    assert changed["images"] == 24


def test_memory_is_counted_by_tensors(packs: dict[str, Any]) -> None:
    """Shared tokens 12 x 10 x 32, 20 group prompts for 6 blocks, 20 keys, 100 classes: each of 4 bytes."""
    memory = packs_side.memory(**packs, models=2)
    numbers = 12 * 10 * 32 + 20 * 6 * 10 * 32 + 20 * 32 + 100 * 32
    assert memory["bytes_a_pack"]["tensors"] == 4 * numbers
    assert memory["bytes_a_pack"]["counted"] == 4 * (numbers + 2 * 12 * 10 * 32)
