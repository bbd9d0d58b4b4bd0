"""What looks at a run without running it: --doctor, --find-lr, --dry-run and --schema."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nanotorch as torch
from html_page import Page
from nanotorch.registry import DATASETS, LOSSES, MODELS, OPTIMIZERS, SCHEDULERS
from nanotorch.train.cli.train import main
from nanotorch.train.config import loading as config
from nanotorch.train.config import strict_yaml
from nanotorch.train.config.schema import schema
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.inspect import doctor
from nanotorch.train.inspect.dry_run import dry_run
from nanotorch.train.inspect.lr_finder import range_test, suggestion
from nanotorch.train.run.run import run

TEXT = """
name: looked_at
seed: 1
device: cpu
data: {file: FILE, target: label}
model: {hidden: [16]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.005}
train: {epochs: 30, batch_size: 16}
"""
IRIS = TEXT.replace("{file: FILE, target: label}", "{name: iris}")


def columns(rows: int = 240) -> dict[str, Any]:
    """A table without a fault: three overlapping classes."""
    generator = np.random.default_rng(0)
    label = np.arange(rows) % 3
    return {
        "height": generator.standard_normal(rows) + label,
        "width": generator.standard_normal(rows) * 3 - label,
        "colour": generator.choice(["red", "green"], rows),
        "label": np.array(["a", "b", "c"])[label],
    }


def written(path: Path, table: dict[str, Any]) -> Path:
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def found(path: Path, table: dict[str, Any] | None = None, *overrides: str) -> doctor.Diagnosis:
    text = IRIS if table is None else TEXT.replace("FILE", str(written(path / "table.csv", table)))
    diagnosis = doctor.examine(config.loads(text, overrides=overrides))
    assert max(map(len, diagnosis.text().splitlines())) <= 80 or table is not None
    for finding in diagnosis.findings:
        assert finding.change in re.sub(r"\s+", " ", diagnosis.text()) or "  " in finding.change
    return diagnosis


def one(diagnosis: doctor.Diagnosis, check: str) -> doctor.Finding:
    assert check not in diagnosis.passed
    (finding,) = [finding for finding in diagnosis.findings if finding.check == check]
    return finding


CHECKS = [
    "class imbalance",
    "constant columns",
    "columns without most values",
    "duplicated columns",
    "row numbers among the columns",
    "numbers of more digits than a float has",
    "names among the columns",
    "rows in two parts",
    "rows that contradict each other",
    "columns that give the target away",
    "scales and outliers",
    "length of the run",
    "finite losses",
    "progress of the loss",
    "gradient norms",
    "update-to-weight ratios",
    "dead and saturated units",
]


def test_healthy_data_and_training_have_no_finding(tmp_path: Path) -> None:
    diagnosis = found(tmp_path, columns())
    assert diagnosis.findings == []
    assert diagnosis.passed == CHECKS
    assert [layer.name for layer in diagnosis.layers] == ["0 Linear 4 -> 16", "2 Linear 16 -> 3"]
    assert len(diagnosis.losses) == doctor.STEPS
    assert "no finding" in diagnosis.text()


def test_imbalance(tmp_path: Path) -> None:
    table = columns()
    keep = (table["label"] != "c") | (np.arange(240) % 5 == 0)
    table = {name: values[keep] for name, values in table.items()}
    finding = one(found(tmp_path, table), "class imbalance")
    assert finding.what == "class 'a' has 48 rows for training, class 'c' 10"
    assert finding.change == "loss.class_weight=balanced"  # the monitor is the loss already
    stated = one(found(tmp_path, table, "train.monitor=accuracy"), "class imbalance")
    assert stated.change == "loss.class_weight=balanced  train.monitor=balanced_accuracy"
    assert "class imbalance" in found(tmp_path, table, *finding.change.split()).passed
    for monitor in ("recall_macro", "roc_auc_ovr"):
        told = one(found(tmp_path, table, f"train.monitor={monitor}"), "class imbalance")
        assert told.change == "loss.class_weight=balanced"


def test_all_lines_together_can_be_pasted(tmp_path: Path) -> None:
    """Names that YAML or a shell would read otherwise, two findings of the rate, and what goes together."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal(400)
    table = {
        "it's [a]": np.arange(400) + 7, "yes": [5] * 400, "k=v": x * 2.5, "x": x, "#q": [3] * 400,
        "w": generator.standard_normal(400), "label": np.where(x + generator.standard_normal(400) > 1.8, "Yes", "No"),
    }  # fmt: skip
    overrides = [
        "loss={name: auto}",
        "optimizer={name: SGD, lr: 30}",
        "train={epochs: 5, batch_size: 64, monitor: accuracy}",
    ]
    diagnosis = found(tmp_path, table, *overrides)
    assert diagnosis.lines["data.drop"] == """["yes", "#q", x, "it's [a]"]"""
    rates = {finding.lines["optimizer.lr"] for finding in diagnosis.findings if "optimizer.lr" in finding.lines}
    assert rates == {diagnosis.lines["optimizer.lr"]}
    pasted = diagnosis.text("nanotorch train t.yaml").partition("  nanotorch train t.yaml")[2].partition("\n\n")[0]
    lines = shlex.split(pasted.replace("\\\n", " "))
    assert [line.partition("=")[0] for line in lines] == list(diagnosis.lines)
    mended = found(tmp_path, table, *overrides, *lines)
    assert not {"data.drop", "loss.class_weight", "train.monitor"} & set(mended.lines)
    assert float(mended.lines.get("optimizer.lr", 0)) < float(diagnosis.lines["optimizer.lr"])


