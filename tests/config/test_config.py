"""Strict configs: what is accepted, what it becomes, and every message for what is not."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotorch.registry import DATASETS, LOSSES, MODELS, OPTIMIZERS, SCHEDULERS, Registry
from nanotorch.train.config import joint_checks, loading, sections, strict_yaml, value_checks
from nanotorch.train.config.loading import load, loads, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.data.sklearn_sets import possible_tasks
from nanotorch.train.terminal.text_report import MOST_PROBLEMS
from package_files import FILES, PACKAGE, imports

GOOD = """\
name: digits
data: {name: digits}
model:
  hidden: [64, 32]
loss: {name: CrossEntropyLoss}
optimizer:
  name: Adam
  lr: 1e-3
train:
  epochs: 3
  batch_size: 32
"""


def report(text: str, *overrides: str) -> str:
    """The message for a config that has to be refused."""
    with pytest.raises(ConfigError) as caught:
        loads(text, "run.yaml", overrides)
    return str(caught.value)


def headlines(text: str, *overrides: str) -> list[str]:
    """The first line of every problem."""
    return [line for line in report(text, *overrides).splitlines() if not re.match(r" *[0-9]* \| ", line)]


# ------------------------------------------------------------ what is accepted


def test_defaults_and_arguments() -> None:
    config = loads(GOOD)
    assert (config.name, config.seed, config.device, config.dtype, config.output) == (
        "digits",
        0,
        "auto",
        "float32",
        "runs",
    )
    assert config.data.name == "digits"
    assert config.data.arguments == {"n_class": 10}
    assert (config.data.test_size, config.data.validation_size) == (0.2, 0.2)
    assert config.model.name == "mlp"
    assert config.model.arguments["hidden"] == (64, 32)
    assert config.model.arguments["activation"] == "ReLU"
    assert config.optimizer.arguments["lr"] == 1e-3
    assert config.optimizer.arguments["betas"] == (0.9, 0.999)
    assert config.scheduler is None
    assert (config.train.accumulate, config.train.clip_norm, config.train.drop_last) == (1, None, False)


def test_arguments_are_exactly_those_of_the_signature() -> None:
    config = loads(GOOD, overrides=["scheduler={name: StepLR, step_size: 3}"])
    for section, registry in (("data", DATASETS), ("loss", LOSSES), ("optimizer", OPTIMIZERS)):
        chosen = getattr(config, section)
        assert list(chosen.arguments) == list(registry.arguments(chosen.name))
    assert config.scheduler is not None
    assert config.scheduler.arguments == {"step_size": 3, "gamma": 0.1}
    assert config.scheduler.interval == "epoch"


def test_a_config_is_frozen_and_equal_to_its_like() -> None:
    config = loads(GOOD)
    assert isinstance(config, Config)
    assert config == loads(GOOD)
    assert config != loads(GOOD, overrides=["seed=1"])
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3


@pytest.mark.parametrize(
    "text", ["1e-3", "1E-3", "0.001", ".001", "1.0e-3", "+1e-3", "10e-4"], ids=lambda text: f"lr: {text}"
)
def test_numbers_that_yaml_1_1_takes_for_texts(text: str) -> None:
    assert loads(GOOD, overrides=[f"optimizer.lr={text}"]).optimizer.arguments["lr"] == 1e-3


@pytest.mark.parametrize(
    "text", ["on", "off", "yes", "no", "y", "012", "0x1F", "1_000", "1:30", "2024-01-01", "=", "<<"]
)
def test_what_yaml_1_1_takes_for_something_else_is_a_text(text: str) -> None:
    root, problems = strict_yaml.parse(f"key: {text}", "file")
    assert not problems
    assert root is not None
    assert root.plain() == {"key": text}
    assert strict_yaml.parse(f"{text}: 1", "file")[0].plain() == {text: 1}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("-3", -3),
        ("0", 0),
        ("1.", 1.0),
        ("-.5e2", -50.0),
        (".inf", float("inf")),
        ("'1'", "1"),
        ('"a\\nb"', "a\nb"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    root, problems = strict_yaml.parse(f"key: {text}", "file")
    assert not problems
    assert root is not None
    plain = root.plain()["key"]
    assert plain == value
    assert type(plain) is type(value)


def test_an_integer_is_a_float_where_a_float_is_asked_for_but_not_the_reverse() -> None:
    assert loads(GOOD, overrides=["optimizer.lr=1"]).optimizer.arguments["lr"] == 1.0
    assert headlines(GOOD, "train.epochs=1e1") == [
        "override 'train.epochs=1e1': train.epochs: expected int >= 1 or 'auto', got 10.0"
    ]


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert loads("\ufeff" + GOOD.replace("\n", "\r\n")) == loads(GOOD)


# ------------------------------------------------------------ overrides


def test_overrides_reach_everything() -> None:
    overrides = [
        "seed=7",
        "model.hidden.1=16",
        "optimizer={name: SGD, lr: 0.1, momentum: 0.9}",
        "loss.label_smoothing=0.1",
    ]
    config = loads(GOOD, overrides=[*overrides, "scheduler.name=StepLR", "scheduler.step_size=2", "name=a=b"])
    assert config.seed == 7
    assert config.model.arguments["hidden"] == (64, 16)
    assert config.optimizer.name == "SGD"
    assert config.optimizer.arguments["momentum"] == 0.9
    assert config.loss.arguments["label_smoothing"] == 0.1
    assert config.scheduler is not None
    assert config.scheduler.arguments["step_size"] == 2
    assert config.name == "a=b"


def test_the_last_override_wins() -> None:
    assert loads(GOOD, overrides=["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "an override is written key=value, such as optimizer.lr=1e-3"),
        ("=3", "an override is written key=value, such as optimizer.lr=1e-3"),
        ("a..b=3", "an override is written key=value, such as optimizer.lr=1e-3"),
        ("optimizer.lrr=3", "optimizer.lrr: unknown key (did you mean 'lr'?)"),
        ("lr=3", "lr: unknown key (did you mean 'optimizer.lr'?)"),
        ("optimizer.lr=", "optimizer.lr: expected float >= 0, got nothing (null)"),
        (
            "optimizer.lr=[1",
            "optimizer.lr: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)",
        ),
        ("optimizer.lr=!!float 3", "optimizer.lr: tags (!) are not supported; a text that starts so needs quotes"),
        ("optimizer={lr: 1, lr: 2}", "optimizer: this key is given twice, first in line 1"),
        ("model.hidden.2=1", "model.hidden.2: 'model.hidden' is a list without index '2': its indices are 0 to 1"),
        ("model.hidden.-1=1", "model.hidden.-1: 'model.hidden' is a list without index '-1': its indices are 0 to 1"),
        ("model.hidden.x.y=1", "model.hidden.x.y: 'model.hidden' is a list without index 'x': its indices are 0 to 1"),
        ("model.hidden.0.y=1", "model.hidden.0.y: 'model.hidden.0' is 64, which has no keys"),
        ("name.x=1", "name.x: 'name' is the text 'digits', which has no keys"),
        ("model.hidden.0=0", "model.hidden.0: expected int >= 1, got 0"),
        ("optimizer.betas=[0.9]", "optimizer.betas: expected list of 2 float >= 0 and < 1, got a list of 1"),
        ("optimizer.betas=[0.9, 1]", "optimizer.betas.1: expected float >= 0 and < 1, got 1"),
    ],
)
def test_a_bad_override_is_quoted(override: str, message: str) -> None:
    assert headlines(GOOD, override) == [f"override '{override}': {message}"]


# ------------------------------------------------------------ every mistake at once


def test_all_mistakes_are_reported_together() -> None:
    text = """\
