"""`python -m nanotorch.compare`: scores in order, configs that differ,
curves over one another, and what cannot be compared.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from html_page import Page
from nanotorch.train.cli.compare import main
from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.report.comparison import as_text, chances, compare, read_run
from nanotorch.train.report.markup import linked
from nanotorch.train.run.run import run
from nanotorch.train.use.loaded_run import load_run

IRIS = """\
name: iris
data: {name: iris}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: SGD, lr: 1e-2}
train: {epochs: 3, batch_size: 32}
"""
LINNERUD = """\
name: linnerud
data: {name: linnerud}
model: {hidden: [4]}
loss: {name: MSELoss}
optimizer: {name: Adam, lr: 1e-2}
train: {epochs: 2, batch_size: 5}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "iris.yaml").write_text(IRIS)
    (folder / "linnerud.yaml").write_text(LINNERUD)
    for name, config, *overrides in (
        ("slow", "iris"),
        ("fast", "iris", "optimizer={name: Adam, lr: 3e-2}", "train.epochs=8", "model.hidden=[16]"),
        ("folds", "iris", "train.folds=2"),
        ("values", "linnerud"),
    ):
        assert train([str(folder / f"{config}.yaml"), *overrides, "--output", str(folder / name), "--quiet"]) == 0
    unfinished = shutil.copytree(folder / "slow", folder / "unfinished")
    (unfinished / "summary.json").unlink()
    with (unfinished / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')  # killed while it wrote
    return folder


def score(run: Path, name: str = "accuracy", part: str = "validation") -> float:
    value: float = json.loads((run / "summary.json").read_text())["scores"][part][name]
    return value


def test_the_best_comes_first_and_only_what_differs_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs / "slow"), str(runs / "fast")]) == 0
    scores, chance, differences = capsys.readouterr().out.rstrip().split("\n\n")
    lines = [line.split() for line in scores.splitlines()]
    order = sorted(("slow", "fast"), key=lambda name: -score(runs / name))
    assert chance.startswith("#2: accuracy -") and "against #1 (95% interval -" in chance
    assert [line[:2] for line in lines[1:]] == [["#1", order[0]], ["#2", order[1]]]
    assert f"{score(runs / order[0]):.4f}" in lines[1]
    assert score(runs / "slow") != score(runs / "fast")
    keys = [line.split()[0] for line in differences.splitlines()[1:]]
    assert {"model.hidden", "optimizer.name", "optimizer.lr", "optimizer.momentum", "train.epochs"} <= set(keys)
    assert not {"name", "output", "seed", "data.name", "train.batch_size"} & set(keys)
    assert re.search(r"optimizer.betas +(- +\[0.9, 0.999\]|\[0.9, 0.999\] +-)", differences)


def test_by_another_score_and_another_part(runs: Path) -> None:
    found = compare([read_run(runs / name) for name in ("slow", "fast")], by="loss", part="train")
    losses = [run.score("train", "loss") for run in found.runs]
    assert losses == sorted(losses, key=lambda value: value or 0.0)


def test_tables_fit_a_narrow_terminal(runs: Path, tmp_path: Path) -> None:
    places = [shutil.copytree(runs / "slow", tmp_path / f"iris-20261122T0131{k:02}Z-{k:04x}") for k in range(12)]
    for k, place in enumerate(places):
        text = (place / "resolved.yaml").read_text()
        (place / "resolved.yaml").write_text(text.replace("lr: 0.01", f"lr: {k + 1}.0e-02"))
    text = as_text(compare([read_run(place) for place in places]), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert len(re.findall(r"^optimizer.lr ", text, re.MULTILINE)) == 2  # the runs in two pieces
    assert "#12" in text


def test_runs_with_one_config_do_not_differ(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = shutil.copytree(runs / "slow", tmp_path / "slow")
    assert main([str(runs / "slow"), str(again)]) == 0
    printed = capsys.readouterr().out
    assert "the configs do not differ" in printed
    assert str(again) in printed.replace("...", "") or "..." in printed  # directories of one name go by their paths


def test_several_runs_in_one_directory_show_mean_and_spread(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs / "folds"), str(runs / "fast"), "--part", "test"]) == 0
    spread = json.loads((runs / "folds" / "summary.json").read_text())["spread"]["test"]["accuracy"]
    assert f"{score(runs / 'folds', part='test'):.4f} ± {spread:.4f}" in capsys.readouterr().out


