"""Images of many packs in one batch get what each pack gives alone, whatever the packs' methods and sizes."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.serving.random_packs import write_random_pack
from PIL import Image

import lpt
from drawn_sizes import drawn_architecture
from lpt.config.architecture import Architecture
from lpt.errors import ConfigError, PackError
from lpt.model import FrozenViT
from lpt.model.inference import InferenceModel
from lpt.packs.engine import Output
from lpt.packs.pack import Pack
from lpt.packs.predictor import Predictor, load_predictor
from lpt.packs.torch_engine import TorchEngine

LPT_SIZES = Architecture(prompt_length=2, shared_blocks=1, pool_size=6, top_k=2)


def drawn_packs(seed: int, count: int, folder: Path, backbone: FrozenViT) -> list[Pack]:
    """Write packs of different methods, sizes, inputs and numbers of views."""
    draw = random.Random(seed)
    packs = []
    for number in range(count):
        architecture, phases = drawn_architecture(draw)
        shown = {"size": draw.choice([(32, 32), (16, 48)]), "test_views": draw.choice([1, 2, 5])}
        shown |= {"mean": [draw.choice([0.4, 0.5])] * 3}
        sizes: dict[str, Any] = {"classes": draw.randint(2, 30), "phases": phases, "seed": 100 * seed + number}
        path = folder / str(number)
        packs.append(write_random_pack(path, backbone, architecture, **sizes, preprocessing=shown))
    return packs


def drawn_pixels(pack: Pack, seed: int) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 256, (37, 41, 3)).astype(np.uint8)
    return pack.info.preprocessing.test_array(Image.fromarray(picture))


def alone(pack: Pack, backbone: FrozenViT, dtype: torch.dtype) -> Callable[[np.ndarray], Output]:
    """Return what classifies an image by the model of a pack, without the engine."""
    model = pack.build(backbone)
    inference = InferenceModel(
        model if dtype == torch.float32 else model.double(),
        pack.info.preprocessing,
        group_prompts=pack.info.uses_group_prompts,
    )

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> Output:
        image = pack.info.preprocessing.normalize(torch.from_numpy(pixels)[None])
        flat = (image if image.ndim == 4 else image[0]).to(dtype)
        if inference.constants is None:
            return Output(model.forward_shared(flat).mean(0).numpy(), (), None)
        output = model(flat, constants=inference.constants)
        return Output(output.cosines.mean(0).numpy(), tuple(output.groups[0].tolist()), None)

    return run


def compare(got: Sequence[Output], expected: Sequence[Output], tolerance: float) -> None:
    for mixed, single in zip(got, expected, strict=True):
        scale = max(1.0, float(np.abs(single.scores).max()))  # logits of a linear head are not bounded
        np.testing.assert_allclose(mixed.scores / scale, single.scores / scale, rtol=0, atol=tolerance)
        assert mixed.groups == single.groups


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path) -> FrozenViT:
    return lpt.load_backbone("tiny", checkpoint=tiny_backbone)


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_batch_gives_what_each_pack_gives_alone(seed: int, tiny: FrozenViT, tmp_path: Path) -> None:
    packs = drawn_packs(seed, 9, tmp_path, tiny)
    engine = TorchEngine(tiny)
    loaded = [engine.load(pack) for pack in packs]
    draw = random.Random(seed)
    chosen = [draw.randrange(len(packs)) for _ in range(20)]
    pixels = [drawn_pixels(packs[index], number) for number, index in enumerate(chosen)]
    got = engine.run([(loaded[index], image) for index, image in zip(chosen, pixels, strict=True)])
    models = [alone(pack, tiny, torch.float32) for pack in packs]
    compare(got, [models[index](image) for index, image in zip(chosen, pixels, strict=True)], 1e-6)


# --- packs that train backbone weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [{"weights": "all"}, {"weights": "last_blocks"}, {"lora_rank": 2}])
def test_a_pack_that_trains_the_backbone_runs_apart_and_says_so(
    parts: dict[str, Any], tiny: FrozenViT, tiny_backbone: Path, tmp_path: Path
) -> None:
    """In float32 it is exact; in bfloat16 it is near, and the backbone that the other packs share stays as it is."""
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    tuned = Architecture(prompts="none", head="linear", last_blocks=1, **parts)
    path = tmp_path / "tuned"
    shown = {"size": (16, 48)}  # other positions than the backbone was trained with
    pack = write_random_pack(path, tiny, tuned, classes=5, phases=[], seed=1, preprocessing=shown)
    other = write_random_pack(tmp_path / "lpt", tiny, Architecture(pool_size=4), classes=5, phases=[1, 2], seed=2)
    pixels, others = drawn_pixels(pack, 0), drawn_pixels(other, 0)
    engine = TorchEngine(tiny)
    loaded, shared = engine.load(pack), engine.load(other)
    assert "weights of the backbone" in loaded.note
    assert shared.note == ""
    batch = [(loaded, pixels), (shared, others), (loaded, pixels)]
    expected = [
        alone(each, tiny, torch.float32)(image)
        for each, image in zip((pack, other, pack), (pixels, others, pixels), strict=True)
    ]
    compare(engine.run(batch), expected, 1e-6)
    low = TorchEngine("tiny", checkpoint=tiny_backbone, device="cpu", precision="bf16")
    (near,) = low.run([(low.load(pack), pixels)])
    scale = float(np.abs(expected[0].scores).max())
    assert 0 < float(np.abs(near.scores - expected[0].scores).max()) < 0.05 * scale
    again = low.load(other)  # verified in float32, on a backbone that the first pack must not have changed
    assert low.run([(again, others)])[0].scores.shape == (5,)


# --- precision and verification ---------------------------------------------------------------------------------------


def test_packs_that_come_later_are_verified_in_bfloat16_too(
    tiny: FrozenViT, tiny_backbone: Path, tmp_path: Path
) -> None:
    engine = TorchEngine("tiny", checkpoint=tiny_backbone, device="cpu", precision="bf16")
    packs = [write_random_pack(tmp_path / str(seed), tiny, LPT_SIZES, classes=4, phases=[1, 2], seed=seed)
             for seed in (0, 1)]  # fmt: skip
    assert engine.load(packs[0]).backbone.dtype == torch.bfloat16
    packs[1].tensors["groups.prompts"][3] *= 1.5
    with pytest.raises(PackError, match="gives other outputs"):
        engine.load(packs[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_backbone_that_is_given_keeps_its_precision(dtype: torch.dtype, tiny: FrozenViT, tmp_path: Path) -> None:
    architectures = [LPT_SIZES, Architecture(prompts="deep", prompt_length=3, adapter_size=2, adapter_norm=True)]
    packs = [
        write_random_pack(tmp_path / str(seed), tiny, architecture, classes=4, phases=phases, seed=seed)
        for seed, (architecture, phases) in enumerate(zip(architectures, ([1, 2], []), strict=True))
    ]
    given = FrozenViT(copy.deepcopy(tiny.vit), tiny.record)
    engine = TorchEngine(given.to(dtype))
    assert engine.precision == str(dtype).removeprefix("torch.")
    outputs = engine.run([(engine.load(pack), drawn_pixels(pack, 0)) for pack in packs])
    for pack, output in zip(packs, outputs, strict=True):
        single = alone(pack, tiny, torch.float32)(drawn_pixels(pack, 0))
        if output.groups == single.groups:
            near = 1e-5 if dtype == torch.float64 else 0.1
            np.testing.assert_allclose(output.scores, single.scores, atol=near)
    assert outputs[1].groups == ()


def test_a_loaded_pack_holds_its_tensors_once(tiny: FrozenViT, tmp_path: Path) -> None:
    """What the engine keeps beside the tensors of the pack are keys and values of the shared prompt, and small ones."""
    pack = write_random_pack(tmp_path / "pack", tiny, LPT_SIZES, classes=30, phases=[1, 2], seed=0)
    loaded = TorchEngine(tiny).load(pack)
    assert loaded.tuning.pool is not None
    assert np.shares_memory(loaded.tuning.pool.prompts.numpy(), pack.tensors["groups.prompts"])
    assert np.shares_memory(loaded.tuning.weight.numpy(), pack.tensors["head.weight"])
    assert loaded._model is None
    assert loaded.model is loaded.model


# --- attention --------------------------------------------------------------------------------------------------------


def test_attention_is_of_the_last_block_and_changes_no_score(tiny: FrozenViT, tmp_path: Path) -> None:
    """It is the first view's: the softmax by hand, over image tokens and prompts, from the model's last block."""
    deep = Architecture(prompts="deep", prompt_length=3)
    pack = write_random_pack(tmp_path / "deep", tiny, deep, classes=4, phases=[], seed=3,
                             preprocessing={"size": (16, 48), "test_views": 5})  # fmt: skip
    other = write_random_pack(tmp_path / "lpt", tiny, LPT_SIZES, classes=6, phases=[1, 2], seed=2)
    engine = TorchEngine(tiny)
    batch = [(engine.load(each), drawn_pixels(each, 7)) for each in (pack, other, pack)]
    plain, seen = engine.run(batch), engine.run(batch, attention=True)
    compare(seen, plain, 0)
    assert [output.attention for output in plain] == [None] * 3
    vit = tiny.at_size((16, 48))
    tokens = vit.embed(pack.info.preprocessing.normalize(torch.from_numpy(batch[0][1][:1])))
    prompts = torch.from_numpy(pack.tensors["shared.tokens"])
    for layer in range(3):
        tokens = vit.block(layer, tokens, [vit.prompt_key_value(layer, prompts[layer])])
    block = vit.vit.blocks[3]
    hidden = block.norm1(torch.cat([tokens[0], prompts[3]]))
    query, key, _ = block.attn.qkv(hidden).unflatten(1, (3, 2, 16)).permute(1, 2, 0, 3)
    weights = (query[:, :1] @ key.mT / 4).softmax(-1).mean(0)[0, 1:13].unflatten(0, (2, 6))
    np.testing.assert_allclose(seen[0].attention, weights.detach().numpy(), atol=1e-6)
    assert seen[1].attention is not None
    assert (seen[1].attention.dtype, seen[1].attention.shape) == (np.float32, (4, 4))


# --- threads and names ------------------------------------------------------------------------------------------------


@pytest.fixture
def several(tiny: FrozenViT, tmp_path: Path) -> Predictor:
    kinds: dict[str, tuple[Architecture, list[int]]] = {
        "lpt": (LPT_SIZES, [1, 2]),
        "deep": (Architecture(prompts="deep", prompt_length=5), []),
        "probe": (Architecture(prompts="none", head="linear"), []),
    }
    packs = {
        name: write_random_pack(tmp_path / name, tiny, architecture, classes=seed + 3, phases=phases, seed=seed)
        for seed, (name, (architecture, phases)) in enumerate(kinds.items())
    }
    return load_predictor(packs, backbone=tiny)


def test_packs_come_and_go_while_others_predict(several: Predictor, tmp_path: Path) -> None:
    """No prediction fails or changes while four threads predict and one adds, replaces and removes packs."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    names = ["lpt", "deep", "probe", "probe", "lpt", "deep"]
    expected = several.predict(pictures, pack=names)
    done, faults, rounds = threading.Event(), [], []

    def predict() -> None:
        while not done.is_set():
            try:
                got = several.predict(pictures, pack=names)
                rounds.append(1)
                for now, before in zip(got, expected, strict=True):
                    assert (now.classes, now.groups) == (before.classes, before.groups)
                    np.testing.assert_allclose(now.probabilities, before.probabilities, atol=1e-5)
            except BaseException as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    turns = 0
    try:
        while turns < 8 or (len(rounds) <= 4 and not faults):  # a busy machine may start the threads late
            for name in ("lpt", "deep"):
                several.add(several.pack(name), name, replace=True)
            several.add(several.pack("lpt"), "guest")
            several.remove("guest")
            turns += 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not faults, faults[0]
    assert len(rounds) > 4
    assert several.pack_names == ("lpt", "deep", "probe")