name: ../../etc/passwd
sed: 3
seed: -1
device: gpu
data:
  name: digit
  n_class: 3
model:
  name: mlp
  hidden: [64, 0, x]
  activation: relu
  dropout: 1.0
  batch_norm: no
loss: {name: CrossEntropyLoss, reduction: sum}
optimizer:
  name: Adam
  lrr: 1e-3
  lr: fast
  betas: [0.9, 1.5]
  epochs: 3
scheduler:
  name: StepLR
  gamma: .inf
train:
  epochs: 1.5
  batch_size: 3
  batch_size: 0
  clip_norm: -1
"""
    assert (
        report(text, "optimizer.eps=small", "seed2=1")
        == """\
run.yaml:1:7: name: a run's name becomes a directory's and cannot contain '/'
    1 | name: ../../etc/passwd
      |       ^^^^^^^^^^^^^^^^
run.yaml:2:1: sed: unknown key (did you mean 'seed'?)
    2 | sed: 3
      | ^^^
run.yaml:3:7: seed: expected int >= 0 and <= 4294967295 or null, got -1
    3 | seed: -1
      |       ^^
run.yaml:4:9: device: expected auto, cpu, cuda or cuda:N, got the text 'gpu'
    4 | device: gpu
      |         ^^^
run.yaml:6:9: data.name: unknown dataset 'digit' (did you mean 'digits'?)
    6 |   name: digit
      |         ^^^^^