def test_the_report_of_several_runs_shows_them_beside_one_another(runs: Path) -> None:
    source = (runs / "folds" / "report.html").read_text()
    text = "".join(Page(source).text)
    assert "fold-1" in text
    assert "fold-2" in text
    shown = {float(each["value"] or 0) for each in Page(source).all("data")}
    assert {score(runs / "folds" / "fold-1", part="test"), score(runs / "folds" / "fold-2", "loss", "test")} <= shown
    spread = json.loads((runs / "folds" / "summary.json").read_text())["spread"]["test"]
    assert {score(runs / "folds", name, "test") for name in spread} | set(spread.values()) <= shown
    links = [each["href"] or "" for each in Page(source).all("a")]
    assert sorted(link for link in links if link[0] != "#") == [f"fold-{k}/report.html" for k in (1, 2)]
    assert {link[1:] for link in links if link[0] == "#"} <= set(Page(source).ids)
    kept = [json.loads((runs / "folds" / f"fold-{k}" / "held_out.json").read_text())["called"] for k in (1, 2)]
    right = sum(rows for each in kept for true, called, rows in each if true == called)
    assert f"Of 150 rows, each by the run that was not trained on it, {right / 150:.1%} (95% interval" in text
    assert "the most frequent class, is right for 33.3%." in text
    assert "2 runs: test accuracy" in text and "on average (95% interval" in text
    assert (runs / "folds" / "fold-1" / "report.html").is_file()


def test_an_unfinished_run_comes_last_and_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs / "unfinished"), str(runs / "fast")]) == 0
    printed = capsys.readouterr()
    assert re.search(r"^#2 +unfinished +3 of 3 epochs( +-)+ *$", printed.out, re.MULTILINE)
    assert "unfinished is not complete (3 of 3 epochs), so it has no validation scores yet" in printed.err


def test_long_names_that_end_differently_can_be_told_apart_on_a_page(tmp_path: Path) -> None:
    assert linked(f"#1 {'name_' * 12}the_first", tmp_path, tmp_path).endswith("<span>_first</span></span></a>")


@pytest.mark.parametrize("kind", ["html", "png", "svg", "pdf"])
def test_curves_over_one_another(runs: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"compared.{kind}"
    assert main([str(runs / "slow"), str(runs / "fast"), str(runs / "unfinished"), "--output", str(output)]) == 0
    content = output.read_bytes()
    assert content.startswith({"html": b"<!DOCTYPE html>", "png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[kind])
    if kind == "html":
        parsed = Page(content.decode())
        drawings = [each["aria-label"] or "" for each in parsed.all("svg")]
        assert [drawing.partition(" of ")[0] for drawing in drawings] == ["validation loss", "validation accuracy"]
        assert not re.search(r"https?:|<script", content.decode())
        shown = {float(each["value"] or 0) for each in parsed.all("data")}
        assert {score(runs / "slow"), score(runs / "fast", "loss")} <= shown
        found = compare([read_run(runs / name) for name in ("slow", "fast")], part="validation")
        ((_, gap, _),) = chances(found)
        assert set(gap) <= shown and "more than chance" in content.decode()
        targets = [tmp_path / (each["href"] or "") for each in parsed.all("a")]
        assert {target.resolve() for target in targets} >= {
            runs / "slow" / "report.html",
            runs / "fast" / "report.html",
        }


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["slow"], [], "a comparison needs two runs or more"),
        (["slow", "slow"], [], "a comparison needs two runs or more"),
        (["slow", "nowhere"], [], "nowhere is not the directory of a run: there is no such directory"),
        (["slow", "iris.yaml"], [], "iris.yaml is not the directory of a run: it is no directory"),
        (["slow", "slow/checkpoints"], [], "checkpoints is not the directory of a run: it has no resolved.yaml"),
        (["slow", "values"], [], "these runs have different scores, so none is the best:"),
        (["slow", "fast"], ["--by", "f1"], "no run has a score 'f1'; they all have loss, accuracy"),
        (
            ["slow", "fast"],
            ["--part", "tset"],
            "slow has no scores of a part 'tset'; its parts are train, validation, test",
        ),
        (["slow", "fast"], ["--output", "a.jpg"], "a.jpg: a comparison is written as .html, .svg, .png or .pdf"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    runs: Path, names: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*(str(runs / name) for name in names), *options]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_run_is_passed_over_where_there_are_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs / name) for name in ("slow", "iris.yaml", "slow/checkpoints", "fast")]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.split("\n\n")[0].splitlines()) == 3
    assert f"note: {runs / 'iris.yaml'} is not the directory of a run: it is no directory" in shown.err
    assert f"{runs / 'slow/checkpoints'} is not the directory of a run: it has no resolved.yaml" in shown.err
    assert main([str(runs / name) for name in ("slow", "fast", "nowhere")]) == 2
    assert "nowhere is not the directory of a run: there is no such directory" in capsys.readouterr().err