def test_the_pasted_command_states_no_key_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs/iris_mlp.yaml", "optimizer.lr=1e4", "train.epochs=2", "--doctor"]) == 0
    printed = capsys.readouterr().out
    words = shlex.split(printed.partition("  python -m nanotorch.train ")[2].partition("\n\n")[0].replace("\\\n", " "))
    keys = [word.partition("=")[0] for word in words[1:]]
    assert sorted(keys) == sorted(set(keys)) and "optimizer.lr" in keys and "optimizer.lr=1e4" not in words


def test_constant_and_duplicated_columns_and_row_numbers(tmp_path: Path) -> None:
    table = columns()
    table = {"id": np.arange(100, 340), "unit": [7] * 240, "inches": table["height"] / -2.54, **table}
    diagnosis = found(tmp_path, table)
    assert one(diagnosis, "constant columns").change == "data.drop=[unit, height, id]"  # one list, in each of them
    assert one(diagnosis, "constant columns").what == "column 'unit' has one value in all rows for training"
    duplicated = one(diagnosis, "duplicated columns")
    assert ("'height' says what 'inches' says" in duplicated.what, duplicated.change) == (
        True,
        "data.drop=[unit, height, id]",
    )
    assert diagnosis.lines == {"data.drop": "[unit, height, id]"}
    mended = found(tmp_path, table, "data.drop=[id, unit, inches]")
    assert mended.findings == []


def test_paths_stay_in_one_piece(tmp_path: Path) -> None:
    table = {name: np.concatenate([values, values]) for name, values in columns().items()}
    (folder := tmp_path / "-".join(["of", "hyphens"] * 12)).mkdir()
    finding = one(found(folder, table), "rows in two parts")
    assert str(folder / "table.csv") in finding.change


def test_rows_in_two_parts_and_contradictions(tmp_path: Path) -> None:
    table = columns()
    table = {name: np.concatenate([values, values]) for name, values in table.items()}
    finding = one(found(tmp_path, table), "rows in two parts")
    told = re.fullmatch(r"(\d+) of 96 validation rows and (\d+) of 96 test rows have the same values .*", finding.what)
    assert told is not None
    assert min(map(int, told.groups())) > 40
    assert finding.change.startswith("remove repeated rows from ")

    table["label"] = np.roll(table["label"], 1)
    table["label"][:240] = columns()["label"]
    contradicting = one(found(tmp_path, table), "rows that contradict each other")
    assert "of 288 rows for training have the columns of another row and another target" in contradicting.what


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_a_column_that_gives_the_target_away(tmp_path: Path, task: str) -> None:
    table = columns()
    generator = np.random.default_rng(3)
    codes = np.searchsorted(["a", "b", "c"], table["label"]).astype(float)
    overrides = []
    if task == "numbers":
        codes = generator.standard_normal(240) + table["height"]
        table["label"] = codes
        overrides = ["loss={name: MSELoss}"]
    table["invoice"] = codes * 10 + generator.uniform(0, 0.1, 240)
    finding = one(found(tmp_path, table, *overrides), "columns that give the target away")
    assert finding.what.startswith("column 'invoice' alone says the ")
    assert finding.change == "data.drop=[invoice]"
    assert found(tmp_path, table, *overrides, finding.change).findings == []


