"""Test where the values of a run come from: the preset, the user and `auto`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lpt.commands.fit.auto import AutoFacts, resolve_auto
from lpt.commands.fit.request import RunRequest, gather_values
from lpt.config.lint import second_phase_fields
from lpt.config.presets import PRESETS, Resolved, choose_method, choose_preset, with_preset
from lpt.config.schema import RunConfig, validate
from lpt.config.values import (
    merge,
    nested,
    parse_assignments,
    read_yaml,
    to_yaml,
)
from lpt.errors import ConfigError
from lpt.system.hardware import Machine, inspect_machine

CPU = Machine("cpu", "a processor", 4, True, 8 * 2**30, 8 * 2**30)
CARD = Machine("cuda", "a card", 16, True, 80 * 2**30, 64 * 2**30)
MAC = Machine("mps", "Apple M2", 8, False, 16 * 2**30, 16 * 2**30)


def resolve(values: dict[str, Any], machine: Machine = CPU, **changes: Any) -> Resolved:
    options: dict[str, Any] = dict(
        train_images=10_847,
        class_counts=np.linspace(500, 5, 100).astype(np.int64),
        blocks=12,
        native_size=(224, 224),
        activation_bytes=lambda size, number_bytes: size[0] * size[1] * 100 * number_bytes,
        cached_bytes=30 * 2**20,
        prefix_cache_bytes=lambda config: 0,
        decoded=True,
    )
    chosen = with_preset(values, machine.device, origin="test")
    return resolve_auto(chosen.config, machine, AutoFacts(**{**options, **changes}))


def leaves(values: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {path: values}
    return {key: leaf for name, value in values.items() for key, leaf in leaves(value, f"{path}.{name}").items()}


# --- the published setting --------------------------------------------------------------------------------------------

PUBLISHED = {
    "backbone.name": "vit_base_patch16_224.augreg_in21k",
    "image.size": 224,
    "image.flip": True,
    "image.test_crop": 7 / 8,
    "model.prompt_length": 10,
    "model.shared_blocks": None,  # half of them: 6 of ViT-B's 12
    "model.pool_size": 20,
    "model.top_k": 2,
    "model.head_init": "random",
    "model.prompt_init": "random",
    "model.key_init": "random",
    "model.group_init": "random",
    "loss.scale": 20,
    "loss.margin": 0.1,
    "loss.noise": 0.5,
    "loss.label_smoothing": 0.1,
    "loss.gamma_balanced": (0, 4),
    "loss.gamma_instance": (0.5, 8),
    "loss.instance_weight": 0.5,
    "loss.similarity_weight": 0.5,
    "loss.dropout": 0.1,
    "train.batch_size": 256,
    "train.images_per_class": 4,
    **{
        f"train.{phase}.{field}": value
        for phase in ("phase1", "phase2")
        for field, value in {
            "epochs": 90, "optimizer": "sgd", "lr": 0.02, "weight_decay": 0.01, "warmup_epochs": 1, "min_lr": 1e-6,
            "schedule": "epoch",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("field", PUBLISHED)
def test_paper_is_the_published_setting(field: str) -> None:
    """Every published value, field by field."""
    value: Any = resolve({"preset": "paper"}, CARD).config
    for part in field.split("."):
        value = getattr(value, part)
    assert value == PUBLISHED[field]


@pytest.mark.parametrize(("images", "batch_size", "steps"), [(10_847, 256, 43), (512, 256, 3), (100, 256, 1)])
def test_an_epoch_of_paper_is_as_published(images: int, batch_size: int, steps: int) -> None:
    """An epoch has floor(n / B) + 1 steps, even if n is a multiple of B or smaller than B."""
    values = {"preset": "paper", "train": {"batch_size": batch_size}}
    assert resolve(values, CARD, train_images=images).config.train.epoch_steps == steps


@pytest.mark.parametrize(("images", "steps"), [(10_847, 169), (200, 100), (400_000, 781)])
def test_an_epoch_of_laptop_draws_the_data_once(images: int, steps: int) -> None:
    """Two streams with n / 2B steps draw n images; there are at least 100 steps and at most 50,000 draws."""
    assert resolve({"preset": "laptop"}, train_images=images).config.train.epoch_steps == steps


@pytest.mark.parametrize(
    ("imbalance", "noise"), [(100.0, 0.5), (1000.0, 0.5), (10.0, 0.25), (50.0, 0.425), (2.0, 0.075), (1.0, 0.0)]
)
def test_the_cloud_of_laptop_goes_by_the_log_of_the_imbalance(imbalance: float, noise: float) -> None:
    """A mild imbalance gets weaker noise than a strong one; values by hand."""
    counts = np.array([1000, round(1000 / imbalance)])
    result = resolve({"preset": "laptop"}, class_counts=counts)
    assert result.config.loss.noise == noise
    assert any(reason.startswith(f"noise {noise}: ") for reason in result.reasons)
    assert resolve({"preset": "paper"}, class_counts=counts).config.loss.noise == 0.5


@pytest.mark.parametrize(("classes", "size"), [(2, 1), (47, 1), (48, 2), (100, 4), (1000, 32)])
def test_the_adapters_of_lift_grow_with_the_classes(classes: int, size: int) -> None:
    """With 12 blocks the size is 2 ** floor(log2(classes / 24)); an empty class counts. Values by hand."""
    counts = np.array([*[500] * (classes - 1), 0])
    result = resolve({"preset": "laptop", "method": "lift"}, class_counts=counts)
    assert result.config.model.adapter_size == size
    assert any(reason.startswith(f"adapter_size {size}: ") for reason in result.reasons)


@pytest.mark.parametrize(
    ("preset", "method", "size"),
    [
        ("laptop", "lpt", 1),
        ("laptop", "lpt-phase1", 1),
        ("laptop", "vpt-deep", 0),
        ("laptop", "lora", 0),
        ("paper", "lpt", 0),
    ],
)
def test_laptop_has_adapters_of_one_number_beside_prompts_of_lpt(preset: str, method: str, size: int) -> None:
    """They come with LIFT's norm and learnt scale. Other methods, and the preset `paper`, are as published."""
    model = resolve({"preset": preset, "method": method}).config.model
    assert model.adapter_size == size
    assert (model.adapter_norm, model.adapter_scale) == ((True, None) if size else (False, 0.1))