run.yaml:10:16: model.hidden.1: expected int >= 1, got 0
   10 |   hidden: [64, 0, x]
      |                ^
run.yaml:10:19: model.hidden.2: expected int >= 1, got the text 'x'
   10 |   hidden: [64, 0, x]
      |                   ^
run.yaml:11:15: model.activation: unknown activation 'relu' (did you mean 'ReLU'?)
   11 |   activation: relu
      |               ^^^^
run.yaml:12:12: model.dropout: expected float >= 0 and < 1, got 1.0
   12 |   dropout: 1.0
      |            ^^^
run.yaml:13:15: model.batch_norm: expected true or false, got the text 'no'
   13 |   batch_norm: no
      |               ^^
run.yaml:14:32: loss.reduction: the trainer gives this argument; it cannot be configured
   14 | loss: {name: CrossEntropyLoss, reduction: sum}
      |                                ^^^^^^^^^
run.yaml:17:3: optimizer.lrr: unknown key (did you mean 'lr'?)
   17 |   lrr: 1e-3
      |   ^^^
run.yaml:18:7: optimizer.lr: expected float >= 0, got the text 'fast'
   18 |   lr: fast
      |       ^^^^
run.yaml:19:16: optimizer.betas.1: expected float >= 0 and < 1, got 1.5
   19 |   betas: [0.9, 1.5]
      |                ^^^
run.yaml:20:3: optimizer.epochs: unknown key (did you mean 'train.epochs'?)
   20 |   epochs: 3
      |   ^^^^^^
run.yaml:21:1: scheduler.step_size: required key is missing (int >= 1)
   21 | scheduler:
      | ^^^^^^^^^
run.yaml:23:10: scheduler.gamma: expected float >= 0, got inf
   23 |   gamma: .inf
      |          ^^^^
run.yaml:25:11: train.epochs: expected int >= 1 or 'auto', got 1.5
   25 |   epochs: 1.5
      |           ^^^
run.yaml:27:3: train.batch_size: this key is given twice, first in line 26
   27 |   batch_size: 0
      |   ^^^^^^^^^^
run.yaml:28:14: train.clip_norm: expected float > 0 or null, got -1
   28 |   clip_norm: -1
      |              ^^
override 'optimizer.eps=small': optimizer.eps: expected float >= 0, got the text 'small'
      | optimizer.eps=small
      |               ^^^^^