def test_scales_and_outliers(tmp_path: Path) -> None:
    table = columns(4000)
    table["width"] = table["width"] * 1e5
    wide = one(found(tmp_path, table, "data.standardize=false", "train.epochs=2"), "scales and outliers")
    assert wide.change == "data.standardize=true"
    assert "scales and outliers" in found(tmp_path, table, "train.epochs=2").passed
    table["height"][:300] = 1e9
    table["height"][300:] = table["height"][300:]
    table["height"][1:300] = 0
    outlier = [
        one(found(tmp_path, table, f"seed={seed}", "train.epochs=2"), "scales and outliers")
        for seed in range(6)
        if _in_training(tmp_path, table, seed)
    ]
    assert outlier
    assert outlier[0].change == "train.clip_norm=1.0"


def _in_training(path: Path, table: dict[str, Any], seed: int) -> bool:
    from nanotorch.train.fit.prepare import prepare

    text = TEXT.replace("FILE", str(written(path / "table.csv", table)))
    return bool(prepare(config.loads(text, overrides=[f"seed={seed}"])).parts["train"].features.max() > 1e8)


def test_the_target_of_a_regression_in_large_units(tmp_path: Path) -> None:
    table = columns()
    table["label"] = table["height"] * 1e5 + 3e5 + np.random.default_rng(1).standard_normal(240) * 1e5
    finding = one(
        found(tmp_path, table, "loss={name: MSELoss}", "data.standardize_target=false"), "scales and outliers"
    )
    assert finding.change == "data.standardize_target=true"


@pytest.mark.parametrize(
    ("overrides", "check", "change"),
    [
        (
            ["data={name: diabetes}", "loss={name: MSELoss}", "optimizer={name: SGD, lr: 100}"],
            "finite losses",
            "optimizer.lr=10  train.clip_norm=1.0",
        ),
        (["train.epochs=1"], "length of the run", "train.epochs=50"),
        (["train.batch_size=90"], "length of the run", "train.batch_size=8"),
        (["optimizer.lr=3"], "update-to-weight ratios", "optimizer.lr=0."),
        (["optimizer.lr=1e-7"], "update-to-weight ratios", "optimizer.lr="),
        (["model={hidden: [16, 16, 16, 16, 16, 16], activation: Sigmoid}"], "gradient norms", "model.layer_norm=true"),
        (
            ["model.activation=Tanh", "optimizer={name: SGD, lr: 30}"],
            "dead and saturated units",
            "optimizer.lr=0.3, or model.init=xavier_uniform",
        ),
        (["optimizer.lr=3", "model.hidden=[30, 30]"], "dead and saturated units", "optimizer.lr=0.0"),
    ],
)
def test_faults_of_training(tmp_path: Path, overrides: list[str], check: str, change: str) -> None:
    diagnosis = found(tmp_path, None, *overrides)
    assert one(diagnosis, check).change.startswith(change), diagnosis.text()


def test_skipped_steps_are_not_hidden(tmp_path: Path) -> None:
    overrides = [
        "data={name: diabetes}",
        "loss={name: MSELoss}",
        "optimizer={name: SGD, lr: 100}",
        "train.on_nonfinite=skip",
    ]
    finding = one(found(tmp_path, None, *overrides), "finite losses")
    assert re.match(
        r"on_nonfinite: skip left out every step of epoch \d|\d+ of 40 steps were left out", finding.what
    ), finding


def test_runs_that_are_shorter_than_a_trial(tmp_path: Path) -> None:
    """The trial ends with the run, for its schedule may have no further step."""
    schedule = ["train.epochs=2", "scheduler={name: OneCycleLR, max_lr: 0.01, interval: step}", "train.batch_size=64"]
    assert len(found(tmp_path, columns(), *schedule).losses) == 6
    text = TEXT.replace("FILE", str(tmp_path / "table.csv"))
    assert "3 steps an epoch, 2 epochs: 6 steps" in dry_run(config.loads(text, overrides=schedule))