def test_a_loss_without_a_cloud_gives_no_reason_for_its_strength() -> None:
    """`auto` still becomes a number, because a saved configuration is resolved."""
    result = resolve({"preset": "laptop", "loss": {"name": "cross_entropy"}}, class_counts=np.array([100, 10]))
    assert result.config.loss.noise == 0.5
    assert not any("noise" in reason for reason in result.reasons)


# --- precedence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_users_value_beats_the_preset(preset: str) -> None:
    """A user can change every value of a preset, one field without the rest of its section."""
    for path, value in leaves(PRESETS[preset]()).items():
        choices: dict[str, Any] = {"name": "other", "optimizer": "sgd", "schedule": "epoch", "noise": 0.25}
        choices |= {"adapter_size": 3, "adapter_norm": False, "adapter_scale": 0.2}
        choices |= dict.fromkeys(("head_init", "prompt_init", "group_init"), "random")
        changed = choices.get(path.rsplit(".", 1)[1], [0.5, 0.9] if isinstance(value, list) else None)
        wanted = changed if changed is not None else value / 2 if isinstance(value, float) else value * 2
        values: dict[str, Any] = parse_assignments([f"{path[1:]}={yaml.safe_dump(wanted, default_flow_style=True)}"])
        both = {"preset": preset, "method": "lpt"}
        result: Any = with_preset({**both, **values}, CPU.device, origin="test").config.model_dump(mode="json")
        others = leaves(with_preset(both, CPU.device, origin="test").config.model_dump(mode="json"))
        got = leaves(result)
        assert got[path] == wanted
        assert {key for key in got if got[key] != others[key]} == {path}


def test_presets_are_complete_and_documented() -> None:
    """Each preset is a valid configuration with a command in its docstring, and using it does not change it."""
    for name, preset in PRESETS.items():
        assert f"--preset {name}" in (preset.__doc__ or "")
        before = preset()
        with_preset({"preset": name, "train": {"phase1": {"epochs": 3}}}, CPU.device, origin="test")
        assert preset() == before