def test_damaged_files_are_told_and_the_rest_is_shown(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (file, content, message) in enumerate(
        [
            ("summary.json", "{", "summary.json cannot be read: Expecting property name"),
            (
                "summary.json",
                "[]",
                (
                    "summary.json: expected an object with keys, got an empty list; the run is shown as if it were not"
                    " complete"
                ),
            ),
            (
                "summary.json",
                '{"name": "slow", "seconds": 1}',
                "summary.json: task is missing; the run is shown as if it were not complete",
            ),
            ("resolved.yaml", "a: [", "resolved.yaml:1:"),
            ("resolved.yaml", "", "resolved.yaml: this is empty"),
            ("resolved.yaml", "seed: 1\n", "resolved.yaml:1:1: data: required key is missing"),
            (
                "metrics.jsonl",
                '{"epoch": 1}\n',
                "metrics.jsonl, line 1: step is missing; the epochs before that are shown",
            ),
        ]
    ):
        damaged = shutil.copytree(runs / "slow", tmp_path / str(number))
        (damaged / file).write_text(content)
        assert main([str(runs / "slow"), str(damaged)]) == 0, file
        shown = capsys.readouterr()
        assert shown.err.startswith(f"note: {damaged}/{message}"), shown.err
        assert "slow" in shown.out and "2  " in shown.out


def test_what_is_chance_is_said_by_pairs_of_the_same_rows(tmp_path: Path) -> None:
    """The interval against rows drawn anew, by pairs of what the two runs kept."""
    runs = {}
    for name, overrides in (
        ("a", ()),
        ("b", ("optimizer.lr=2e-3",)),
        ("c", ("optimizer.lr=1e-5",)),
        ("d", ("seed=1",)),
    ):
        text = "name: d\ndata: {name: diabetes, validation_size: 0.4}\nmodel: {hidden: [4]}\ntrain: {epochs: 12}\n"
        run(loads(text, overrides=overrides), None, False, tmp_path / name)
        runs[name] = read_run(tmp_path / name)
    found = compare(list(runs.values()), part="validation")
    told = dict(zip([one.place.name for one in found.runs[1:]], chances(found), strict=True))
    best = found.runs[0].place.name
    assert told["c"].verdict == "more than chance"
    assert [name for name, one in told.items() if one.rows == "other rows"] in (["d"], [n for n in "abc" if n != best])
    data = prepare(loads(text))
    true = data.parts["validation"].targets[:, 0]
    errors = {name: runs[name].held_out[:, 0] ** 2 for name in "ac"}
    assert 1 - errors["a"].mean() / true.var() == pytest.approx(runs["a"].score("validation", "r2"), abs=1e-5)
    drawn = np.random.default_rng(1).integers(0, len(true), (2000, len(true)))
    gaps = (errors["a"] - errors["c"])[drawn].mean(1) / true.var()
    of_two = compare([runs["a"], runs["c"]], part="validation")
    ((_, (_, low, high), rows),) = chances(of_two)
    assert rows == "the same rows"
    assert (low, high) == pytest.approx(np.quantile(gaps, [0.025, 0.975]), abs=0.03)


def test_a_run_without_an_epoch_has_nothing_to_compare(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young = shutil.copytree(runs / "unfinished", tmp_path / "young")
    (young / "metrics.jsonl").write_text("")
    assert main([str(runs / "slow"), str(runs / "fast"), str(young)]) == 0
    assert "nothing to compare yet: no epoch of this run is complete" in capsys.readouterr().err
    assert main([str(runs / "slow"), str(young)]) == 2
    assert "nothing to compare yet: no epoch of this run is complete" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m nanotorch.compare RUN RUN --by loss --output compare.svg" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["loss", "r2"])
def test_chance_of_several_targets_goes_by_all_of_them(tmp_path: Path, by: str) -> None:
    """The interval against rows drawn anew, of what both runs predict for the validation part."""
    text = "name: d\ndata: {name: linnerud, validation_size: 0.6, test_size: 0}\nmodel: {hidden: [4]}\n"
    text += "loss: {name: MSELoss}\ntrain: {epochs: 4, batch_size: 4, metrics: [r2]}\n"
    places = {"a": (), "b": ("optimizer.lr=1e-5",)}
    for name, overrides in places.items():
        run(loads(text, overrides=overrides), None, False, tmp_path / name)
    found = compare([read_run(tmp_path / name) for name in places], by, "validation")
    ((_, (_, low, high), _),) = chances(found)
    true = prepare(loads(text)).parts["validation"].targets
    squares, values = [], []
    for one in found.runs:
        loaded = load_run(one.place)
        table = prepare(loads(text)).parts["validation"]
        outputs = loaded.outputs(loaded.preprocessing.features(table))
        squares.append((loaded.preprocessing.in_units(outputs) - true) ** 2)
        scale = loaded.preprocessing.target_scaler.scale if by == "loss" else true.std(axis=0)
        values.append(squares[-1] / np.asarray(scale) ** 2)
    terms = (values[0] - values[1]).mean(axis=1) * (1 if by == "r2" else -1)
    assert terms.mean() == pytest.approx(
        found.runs[1].score("validation", by) - found.runs[0].score("validation", by), rel=1e-3
    )
    drawn = np.random.default_rng(1).integers(0, len(true), (4000, len(true)))
    ends = np.quantile(terms[drawn].mean(axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx(ends, abs=0.25 * (ends[1] - ends[0]))


def test_chance_of_a_loss_of_classes_is_that_of_its_rows(runs: Path) -> None:
    found = compare([read_run(runs / name) for name in ("slow", "fast")], "loss", "validation")
    ((_, (gap, low, high), _),) = chances(found)
    losses = [-np.log(1 - one.held_out[:, 0]) for one in found.runs]
    assert gap == pytest.approx(losses[1].mean() - losses[0].mean(), abs=1e-3)
    drawn = np.random.default_rng(1).integers(0, len(losses[0]), (4000, len(losses[0])))
    ends = np.quantile((losses[1] - losses[0])[drawn].mean(axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx(ends, abs=0.1 * (ends[1] - ends[0]))


def test_chance_of_folds_goes_by_pairs_of_runs(runs: Path, tmp_path: Path) -> None:
    """The corrected t interval of Nadeau and Bengio, by SciPy."""
    for name, override in (("one", "optimizer.lr=3e-2"), ("two", "optimizer.lr=1e-3")):
        arguments = [str(runs / "iris.yaml"), "train.folds=3", override, "--output", str(tmp_path / name), "--quiet"]
        assert train(arguments) == 0
    for part in ("validation", "test"):
        found = compare([read_run(tmp_path / name) for name in ("one", "two")], part=part)
        scores = [
            [each[part]["accuracy"] for each in json.loads((one.place / "summary.json").read_text())["runs"].values()]
            for one in found.runs
        ]
        (told,) = chances(found)
        differences = np.subtract(*reversed(scores))
        rows = json.loads((tmp_path / "one" / "fold-1" / "summary.json").read_text())["rows"]
        error = differences.std(ddof=1) * np.sqrt(1 / 3 + rows[part] / rows["train"])
        ends = scipy.stats.t.interval(0.95, 2, differences.mean(), error)
        assert told.gap == pytest.approx((differences.mean(), *ends), abs=1e-4)
        assert told.rows == "the same rows"
        for line, values in zip(as_text(found).splitlines()[1:3], scores, strict=True):
            error = np.std(values, ddof=1) * np.sqrt(1 / 3 + rows[part] / rows["train"])
            low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), error)
            assert f"{low:.4f} to {min(high, 1):.4f}" in line  # no accuracy is above 1
    other = compare([read_run(tmp_path / "one"), read_run(runs / "folds"), read_run(runs / "slow")], part="test")
    assert all(one.rows == "other rows" for one in chances(other))
    assert len(chances(other)) == 2