def test_the_command_prints_it_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "iris.yaml"
    path.write_text(IRIS)
    assert main([str(path), "--doctor", "train.epochs=1", f"output={tmp_path / 'runs'}"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"looked_at: loss \d\.\d+ -> \d\.\d+ in a trial of 40 steps\n", out)
    assert "1 finding\n" in out
    assert "-> train.epochs=50" in out
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    assert not (tmp_path / "runs").exists()


def test_everything_looks_at_rows_on_the_disk_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((30_000, 4)).astype(np.float32)
    features[:, 3] = 2.5
    np.savez(
        tmp_path / "rows.npz", X=features, y=(features[:, 0] + generator.standard_normal(30_000) > 0).astype(np.int64)
    )
    given = config.loads(
        IRIS.replace("{name: iris}", f"{{file: {tmp_path}/rows.npz, target: y}}"),
        overrides=["loss={name: BCEWithLogitsLoss}"],
    )
    assert [finding.check for finding in doctor.examine(given).findings] == ["constant columns"]
    assert "rows     18,000 train, 6,000 validation, 6,000 test" in dry_run(given)
    assert range_test(given).suggested > 1e-5


def test_everything_looks_at_a_gpu_too(device: torch.device) -> None:
    given = config.loads(IRIS, overrides=[f"device={device}"])
    assert doctor.examine(given).findings == []
    assert f"float32 on {device}" in dry_run(given)
    assert range_test(given).suggested == range_test(config.loads(IRIS)).suggested


# ------------------------------------------------------------ the learning-rate finder


def test_the_rate_is_where_half_of_the_fall_is_over() -> None:
    rates = np.logspace(-6, 1, 71)
    losses = 1 / (1 + np.exp(3 * (np.log10(rates) + 3))) + np.where(rates > 0.1, 10 * (rates - 0.1), 0)
    assert suggestion(rates.tolist(), losses.tolist()) == 1e-3
    noisy = losses + np.where(rates < 1e-4, -0.6 * (np.arange(71) % 7 == 3), 0)  # batches that are easy by chance
    assert suggestion(rates.tolist(), noisy.tolist()) == 1e-3
    assert suggestion(rates.tolist(), (1 + rates).tolist()) is None


def test_the_finder_names_a_rate_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "iris.yaml"
    path.write_text(
        IRIS.replace("Adam, lr: 0.005", "SGD, lr: 1e-6")
        + "scheduler: {name: StepLR, step_size: 1}\nearly_stopping: {patience: 1}\n"
    )
    assert main([str(path), "--find-lr", f"output={tmp_path / 'runs'}"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:-3])) <= 80
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["looked_at-find-lr.svg"]
    drawing = (tmp_path / "runs" / "looked_at-find-lr.svg").read_text()
    assert "suggested" in "".join(Page(drawing).text)
    override = out.splitlines()[-1]
    assert override.startswith("optimizer.lr=")
    assert 0.01 <= float(override.partition("=")[2]) <= 3
    constant = ["scheduler=null", "early_stopping=null", "train.epochs=60"]
    slow, fast = (
        run(config.load(path, [*constant, *given]), None, False, tmp_path / f"run{len(given)}").scores["test"]
        for given in ([], [override])
    )
    assert fast["accuracy"] >= 0.9 and fast["loss"] < 0.4 * slow["loss"]
    test = range_test(config.load(path))
    assert test == range_test(config.load(path))
    assert test.rates[0] == 1e-7
    np.testing.assert_allclose(np.diff(np.log(test.rates)), np.log(1e8) / 119, rtol=1e-9)
    assert len(test.rates) == len(test.losses) == len(test.smoothed)


def test_the_finder_says_where_nothing_can_be_found() -> None:
    given = config.loads(
        IRIS,
        overrides=[
            "data={name: make_blobs, standardize: false, center_box: [1e30, 2e30]}",
            "loss={name: MultiMarginLoss, p: 2}",
        ],
    )
    with pytest.raises(DivergedError, match="not finite at a learning rate of 1e-07 already"):
        range_test(given)


# ------------------------------------------------------------ the dry run


def test_the_dry_run_shows_data_model_and_a_step_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris.yaml").write_text(IRIS)
    assert main(["iris.yaml", "--dry-run", "train.accumulate=2", "seed=null"]) == 0
    out = capsys.readouterr().out
    for line in (
        r"looked_at: seed \d+, float32 on cpu",
        r"rows     90 train, 30 validation, 30 test \(\d\.\d KiB on the device\)",
        r"columns  4, which give 4 inputs",
        r"targets  3 classes: setosa, versicolor, virginica \(multiclass\)",
        r"best by  accuracy of the validation part",
        r"  0 Linear .*\(16, 16\) +80 .*",
        r"131 parameters \(524 B\)",
        r"a step   2 batches of 16 rows: [\d.]+ ms",
        r"memory   weights 524 B, gradients 524 B, optimizer 1\.\d KiB",
        r"         at most [\d.]+ KiB more than before, while a step runs",
        r"run      3 steps an epoch, 30 epochs: 90 steps, about .*",
        r"nothing was written",
    ):
        assert re.search(f"^{line}$", out, re.MULTILINE), line
    assert max(map(len, out.splitlines())) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["iris.yaml"]