def test_every_image_may_name_its_pack(several: Predictor) -> None:
    """Names come from a list or a generator, one for each image; too few, too many and unknown ones are refused."""
    pictures = [Image.new("RGB", (40, 40), (60 * n, 9, 9)) for n in range(4)]
    names = ["probe", "lpt", "deep", "lpt"]
    expected = [several.predict(picture, pack=name)[0] for picture, name in zip(pictures, names, strict=True)]
    for given in (names, (name for name in names)):
        got = several.predict((picture for picture in pictures), pack=given, batch_size=3)
        assert [p.pack for p in got] == names
        assert [(p.classes, p.groups) for p in got] == [(p.classes, p.groups) for p in expected]
        for mixed, single in zip(got, expected, strict=True):
            np.testing.assert_allclose(mixed.probabilities, single.probabilities, atol=1e-5)
    with pytest.raises(ConfigError, match="names for 3 images, and more images"):
        several.predict(pictures, pack=names[:3])
    with pytest.raises(ConfigError, match="more names than images"):
        several.predict(pictures[:3], pack=names)
    with pytest.raises(ConfigError, match="no pack 'x'"):
        several.predict(pictures, pack=["lpt", "x", "lpt", "lpt"])


# --- a real backbone --------------------------------------------------------------------------------------------------


