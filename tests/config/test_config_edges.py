"""Every key of a config given what nobody means:
refused with a sentence and its line, never a traceback or an empty message.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from nanotorch.registry import LOSSES, OPTIMIZERS
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import load, loads, read_resolved
from nanotorch.train.config.schema import schema
from nanotorch.train.config.sections import Config, SweepSection
from nanotorch.train.config.strict_yaml import LARGEST_FILE, LARGEST_TEXT, ConfigError
from nanotorch.train.data.sklearn_sets import possible_tasks
from nanotorch.train.terminal.text_report import MOST_PROBLEMS

FILES = [f"data.file.{key}" for key in ("file", "target", "sheet", "test_file", "validation_file", "weight")]
TEXTS = ["name", "output", *FILES, "data.openml.target_column"]
TOP = ["model", "loss", "optimizer", "train", "early_stopping", "checkpoint", "log"]
LISTS = [
    "data.file.target",
    "data.file.numeric",
    "data.file.categorical",
    "data.file.drop",
    "data.file.dates",
    "data.file.names",
    "data.file.missing_values",
    *(f"model.{name}.hidden" for name in ("mlp", "realmlp", "tabm")),
    "train.metrics",
    "scheduler.MultiStepLR.milestones",
    "data.make_blobs.n_samples",
    "data.make_blobs.centers",
    "data.make_blobs.cluster_std",
    "data.make_classification.weights",
    "data.make_gaussian_quantiles.mean",
    *(f"loss.{name}.weight" for name in ("BCEWithLogitsLoss", "CrossEntropyLoss", "MultiMarginLoss")),
    "loss.BCEWithLogitsLoss.pos_weight",
]
ACCEPTED: dict[str, list[str] | None] = {
    "{}": [
        *TOP,
        *(f"loss.{name}.class_weight" for name in LOSSES),
        *(f"optimizer.{name}.factors" for name in OPTIMIZERS),
    ],
    "[]": LISTS,
    "[[]]": ["data.make_blobs.centers"],
    "[{}]": [],
    "{a: {b: []}}": [],
    "[[1, 2], [3, [4]]]": [],
    "[1e308, -1e308]": None,  # two numbers, which some keys take: no more than that it ends with a sentence or well
    "null": None,
    '""': TEXTS[2:],
    "text": TEXTS,
    "2020-01-02": TEXTS,
    "9" * 400: [],
    "-1": None,
    "1e308": None,
    ".nan": [],
    ".inf": [],
    "true": None,
}
"""Values, and the keys that take them: the rest has to refuse them."""


def _given(shape: dict[str, Any]) -> Any:
    """A value of a shape that is right."""
    shape = shape.get("anyOf", [shape])[0]
    plain = {"integer": shape.get("minimum", 1), "number": 0.5, "string": "x", "array": [1]}
    return shape["enum"][0] if "enum" in shape else plain[shape["type"]]


@cache
def _sections() -> list[list[dict[str, Any]]]:
    """For each key at the top the objects that may stand there,
    each as its properties and what of them has to be given.
    """
    whole = schema()
    found = []
    for key, shape in whole["properties"].items():
        named = [inner["$ref"] for inner in [shape, *shape.get("anyOf", ())] if "$ref" in inner]
        objects = [whole["$defs"][reference.removeprefix("#/$defs/")] for reference in named]
        given = []
        for each in objects:
            required = {
                inner: _given(each["properties"][inner]) for inner in each.get("required", ()) if inner != "name"
            }
            if key == "sweep":  # what is swept is checked as what it is of the config: test_sweep_section.py
                each, required = {"properties": SweepSection.model_fields}, {"seed": 2}
            name = None if key == "sweep" else each["properties"].get("name", {}).get("const")
            start = required if name is None else {"name": name, **required}
            given.append(
                {
                    "key": key,
                    "name": name,
                    "keys": [inner for inner in each["properties"] if inner != "name"],
                    "start": start,
                }
            )
        found.append(given)
    return found


def _text(parts: dict[str, Any]) -> str:
    """A config with these sections, valid but for them; values of an inner mapping are written as they stand."""
    dataset = (
        parts.get("data", {"name": '"make_moons"'}).get("name", '"file"').strip('"')
        if isinstance(parts.get("data", {}), dict)
        else "make_moons"
    )
    tasks = possible_tasks(dataset, {})
    loss = next(name for name in LOSSES if set(LOSSES.entry(name).facts["tasks"]) & tasks)
    base: dict[str, Any] = {
        "name": "x",
        "data": {"name": '"make_moons"'},
        "model": {},
        "loss": {"name": json.dumps(loss)},
        "optimizer": {"name": '"SGD"', "lr": "0.1", "momentum": "0.5"},
        "train": {"epochs": "3", "batch_size": "8"},
    }
    if "loss" in parts and isinstance(parts["loss"], dict) and "data" not in parts:
        task = LOSSES.entry(parts["loss"]["name"].strip('"')).facts["tasks"][0]
        base["data"]["name"] = {"binary": '"make_moons"', "multiclass": '"iris"', "regression": '"diabetes"'}[task]
    lines = []
    for key, value in (base | parts).items():
        if isinstance(value, dict):
            lines += (
                [f"{key}:", *(f"  {inner}: {written}" for inner, written in value.items())]
                if value
                else [f"{key}: {{}}"]
            )
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


def _reported(text: str) -> set[str]:
    """The keys that the report names; none for a config that is taken for valid."""
    try:
        loads(text)
    except ConfigError as error:
        assert error.problems, text
        assert all(problem.message.strip() and problem.mark.line for problem in error.problems), text
        return {problem.key for problem in error.problems}
    return set()


def _refuses(found: set[str], key: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in found)


def _written(section: dict[str, Any], value: str, *keys: str) -> dict[str, str]:
    return {inner: json.dumps(given) for inner, given in section["start"].items()} | dict.fromkeys(keys, value)


def _taken(value: str) -> Iterator[str]:
    """The keys that take a value. All keys of several sections are given it together,
    and then each that was not refused alone.
    """
    sections = _sections()
    for key in Config.model_fields:
        if not _refuses(_reported(_text({key: value})), key):
            yield key
    for together in zip_longest(*sections):
        here = [section for section in together if section is not None]
        found = _reported(_text({section["key"]: _written(section, value, *section["keys"]) for section in here}))
        for section in here:
            for inner in section["keys"]:
                key = f"{section['key']}.{inner}"
                if not _refuses(found, key) and not _reported(_text({section["key"]: _written(section, value, inner)})):
                    yield f"{section['key']}.{section['name']}.{inner}" if section["name"] else key


@pytest.mark.parametrize("value", ACCEPTED, ids=lambda value: value[:20])
@pytest.mark.slow
def test_a_value_at_every_key(value: str) -> None:
    taken, expected = sorted(_taken(value)), ACCEPTED[value]
    if expected is not None:
        assert taken == sorted(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.metrics=[[f1]]", "train.metrics.0: expected name of a registered metric, got a list of 1"),
        ("data.n_samples={}", "data.n_samples: expected int >= 1 or list of 2 int >= 1, got a mapping"),
        ("data.standardize_target={}", "data.standardize_target: expected true or false or 'auto', got a mapping"),
        ("train.batch_size=" + "9" * 400, "train.batch_size: expected an int of at most 1,000,000,000, got 9999"),
        ("train.batch_size=" + "9" * 5000, "train.batch_size: this number has too many digits"),
        (
            "train.accumulate=9223372036854775808",
            "train.accumulate: expected an int of at most 1,000,000,000, got 9223372036854775808",
        ),
        (
            "scheduler={name: OneCycleLR, max_lr: {}}",
            "scheduler.max_lr: expected float > 0 or list of float > 0 or null, got a mapping",
        ),
        ("train.repeats=100000000", "train.repeats: these are 100,000,000 runs, and a config makes at most 10,000"),
        ("train.folds=100000000", "train.folds: these are 100,000,000 runs, and a config makes at most 10,000"),
        (
            "model={name: residual_mlp, blocks: 1000000000}",
            "model.blocks: a model of 2,000,000,002 layers is not built",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_an_odd_value_ends_with_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, override: str, expected: str
) -> None:
    (tmp_path / "run.yaml").write_text(_text({}), encoding="utf-8")
    assert main([str(tmp_path / "run.yaml"), override]) == 2
    message = capsys.readouterr().err
    assert expected in message and "Traceback" not in message


@pytest.mark.parametrize(
    "encoding", ["hex", "rot13", "base64", "zlib", "bz2", "uu", "quopri", "undefined", "no-such", "", "\\0", "x" * 5000]
)
def test_only_encodings_of_texts(encoding: str) -> None:
    found = _reported(_text({"data": {"file": "a.csv", "target": "y", "encoding": f'"{encoding}"'}}))
    assert found == {"data.encoding"}


TABLE = "x,y,z,label\n" + "".join(f"{row},{row % 7},{row % 3},{'abc'[row % 3]}\n" for row in range(24))


@pytest.mark.parametrize(
    ("data", "others", "expected"),
    [
        (
            {"file": "t.csv", "target": "labels"},
            [],
            r":4:\d+: data.target: t.csv has no column 'labels', which data.target names \(did you mean 'label'\?\)",
        ),
        ({"file": "t.csv", "target": "label", "drop": "[w]"}, [], r":5:\d+: data.drop: t.csv has no column 'w'"),
        (
            {"file": "t.csv", "target": "label", "numeric": "[x]", "categorical": "[x]"},
            [],
            r":6:\d+: data.categorical: data.numeric and data.categorical both name 'x'",
        ),
        (
            {"file": "s.csv", "target": "label"},
            [],
            r":3:\d+: data.file: s.csv: there is no such file \(did you mean 't.csv'\?\)",
        ),
        ({"file": '"\\0"', "target": "label"}, [], r":3:\d+: data.file: .*: there is no such file"),
        ({"file": '""', "target": "label"}, [], r":3:\d+: data.file: . is a directory"),
        (
            {"file": "t.csv", "target": "label"},
            ["loss.name=BCEWithLogitsLoss"],
            "loss.name=BCEWithLogitsLoss': loss.name: BCEWithLogitsLoss is a loss for binary or multilabel, and the",
        ),
        (
            {"file": "t.csv", "target": "x"},
            ["loss.class_weight=balanced"],
            "loss.class_weight: is for classes, and the data are a regression",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["train.metrics=[accuracy, roc_auc]"],
            "train.metrics.1: roc_auc is for binary or multilabel, and the data are multiclass",
        ),
        ({"file": "t.csv", "target": "label"}, ["train.monitor=rmse"], "train.monitor: there is no score 'rmse' here"),
        ({"file": "t.csv", "target": "label"}, ["loss.weight=[1, 2]"], "loss.weight: has 2 values for 3 classes"),
        (
            {"file": "t.csv", "target": "label"},
            ["loss.class_weight={d: 2}"],
            "loss.class_weight.d: there is no class 'd'",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["train.folds=9"],
            r"train.folds: class 'a' has 8 rows: too few for one in each of 9 folds",
        ),
        (
            {"file": "t.csv", "target": "z", "task": "regression"},
            ["loss.name=MSELoss", "train.folds=5", "model.batch_norm=true", "train.batch_size=13"],
            "train.batch_size: the last batch of 14 rows",
        ),
        ({"file": "t.csv", "target": "label"}, ["data.fold=[1, 9]"], r"data.fold: class 'a' has 8 rows: too few"),
        (
            {"file": "t.csv", "target": "label", "test_size": "0.9"},
            ["data.validation_size=0.05"],
            r":5:\d+: data.test_size: class 'a' has 8 rows: too few",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["train.drop_last=true", "train.batch_size=40"],
            "train.drop_last: drops the only batch",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["model.batch_norm=true", "train.batch_size=11"],
            "train.batch_size: the last batch of 12 rows",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["scheduler={name: StepLR, step_size: 1, interval: step, warmup: 9}"],
            "scheduler.warmup: of 9 steps is as long",
        ),
        (
            {"file": "t.csv", "target": "label"},
            ["model.hidden=[20000000, 48]"],
            "model: mlp, from 2 columns to 3 outputs: a model of",
        ),
        (
            {"name": "make_classification", "n_features": "3"},
            [],
            r":4:\d+: data.n_features: dataset 'make_classification': Number of informative",
        ),
        ({"name": "make_classification", "n_classes": "5"}, [], "data.n_classes: dataset 'make_classification': "),
        ({"name": "make_blobs", "n_samples": "[]"}, [], "data.n_samples: dataset 'make_blobs': "),
        ({"name": "make_blobs", "centers": "[]"}, [], "data.centers: dataset 'make_blobs': "),
        ({"name": "make_blobs", "centers": "[[]]"}, [], "data.[a-z]+: dataset 'make_blobs': "),
        ({"name": "make_blobs", "centers": "[[1, 2], [3]]"}, [], "data.centers: dataset 'make_blobs': "),
        ({"name": "make_blobs", "cluster_std": "[1.0]"}, [], "data.cluster_std: dataset 'make_blobs': "),
        ({"name": "make_blobs", "center_box": "[1e308, -1e308]"}, [], "data.[a-z_]+: dataset 'make_blobs': "),
        ({"name": "make_moons", "noise": "1e308"}, [], "data.[a-z]+: dataset 'make_moons': "),
        ({"name": "make_moons", "n_samples": "4"}, [], "data.test_size: class '0' has 2 rows: too few"),
        ({"name": "make_gaussian_quantiles", "mean": "[1.0]"}, [], "data.mean: dataset 'make_gaussian_quantiles': "),
    ],
)
def test_what_only_the_data_can_tell_is_said_with_its_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, str],
    others: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE, encoding="utf-8")
    several = (
        data.get("target") == "label"
        or "n_classes" in data
        or data.get("name") in ("make_blobs", "make_gaussian_quantiles")
    )
    loss = {"name": '"CrossEntropyLoss"' if several else '"BCEWithLogitsLoss"'}
    Path("run.yaml").write_text(_text({"data": data, "loss": loss}), encoding="utf-8")
    assert main(["run.yaml", *others, "--output", "run"]) == 2
    first, _, rest = capsys.readouterr().err.partition("\n")
    assert re.search(expected, first), first
    assert "|" in rest and not Path("run").exists()


# ------------------------------------------------------------ work without a bound


def test_thousands_of_unknown_keys_cost_no_more_than_those_that_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses = []
    near = difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda *arguments, **named: guesses.append(1) or near(*arguments, **named)
    )
    train = {"epochs": "1", "batch_size": "8"} | {f"k{number}": "0" for number in range(3000)}
    text = _text({"train": train}) + "".join(f"\nz{number}: 0" for number in range(1000))
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert len(caught.value.problems) == 4000
    assert str(caught.value).count("unknown key") == MOST_PROBLEMS and str(caught.value).endswith("... and 3975 more")
    assert len(guesses) <= 2 * MOST_PROBLEMS


def test_files_larger_than_any_config_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "resolved.yaml"
    for size, read in (
        (LARGEST_FILE + 1, load),
        (LARGEST_TEXT + 1, read_resolved),
        (2**40, load),
        (2**40, read_resolved),
    ):
        with open(path, "wb") as file:
            file.truncate(size)  # without a byte on the disk
        with pytest.raises(ConfigError, match=r"larger than (64|256) KiB, which no config is"):
            read(path)


@pytest.mark.parametrize(
    "deep",
    ["[" * 2_000, "{a: " * 2_000, "- " * 2_000, "\n".join(" " * depth + "a:" for depth in range(300)), "? " * 2_000],
)
def test_nesting_without_an_end(deep: str) -> None:
    for text in (deep, f"name: {deep}", f"{_text({})}\nlog: {deep}"):
        with pytest.raises(ConfigError) as caught:
            loads(text)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x", "<<: *x", "a: !!python/object/apply:os.system [ls]", "a: !x 3", "&a a: 1"]
)
def test_anchors_aliases_and_tags_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="are not supported; a text that starts so needs quotes"):
        loads(text)