def test_auto_takes_the_preset_the_machine_can_afford() -> None:
    """A CUDA device takes the published setting, any other device the small one; each with a reason."""
    for machine, name in ((CARD, "paper"), (CPU, "laptop"), (MAC, "laptop")):
        chosen, reasons = choose_preset("auto", machine.device)
        assert chosen == name
        assert len(reasons) == 1
        assert name in reasons[0]
        assert with_preset({}, machine.device, origin="test").config.preset == name
    assert choose_preset("laptop", CARD.device) == ("laptop", [])
    [reason] = choose_preset("auto", CARD.device)[1]
    assert all(part in reason for part in ("published", "not measured", "--preset laptop"))
    with pytest.raises(ConfigError, match=r"'desktop'.*laptop, paper"):
        choose_preset("desktop", CPU.device)


def test_laptop_trains_the_first_phase_unless_the_second_is_asked_for() -> None:
    """The second does not earn its price there; who sets a field of it wants it, and a method that is named stays."""
    method, [reason] = choose_method({}, "laptop")
    assert method.name == "lpt-phase1"
    assert "--phases 2" in reason
    assert [choose_method({"method": name}, "paper")[0].name for name in ("auto", "lift")] == ["lpt", "lift"]
    second = second_phase_fields()
    assert {"train.phase2.lr", "model.pool_size", "model.query", "prefix_cache.views"} <= second
    assert not {"train.phase1.lr", "model.prompt_length", "loss.name"} & second
    for path in second:
        values = nested({path: "anything"})
        method, [reason] = choose_method(values, "laptop")
        assert method.name == "lpt"
        assert path in reason
        assert choose_method({**values, "method": "lpt-phase1"}, "laptop")[0].name == "lpt-phase1"


def test_what_a_preset_gives_is_the_method_by_name() -> None:
    """So a comparison's row and a run without a method are the same training."""
    for values in ({}, {"train": {"phase2": {"lr": 0.5}}}):
        plain = with_preset({"preset": "laptop", **values}, CPU.device, origin="test").config
        named = {"preset": "laptop", "method": plain.method, **values}
        assert with_preset(named, CPU.device, origin="test").config == plain