def test_a_mixed_batch_on_a_real_backbone(shared_dir: Path, tmp_path: Path) -> None:
    """On the ViT-Ti of the shared folder at 64x64, packs of four methods give to 1e-6 what each gives alone."""
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    (weights,) = (shared_dir / "hub" / f"models--timm--{name}").glob("snapshots/*/model.safetensors")
    backbone = lpt.load_backbone(name, checkpoint=weights)
    kinds: list[tuple[Architecture, list[int]]] = [
        (Architecture(), [1, 2]),
        (Architecture(prompt_length=4, shared_blocks=9, pool_size=5, query="prefix", adapter_size=1), [1, 2]),
        (Architecture(prompts="none", adapter_size=6, adapter_norm=True, adapter_scale=None), []),
        (Architecture(prompts="deep", prompt_length=3, head="linear"), []),
    ]
    packs = []
    for number, (architecture, phases) in enumerate(kinds):
        sizes: dict[str, Any] = {"classes": 10 + number, "phases": phases, "seed": number}
        path, small = tmp_path / str(number), {"size": (64, 64)}
        packs.append(write_random_pack(path, backbone, architecture, **sizes, preprocessing=small))
    engine = TorchEngine(backbone)
    pixels = [drawn_pixels(pack, number) for number, pack in enumerate(packs * 2)]
    loaded = [engine.load(pack) for pack in packs] * 2
    got = engine.run(list(zip(loaded, pixels, strict=True)))
    models = [alone(pack, backbone, torch.float32) for pack in packs] * 2
    compare(got, [run(image) for run, image in zip(models, pixels, strict=True)], 1e-6)