def test_the_dry_run_refuses_what_the_run_would(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "iris.yaml").write_text(IRIS)
    assert main([str(tmp_path / "iris.yaml"), "--dry-run", "loss.class_weight={rose: 2}"]) == 2
    assert "there is no class 'rose'" in capsys.readouterr().err
    assert "3 such runs" in dry_run(config.loads(IRIS, overrides=["train.folds=3"]))


# ------------------------------------------------------------ the schema


@pytest.fixture(scope="module")
def validator() -> Any:
    described = schema()
    jsonschema.Draft202012Validator.check_schema(described)
    return jsonschema.Draft202012Validator(described)


def plain(text: str) -> Any:
    root, problems = strict_yaml.parse(text, "file")
    assert not problems and root is not None
    return root.plain()


CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_and_its_resolved_form_fit_the_schema(validator: Any, path: Path) -> None:
    validator.validate(plain(path.read_text("utf-8")))
    validator.validate(plain(config.resolved(config.load(path))))


@pytest.mark.parametrize(
    ("override", "fits"),
    [
        ("seed: null", True),
        ("seed: -1", False),
        ("seeds: 1", False),
        ("model: {}", True),
        ("model: {hidden: [0]}", False),
        ("model: {activation: relu}", False),
        ("model: {name: residual_mlp, blocks: 3, init: orthogonal}", True),
        ("model: {blocks: 3}", False),
        ("optimizer: {lr: 1}", True),
        ("optimizer: {name: Adam, lr: fast}", False),
        ("optimizer: {name: SGD, lr: 1, momentum: 0.9}", True),
        ("scheduler: null", True),
        ("scheduler: {name: StepLR}", False),
        ("scheduler: {name: StepLR, step_size: 2, warmup: 3}", True),
        ("train: {epochs: 1, batch_size: 2, metrics: [f1_macro]}", True),
        ("train: {epochs: 1, batch_size: 2, metrics: [f2]}", False),
        ("train: {epochs: 1}", True),
        ("loss: {name: CrossEntropyLoss, class_weight: balanced}", True),
        ("data: {name: iris, fold: [1, 2]}", True),
        ("loss: {name: CrossEntropyLoss, class_weight: {a: 0}}", False),
        ("data: {name: iris, n_class: 3}", False),
        ("data: {file: a.csv, target: b}", True),
        ("data: {file: a.csv}", False),
        ("sweep: {seed: 8, optimizer.lr: [1e-3, 1], scheduler: [null, {name: StepLR, step_size: 2}]}", True),
        ("sweep: {trials: 2, optimizer: {lr: {loguniform: [1e-3, 1]}}, model.hidden: {choice: [[4], [8]]}}", True),
        ("sweep: {trials: 2, model.hidden.0: {randint: [8, 65]}}", True),
        ("sweep: {optimizer.lrr: [1e-3, 1]}", False),
        ("sweep: {optimizer: {lrr: [1e-3, 1]}}", False),
        ("sweep: {optimizer.lr: [fast]}", False),
        ("sweep: {optimizer.lr: 0.1}", False),
        ("sweep: {trials: 2, optimizer.lr: {normal: [0, 1]}}", False),
        ("sweep: {train.folds: [2, 3]}", False),
        ("sweep: {data.name: [iris]}", False),
        ("sweep: {halving: 1, seed: 8}", False),
    ],
)
def test_the_schema_marks_what_the_trainer_refuses(validator: Any, override: str, fits: bool) -> None:
    values = plain(IRIS) | plain(override)
    assert validator.is_valid(values) == fits
    text = strict_yaml.dump(values)
    try:
        config.loads(text)
        accepted = True
    except config.ConfigError:
        accepted = False
    assert accepted == fits


def test_the_schema_knows_every_name_and_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(schema()))
    for section, registry in {
        "data": DATASETS,
        "model": MODELS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "scheduler": SCHEDULERS,
    }.items():
        for name in registry:
            described = printed["$defs"][f"{section}-{name}"]
            assert described["properties"]["name"]["const"] == name
            assert set(registry.arguments(name)) <= set(described["properties"])