@pytest.mark.parametrize(
    ("phases", "method", "given"),
    [(1, "lpt-phase1", None), (2, "lpt", None), (2, "lpt", "lpt"), (None, "lift", "lift"), (None, None, None)],
)
def test_phases_name_a_method(phases: int | None, method: str | None, given: str | None) -> None:
    values = gather_values(RunRequest("photos/", method=given, phases=phases))
    assert values.get("method") == method


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (RunRequest("photos/", phases=3), r"phases 3: LPT has two\. Accepted: 1, 2"),
        (RunRequest("photos/", method="lift", phases=2), "phases 2 is method lpt, not lift"),
        (RunRequest("photos/", config={"method": "lift"}, phases=1), "phases 1: the configuration says method: lift"),
    ],
)
def test_phases_that_do_not_fit_are_refused(request_: RunRequest, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gather_values(request_)


# --- auto -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [CPU, CARD, MAC], ids=lambda machine: machine.device)
@pytest.mark.parametrize("preset", ["laptop", "paper"])
@pytest.mark.parametrize("size", ["auto", 96, [64, 32]])
def test_every_auto_is_resolved_with_a_reason(machine: Machine, preset: str, size: Any) -> None:
    """No field stays `auto`, each choice has a reason, and the saved configuration can be run again as it is."""
    values = {"preset": preset, "image": {"size": size}, "prefix_cache": {"views": 2}}
    before = leaves(with_preset(values, machine.device, origin="test").config.model_dump(mode="json"))
    result = resolve(values, machine)
    after = leaves(result.config.model_dump(mode="json"))
    open_fields = [path for path, value in before.items() if value == "auto"]
    assert open_fields
    assert "auto" not in after.values()
    assert {path for path in after if after[path] != before[path]} == set(open_fields)
    reasons = {reason.split(" ")[0]: reason for reason in result.reasons}
    for path in open_fields:
        assert len(reasons[path.rsplit(".", 1)[1]].partition(": ")[2]) > 2
    assert len(result.reasons) == len(open_fields)
    saved = validate(yaml.safe_load(to_yaml(result.config)), origin="saved")
    assert saved == result.config
    again = resolve(yaml.safe_load(to_yaml(result.config)), machine)
    assert again == Resolved(result.config, [])


def test_what_the_user_chose_is_not_resolved() -> None:
    """`auto` fills gaps and never overrules a user."""
    runtime = {"device": "cpu", "precision": "fp32", "threads": 1, "workers": 3}
    train = {"micro_batch": 7, "epoch_steps": 5}
    sections = {"data": {"cache": False}, "image": {"size": 64}, "loss": {"noise": 0.3}, "model": {"adapter_size": 2}}
    result = resolve({"preset": "laptop", "runtime": runtime, "train": train, **sections})
    assert result.reasons == []
    assert result.config.runtime.model_dump(include=set(runtime)) == runtime
    assert result.config.train.model_dump(include=set(train)) == train
    assert (result.config.loss.noise, result.config.model.adapter_size) == (0.3, 2)


def test_memory_bounds_the_micro_batch_and_the_cache() -> None:
    """With little memory the micro-batch is halved until it fits, at least 1; a large set is not kept in memory."""
    roomy, tight = (
        resolve({"preset": "laptop"}),
        resolve({"preset": "laptop"}, Machine("cpu", "x", 2, False, 2**26, 2**26)),
    )
    assert roomy.config.train.micro_batch == roomy.config.train.batch_size
    assert 1 <= tight.config.train.micro_batch < roomy.config.train.batch_size
    per_image = 128 * 128 * 100 * 4
    assert tight.config.train.micro_batch * per_image <= 0.6 * 2**26
    assert resolve({"preset": "laptop"}, Machine("cpu", "x", 1, False, 0, 0)).config.train.micro_batch == 1
    assert roomy.config.data.cache is True
    assert resolve({"preset": "laptop"}, cached_bytes=2**31).config.data.cache is False


@pytest.mark.parametrize(
    ("machine", "cached", "workers"), [(CPU, True, 0), (CPU, False, 3), (CARD, True, 4), (CARD, False, 8)]
)
def test_reader_processes_start_where_reading_is_the_bottleneck(machine: Machine, cached: bool, workers: int) -> None:
    """No workers for images in memory on a CPU; some if files are decoded or a GPU waits."""
    values = {"preset": "laptop", "data": {"cache": cached}}
    assert resolve(values, machine).config.runtime.workers == workers


@pytest.mark.parametrize(
    ("cores", "values", "changes", "workers", "reason"),
    [
        (4, {}, {}, 0, "images are in memory"),
        (4, {}, {"cached_bytes": 2**31}, 3, "reading must not hold up the model"),
        (4, {"cache": True}, {"cached_bytes": 2**31}, 3, "reading must not hold up the model"),
        (1, {}, {"cached_bytes": 2**31}, 0, "the only core trains and reads in turn"),
        (4, {"cache": False}, {"decoded": False}, 0, "images are in memory"),
    ],
)
def test_workers_depend_on_what_fits_in_memory(
    cores: int, values: dict[str, Any], changes: dict[str, Any], workers: int, reason: str
) -> None:
    """They do not depend on `data.cache`: images that do not fit are decoded each time. The reason says so."""
    machine = Machine("cpu", "a processor", cores, True, 8 * 2**30, 8 * 2**30)
    result = resolve({"preset": "laptop", "data": values}, machine, **changes)
    assert result.config.runtime.workers == workers
    assert f"workers {workers}: {reason}" in result.reasons


def test_bfloat16_that_a_gpu_only_emulates_is_not_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU older than Ampere reports that it supports bfloat16, unless emulation is excluded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**34))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    for major, fast in ((7, False), (8, True)):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, major=major: SimpleNamespace(major=major)
        )
        assert inspect_machine("cuda").fast_bf16 is fast