override 'seed2=1': seed2: unknown key (did you mean 'seed'?)
      | seed2=1
      | ^^^^^"""
    )


def test_problems_can_be_read_by_a_program() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(GOOD.replace("lr: 1e-3", "lr: x\n  eps: y"), "run.yaml")
    first, second = caught.value.problems
    assert (first.key, first.mark.line, first.mark.column) == ("optimizer.lr", 8, 7)
    assert (second.key, second.mark.line, second.mark.column) == ("optimizer.eps", 9, 8)


def test_a_report_of_many_problems_is_cut() -> None:
    text = GOOD + "".join(f"unknown{number}: 1\n" for number in range(200))
    assert report(text).count("unknown key") == MOST_PROBLEMS
    assert report(text).endswith("... and 175 more")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: digits\ndata", "name:\ndata", ["run.yaml:1:6: name: expected string, got nothing (null)"]),
        ("model:\n  hidden: [64, 32]\n", "", ["run.yaml:1:1: model: required key is missing"]),
        (
            "loss: {name: CrossEntropyLoss}",
            "loss: CrossEntropyLoss",
            [
                "run.yaml:5:7: loss: expected a mapping such as {name: CrossEntropyLoss}, "
                "got the text 'CrossEntropyLoss'"
            ],
        ),
        (
            "loss: {name: CrossEntropyLoss}",
            "loss:",
            ["run.yaml:5:6: loss: expected a mapping such as {name: CrossEntropyLoss}, got nothing (null)"],
        ),
        (
            "loss: {name: CrossEntropyLoss}",
            "loss: {name: 3}",
            ["run.yaml:5:14: loss.name: expected the name of a loss, got 3"],
        ),
        (
            "loss: {name: CrossEntropyLoss}",
            "loss: {name: crossentropy, wait: 3}",
            [
                "run.yaml:5:14: loss.name: unknown loss 'crossentropy' (did you mean 'CrossEntropyLoss'?)",
                "run.yaml:5:28: loss.wait: unknown key; the keys of CrossEntropyLoss are: ",
            ],
        ),
        (
            "loss: {name: CrossEntropyLoss}",
            "loss: [1]",
            ["run.yaml:5:7: loss: expected a mapping such as {name: CrossEntropyLoss}, got a list of 1"],
        ),
        ("  lr: 1e-3", "  lr: {a: 1}", ["run.yaml:8:7: optimizer.lr: expected float >= 0, got a mapping"]),
        (
            "  lr: 1e-3",
            "  momentum: 0.9",
            [
                "run.yaml:8:3: optimizer.momentum: unknown key; the keys of Adam are: name, factors, lr, betas, eps, "
                "weight_decay, amsgrad, maximize"
            ],
        ),
        ("  lr: 1e-3", "  lr: true", ["run.yaml:8:7: optimizer.lr: expected float >= 0, got true"]),
        ("  lr: 1e-3", "  lr: .nan", ["run.yaml:8:7: optimizer.lr: expected float >= 0, got nan"]),
        ("  lr: 1e-3", "  lr: " + "9" * 400, [f"run.yaml:8:7: optimizer.lr: expected float >= 0, got {'9' * 37}..."]),
        (
            "{name: digits}",
            "{name: digits, standardize_target: maybe}",
            ["run.yaml:2:42: data.standardize_target: expected true or false or 'auto', got the text 'maybe'"],
        ),
        ("{name: digits}", "{name: os.system}", ["run.yaml:2:14: data.name: unknown dataset 'os.system' (known: "]),
    ],
)
def test_mistakes(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    found = headlines(GOOD.replace(old, new, 1))
    assert [line[: len(wanted)] for line, wanted in zip(found, expected, strict=True)] == expected


def test_a_missing_name_lists_the_names() -> None:
    assert headlines(GOOD + "scheduler: {gamma: 0.1}\n")[0].startswith(
        "run.yaml:12:1: scheduler.name: required key is missing; the known names are: ConstantLR, Cos"
    )


def test_names_are_never_import_paths() -> None:
    for path in ("nanotorch.optim.Adam", "os.system", "torch.optim.Adam", "__import__('os')"):
        assert "unknown optimizer" in report(GOOD.replace("name: Adam", f'name: "{path}"'))
    files = (loading, value_checks, joint_checks, sections, strict_yaml)
    source = "\n".join(map(inspect.getsource, files))
    called = {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "__import__", "import_module"}


# ------------------------------------------------------------ values that do not go together


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["loss={name: MSELoss}"],
            "loss.name: MSELoss is for regression, but digits is multiclass; take CrossEntropyLoss or MultiMarginLoss"
            " or auto",
        ),
        (
            ["data={name: diabetes}"],
            (
                "loss.name: CrossEntropyLoss is for multiclass, but diabetes is regression; "
                "take HuberLoss or L1Loss or MSELoss or SmoothL1Loss or auto"
            ),
        ),
        (
            ["data={name: make_moons}", "loss={name: MSELoss}"],
            "loss.name: MSELoss is for regression, but make_moons is binary; take BCEWithLogitsLoss or auto",
        ),
        (
            ["data={name: digits, n_class: 2}", "loss={name: L1Loss}"],
            "loss.name: L1Loss is for regression, but digits is binary; take BCEWithLogitsLoss or auto",
        ),
        (
            ["data.test_size=0.6", "data.validation_size=0.4"],
            "data.validation_size: test_size 0.6 and validation_size 0.4 leave nothing to train on",
        ),
        (["data.test_size=0.85"], "data.test_size: test_size 0.85 and validation_size 0.2 leave nothing to train on"),
        (
            ["data.standardize_target=true"],
            "data.standardize_target: only the target of a regression can be standardised; digits has classes",
        ),
        (
            ["train.batch_size=1", "model.batch_norm=true"],
            "train.batch_size: batch normalisation needs 2 rows or more in a batch",
        ),
        (
            ["scheduler={name: ReduceLROnPlateau, interval: step}"],
            "scheduler.interval: ReduceLROnPlateau goes by the validation loss, which is there once an epoch",
        ),
        (
            ["scheduler={name: OneCycleLR, max_lr: 0.1, epochs: 3, interval: step}"],
            (
                "scheduler.epochs: epochs and steps_per_epoch go together; leave out both, and the schedule lasts as"
                " long as the run"
            ),
        ),
        (
            ["scheduler={name: OneCycleLR, max_lr: 0.1, total_steps: 2}"],
            "scheduler.total_steps: the schedule is over after 2 of 3 epochs",
        ),
        (
            ["scheduler={name: OneCycleLR, max_lr: 0.1, epochs: 2, steps_per_epoch: 1}"],
            "scheduler.total_steps: the schedule is over after 2 of 3 epochs",
        ),
        (
            ["data={name: make_classification, n_samples: 200, n_classes: 3}", "train.accumulate=4"],
            "train.accumulate: a step takes 32 x 4 = 128 rows, but only about 120 of 200 are for training",
        ),
        (
            ["data={name: make_blobs}", "train.batch_size=64", "train.drop_last=true"],
            "train.batch_size: a step takes 64 x 1 = 64 rows, but only about 60 of 100 are for training",
        ),
    ],
)
def test_values_are_checked_against_each_other(overrides: list[str], expected: str) -> None:
    (line,) = headlines(GOOD, *overrides)
    assert line.endswith(f": {expected}")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data={name: make_blobs}"],
        ["data={name: openml, data_id: 61}"],
        ["data={name: diabetes, standardize_target: true}", "loss={name: MSELoss}"],
        ["data={name: make_moons}", "loss={name: BCEWithLogitsLoss}", "train.batch_size=1000"],
        ["scheduler={name: ReduceLROnPlateau}"],
        ["scheduler={name: OneCycleLR, max_lr: 0.1}"],
        ["scheduler={name: OneCycleLR, max_lr: 0.1, total_steps: 3}"],
        ["scheduler={name: OneCycleLR, max_lr: 0.1, epochs: 1, steps_per_epoch: 3}"],
        ["scheduler={name: OneCycleLR, max_lr: 0.1, epochs: 3, steps_per_epoch: 34, interval: step}"],
        ["loss.weight=[1, 2, 1, 1, 1, 1, 1, 1, 1, 0.5]"],
    ],
)
def test_values_that_go_together(overrides: list[str]) -> None:
    loads(GOOD, overrides=overrides)


def test_cross_checks_wait_for_the_values_they_need() -> None:
    found = headlines(GOOD, "data={name: make_moons, n_samples: many, test_size: 2}", "train.accumulate=none")
    assert len(found) == 4
    assert "loss.name: CrossEntropyLoss is for multiclass, but make_moons is binary" in "\n".join(found)


# ------------------------------------------------------------ names of runs


@pytest.mark.parametrize("name", ["digits", "a b", "x=1", "übung", "v1.2", "a-b_c", "123"])
def test_good_names(name: str) -> None:
    assert loads(GOOD, overrides=[f"name='{name}'"]).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "a/b",
        "a\\b",
        "C:",
        ".hidden",
        "-x",
        "~",
        "a\0b",
        "a\nb",
        "CON",
        "nul.txt",
        "x.",
        "com1",
        "a*",
        "x" * 101,
        " a",
        "a ",
        "a|b",
        "a\u202eb",
    ],
)
def test_bad_names(name: str) -> None:
    escaped = "".join(f"\\U{ord(character):08x}" for character in name)
    message = report(GOOD, f'name="{escaped}"')
    assert ": name: a run's name" in message
    assert all(line.isprintable() for line in message.splitlines())


def test_any_directory_can_be_the_output_but_not_nothing() -> None:
    for path in ("/tmp/x", "../runs", "a b/c", "."):
        assert loads(GOOD, overrides=[f"output={path}"]).output == path
    for path in ('""', '" "', '"a\\0b"', "3"):
        assert "output: expected" in report(GOOD, f"output={path}")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:7"])
def test_devices(device: str) -> None:
    assert loads(GOOD, overrides=[f"device={device}"]).device == device
    assert "device: expected auto, cpu, cuda or cuda:N" in report(GOOD, f"device={device}x")


# ------------------------------------------------------------ hostile and damaged files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "run.yaml: this is empty; expected the keys of a config (name, seed,"),
        ("# nothing\n", "run.yaml: this is empty;"),
        ("- a\n- b\n", "run.yaml:1:1: expected the keys of a config ("),
        ("just words\n", "run.yaml:1:1: expected the keys of a config ("),
        ("data:\n\tname: x\n", "run.yaml:2:1: a tab stands where YAML allows only spaces"),
        ("name: a: b\n", "run.yaml:1:8: no ':' is allowed here; check the indentation"),
        ("a: [1, 2\nb: 3\n", "run.yaml:2:2: expected ',' or ']', but got ':' (while parsing a flow sequence)"),
        ("a: 'x\n", "run.yaml:2:1: found unexpected end of stream (while scanning a quoted scalar)"),
        ("---\nname: a\n---\nname: b\n", "run.yaml:3:1: a second document starts here; a config is one"),
        ("name: a\0b\n", "run.yaml:1:8: the character U+0000 is not allowed in YAML"),
        ("name: x\nseed: !!python/object/apply:os.system ['id']\n", "run.yaml:2:7: tags (!) are not supported"),
        ("seed: !!int 3\n", "run.yaml:1:7: tags (!) are not supported"),
        ("a: &x [1]\n", "run.yaml:1:4: anchors and aliases (& and *) are not supported"),
        ("a: *x\n", "run.yaml:1:4: anchors and aliases (& and *) are not supported"),
        ("a: @x\n", "run.yaml:1:4: found character '@' that cannot start any token"),
        ("[" * 3000, "run.yaml:1:21: nested more than 20 levels deep"),
        ("{a: " * 3000, "run.yaml:1:"),
        ("- " * 3000, "run.yaml:1:"),
    ],
)
def test_what_is_not_a_config(text: str, expected: str) -> None:
    message = report(text)
    assert message.startswith(expected)
    assert len(message) < 1000


def test_billions_of_laughs_stay_a_line() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert "anchors and aliases" in report("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("? [a]\n: 3\n", "run.yaml:1:3: a key has to be a word"),
        ('seed: "\\ud800"\n', "run.yaml:1:7: seed: half a character (a lone surrogate) is not text"),
        ('"\\udfff": 3\n', "run.yaml:1:1: half a character (a lone surrogate) is not text"),
        ("seed: " + "9" * 5000 + "\n", "run.yaml:1:7: seed: this number has too many digits"),
        ("<<: {seed: 3}\n", "run.yaml:1:1: <<: unknown key; the keys are: name, seed,"),
        ("1: x\n", "run.yaml:1:1: 1: unknown key"),
        ("seed: 1\nseed: 2\n", "run.yaml:2:1: seed: this key is given twice, first in line 1"),
    ],
)
def test_odd_keys_and_values_join_the_other_problems(text: str, expected: str) -> None:
    found = headlines(text + GOOD)
    assert [line for line in found if line.startswith(expected)]


def test_the_excerpt_of_a_long_line_shows_the_place() -> None:
    message = report(GOOD.replace("{name: digits}", "{name: digits, " + " " * 5000 + "n_class: 99}"))
    line, carets = message.splitlines()[1:]
    assert line.endswith("n_class: 99}")
    assert len(line) < 120
    assert line[carets.index("^") : carets.rindex("^") + 1] == "99"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: \xff\n", r"{path}:1:7: byte 0xff is not UTF-8; save the file in that encoding"),
        (b"a: 1\nname: caf\xe9\n", r"{path}:2:10: byte 0xe9 is not UTF-8; save the file in that encoding"),
        (b"x" * 70_000, r"{path}: larger than 64 KiB, which no config is"),
        (b"\x1f\x8b\x08\x00\x00", r"{path}:1:2: byte 0x8b is not UTF-8; save the file in that encoding"),
    ],
)
def test_files_that_are_not_text(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == expected.format(path=path)


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.yaml", "No such file"), (".", "Is a directory"), ("a\0b", "embedded null")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be read: {reason}"):
        load(f"{tmp_path}/{name}")


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        load("/dev/zero")


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("{}[]:,-&*!|>'\"%@`#? \n\ta1.", max_size=40))
@pytest.mark.slow
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    "name",
    "seed",
    "data",
    "data.name",
    "model.hidden",
    "model.hidden.0",
    "model.activation",
    "loss",
    "loss.weight",
    "optimizer.lr",
    "optimizer.betas",
    "scheduler",
    "train",
    "train.epochs",
    "train.clip_norm",
    "unknown.key",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_any_value_anywhere_is_accepted_or_explained(path: str, value: Any) -> None:
    override = f"{path}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}"
    try:
        config = loads(GOOD, overrides=[override])
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)
    else:
        assert loads(resolved(config)) == config


# ------------------------------------------------------------ the resolved config


def test_resolved_states_every_value_in_the_order_of_the_schema() -> None:
    text = resolved(loads(GOOD, overrides=["scheduler={name: StepLR, step_size: 5}"]))
    assert text.startswith("name: digits\nseed: 0\ndevice: auto\ndtype: float32\noutput: runs\npreset: null\n")
    assert "\npreset: null\ndata:\n  name: digits\n" in text
    assert "optimizer:\n  name: Adam\n  lr: 0.001\n  betas: [0.9, 0.999]\n  eps: 1.0e-08\n" in text
    assert "scheduler:\n  name: StepLR\n  step_size: 5\n  gamma: 0.1\n  interval: epoch\n" in text
    assert "train:\n  epochs: 3\n  batch_size: 32\n  accumulate: 1\n  clip_norm: null\n" in text
    assert text.endswith(
        "early_stopping: null\ncheckpoint:\n  every_seconds: 1.0\n  every_steps: null\n  keep: 2\nlog:\n  tensorboard:"
        " false\nsweep: null\n"
    )


def test_resolved_reproduces_itself() -> None:
    config = loads(GOOD, overrides=["name='012'", "output='1e-3'", "model.dropout=1e-7", "loss.weight=[1, 2.5]"])
    again = loads(resolved(config))
    assert again == config
    assert resolved(again) == resolved(config)


TEXTS = st.sampled_from(
    ["1e-3", "on", "012", "null", "~", "", "true", "1:30", "a: b", "# x", " x", "- a", "é", "\u2028", "'", "\t"]
)


@given(
    st.dictionaries(
        TEXTS,
        TEXTS
        | st.integers()
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.none()
        | st.lists(st.floats(allow_nan=False)),
        min_size=1,
    )
)
def test_dumped_values_read_back_here_and_in_any_reader(values: dict[str, Any]) -> None:
    text = strict_yaml.dump(values)
    root, problems = strict_yaml.parse(text, "file")
    assert not problems
    assert root is not None
    assert root.plain() == values
    assert yaml.safe_load(text) == values


# ------------------------------------------------------------ the registries as schemas


def every_entry() -> list[tuple[str, Registry, str]]:
    registries = {"data": DATASETS, "model": MODELS, "loss": LOSSES, "optimizer": OPTIMIZERS, "scheduler": SCHEDULERS}
    return [(section, registry, name) for section, registry in registries.items() for name in registry]


EXAMPLES = {"step_size": 3, "milestones": [2, 4], "gamma": 0.9, "T_max": 10, "max_lr": 0.1, "data_id": 61}
EXAMPLES["total_steps"] = 3  # has a default, but is asked for
EXAMPLES |= {"file": "table.csv", "target": "y", "T_0": 4, "base_lr": 0.01}


@pytest.mark.parametrize(("section", "registry", "name"), every_entry(), ids=lambda value: str(value)[:30])
def test_every_registered_name_can_be_configured(section: str, registry: Registry, name: str) -> None:
    arguments = registry.arguments(name)
    required = {key: EXAMPLES[key] for key, argument in arguments.items() if argument.required or key == "total_steps"}
    overrides = [f"{section}={strict_yaml.dump({'name': name, **required})}"]
    if section == "loss":
        task = next(iter(registry.entry(name).facts["tasks"]))
        overrides.append(
            f"data.name={ {'regression': 'diabetes', 'binary': 'breast_cancer', 'multiclass': 'iris'}[task] }"
        )
    if section == "data":
        overrides.append("train.accumulate=1")
        tasks = possible_tasks(name, required)
        loss = next(loss for loss in LOSSES if set(LOSSES.entry(loss).facts["tasks"]) & tasks)
        overrides.append(f"loss.name={loss}")
    config = loads(GOOD, overrides=overrides)
    chosen = getattr(config, section)
    assert chosen.name == name
    assert set(chosen.arguments) == set(arguments)
    assert loads(resolved(config)) == config


def test_every_loss_says_what_it_is_for() -> None:
    tasks = set(typing.get_args(possible_tasks.__globals__["Task"]))
    for name in LOSSES:
        assert set(LOSSES.entry(name).facts["tasks"]) <= tasks


def test_pydantic_and_yaml_are_imported_where_files_have_schemas_alone() -> None:
    users: dict[str, set[str]] = {"pydantic": set(), "yaml": set()}
    for path in FILES:
        for imported in imports(path):
            users.get(imported.module.partition(".")[0], set()).add(path.relative_to(PACKAGE).as_posix())
    assert users == {
        "pydantic": {"train/config/sections.py", "train/config/value_checks.py", "train/record/records.py"},
        "yaml": {"train/config/strict_yaml.py"},
    }


def test_an_unknown_name_does_not_hide_what_is_wrong_beside_it() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(GOOD, overrides=["data.name=digts", "data.test_size=1.5", "data.anything=3"])
    text = str(caught.value)
    assert "unknown dataset 'digts'" in text and "data.test_size: expected float >= 0 and < 1, got 1.5" in text
    assert "data.anything: unknown key; the keys of digits are: " in text  # which was meant
    with pytest.raises(ConfigError) as caught:
        loads(GOOD, overrides=["optimizer={name: adamv, lr: -1, betas: 3}", "data={name: zzz, anything: 3}"])
    text = str(caught.value)
    assert "unknown optimizer 'adamv'" in text and "optimizer.lr: expected float >= 0, got -1" in text
    assert "optimizer.betas: " in text and "anything: unknown" not in text  # nobody knows what was meant


def test_a_run_without_a_name_is_called_as_its_file_is(tmp_path: Path) -> None:
    text = GOOD.replace("name: digits\n", "", 1)
    assert loads(text, str(tmp_path / "My prices, 2.yaml")).name == "My_prices_2"
    assert loads(text, "CON.yaml").name == "run_CON" and loads(text, "<stdin>").name == "stdin"
    assert loads(text, "\u3042" * 90 + ".yaml").name == "\u3042" * 50  # a directory's name has 255 bytes
    assert loads(text, "a.yaml", ["name=b"]).name == "b"
    assert loads(resolved(loads(text, "a.yaml")), "resolved.yaml").name == "a"


@pytest.mark.parametrize(("old", "new"), [("name: Adam\n", "name: LBFGS\n")])
def test_what_configs_cannot_name_says_why(old: str, new: str) -> None:
    assert (
        headlines(GOOD.replace(old, new, 1))[0]
        == "run.yaml:7:9: optimizer.name: optimizer 'LBFGS' takes a closure that computes the loss several times in a"
        " step: it works in a program, not in a config"
    )