@pytest.mark.parametrize(("machine", "precision"), [(CPU, "bf16"), (MAC, "fp32")])
def test_precision_follows_the_hardware(machine: Machine, precision: str) -> None:
    """The precision is bfloat16 only where that is faster."""
    assert resolve({}, machine).config.runtime.precision == precision


# --- files and assignments --------------------------------------------------------------------------------------------


def test_all_faults_are_reported_at_once() -> None:
    """Unknown keys and bad values are listed by dotted path, with the value and what is accepted."""
    values = {"train": {"batch_size": 0, "batchsize": 3}, "model": {"top_k": 9, "pool_size": 4}, "modle": {}}
    with pytest.raises(ConfigError) as caught:
        validate(values, origin="run.yaml")
    message = str(caught.value)
    for expected in ("run.yaml", "4 fault(s)", "train.batch_size", "got 0", "train.batchsize: no such field",
                     "epoch_steps", "top_k (9) must not exceed pool_size (4)", "modle: no such field"):  # fmt: skip
        assert expected in message


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"test_views": 2, "flip": False}, "test_views 2 looks at the mirror image"),
        ({"test_views": 5, "test_crop": 1}, "test_views 5 needs test_crop below 1"),
    ],
)
def test_views_that_make_no_sense_are_refused(image: dict[str, Any], reason: str) -> None:
    """Of fields that do not go together the sentence names both; a whole section is not shown as the value."""
    with pytest.raises(ConfigError, match=reason) as caught:
        validate({"image": image}, origin="run.yaml")
    assert "got" not in str(caught.value)


def test_assignments_nest_and_are_read_as_yaml() -> None:
    """`--set` reaches every field with its type; a malformed assignment is an error."""
    assert parse_assignments(
        ["train.phase1.lr=0.1", "train.batch_size=8", "image.size=[32, 64]", "image.flip=off"]
    ) == {
        "train": {"phase1": {"lr": 0.1}, "batch_size": 8},
        "image": {"size": [32, 64], "flip": False},
    }
    for wrong in ("train.lr", "=3", "a..b=1", "a=[1", "image.size.x=1"):
        with pytest.raises(ConfigError, match=r"^settings "):
            parse_assignments(["image.size=3", wrong])


@given(st.one_of(st.none(), st.text(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.text())))
@example(1e-07)
@example("\U0001f431 photos/\udc80\x85\x7f")
def test_values_by_path_stay_as_they_are(value: Any) -> None:
    """No value of a mapping is read as YAML: a path may hold any character, `None` may be what is meant."""
    assert nested({"data.test": value, "train.phase1.lr": 2}) == {
        "data": {"test": value},
        "train": {"phase1": {"lr": 2}},
    }


def test_values_by_path_become_plain() -> None:
    """Paths are text, tuples are lists, and the user's own mappings are not changed."""
    phase = {"lr": 1}
    values = {"data.test": Path("photos"), "image.size": (32, 64), "train.phase1": phase, "train.phase1.epochs": 2}
    assert nested(values) == {
        "data": {"test": "photos"},
        "image": {"size": [32, 64]},
        "train": {"phase1": {"lr": 1, "epochs": 2}},
    }
    assert phase == {"lr": 1}
    for wrong in ("a..b", "", "image.size.x"):
        with pytest.raises(ConfigError, match=r"^settings "):
            nested({"image.size": 3, wrong: 1})


def test_merging_changes_neither_side() -> None:
    """The second value wins, section by section, and both mappings stay as they were."""
    base, over = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "e": {"f": 6}}
    assert merge(base, over) == {"a": {"b": 5, "c": 2}, "d": 3, "e": {"f": 6}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_file_that_is_no_configuration_is_an_error_with_its_path(tmp_path: Path) -> None:
    """A missing file, no YAML, no mapping and no text are errors; an empty file is accepted."""
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=str(path)):
        read_yaml(path)
    for content in (b"- a\n- b\n", b"a: [1", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=str(path)):
            read_yaml(path)
    path.write_text("")
    assert read_yaml(path) == {}


def test_the_defaults_round_trip() -> None:
    """A configuration saved as YAML is read back unchanged, including small rates and tuples."""
    config = RunConfig()
    assert validate(yaml.safe_load(to_yaml(config)), origin="saved") == config
