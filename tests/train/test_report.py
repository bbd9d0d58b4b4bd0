"""The page that every run leaves: complete, true to summary.json, escaped, self-contained;
and the tables in the terminal.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from html_page import Page
from nanotorch.train.config import loading as config
from nanotorch.train.data.table import Table
from nanotorch.train.report import data_card, figures, run_page
from nanotorch.train.run.open_run import RunResult
from nanotorch.train.run.run import run
from nanotorch.train.score import classification
from nanotorch.train.terminal import text_report as report

pytestmark = pytest.mark.drawn

EVIL = ("<script>alert(1)</script>", 'a "quoted" & $odd$ class', "naïve\tname")
COLUMNS = ("<b>age</b>", "$income$", "colour")

OWN = """
name: own
device: cpu
data: {{file: {file}, target: 'kind"'}}
model: {{hidden: [8]}}
loss: {{name: CrossEntropyLoss}}
optimizer: {{name: Adam, lr: 0.02}}
train: {{epochs: 3, batch_size: 16, metrics: [f1_macro]}}
output: {output}
"""

NUMBERS = """
name: numbers
device: cpu
data: {{name: linnerud}}
model: {{hidden: [4], batch_norm: true}}
loss: {{name: MSELoss}}
optimizer: {{name: SGD, lr: 0.02}}
train: {{epochs: 1, batch_size: 5}}
output: {output}
"""


def values(source: str) -> set[float]:
    return {float(value or "nan") for value in (each.get("value") for each in Page(source).all("data"))}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run on a table with names that would do harm, missing values and categories."""
    folder = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(0)
    lines = ['<b>age</b>,$income$,colour,"kind"""']
    for k in range(120):
        age = "" if k % 10 == 0 else f"{draw.integers(18, 80)}"
        kind = EVIL[k % 3].replace('"', '""')
        lines.append(f'{age},{draw.normal(3e4, 1e3) + 5e3 * (k % 3):.2f},{"red" if k % 4 else "<i>blue</i>"},"{kind}"')
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = OWN.format(file=folder / "table.csv", output=folder)
    return run(config.loads(text), source="# <script>a comment</script>\n" + text, progress_bar=False)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(config.loads(NUMBERS.format(output=tmp_path_factory.mktemp("numbers"))), progress_bar=False)


def html(result: RunResult) -> str:
    return (result.directory / "report.html").read_text(encoding="utf-8")


def summary(result: RunResult) -> dict[str, Any]:
    return json.loads((result.directory / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(params=["own", "numbers"])
def result(request: pytest.FixtureRequest) -> RunResult:
    found: RunResult = request.getfixturevalue(request.param)
    return found


# ------------------------------------------------------------ any page


def test_it_is_well_formed_and_needs_nothing_beside_itself(result: RunResult) -> None:
    source = html(result)
    parsed = Page(source)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {"html", "head", "title", "main", "nav", "header"} <= {tag for tag, _ in parsed.elements}
    assert not re.search(r"https?:|//[a-z]|@import", source)
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "img", "iframe", "object"}
    targets = [each["href"] for each in parsed.all("a")] + [each.get("href") for each in parsed.all("use")]
    assert all(target and target.startswith("#") and target[1:] in parsed.ids for target in targets)
    for reference in re.findall(r"url\(#([^)]+)\)", source):
        assert reference in parsed.ids
    assert 20_000 < len(source) < 400_000


def test_it_can_be_read_by_those_who_do_not_see_it(result: RunResult) -> None:
    parsed = Page(html(result))
    drawings = [each for each in parsed.all("svg") if each.get("aria-hidden") != "true"]
    assert len(drawings) >= 6
    assert all(each["role"] == "img" and len(each["aria-label"] or "") > 20 for each in drawings)
    assert all(each["scope"] in ("col", "row") for each in parsed.all("th"))
    assert len(parsed.all("table")) == len([each for each in parsed.all("table") if each["aria-label"]])
    assert parsed.all("html")[0]["lang"] == "en"
    assert parsed.all("meta")[1]["name"] == "viewport"


def test_it_has_every_section_and_the_links_to_them(result: RunResult) -> None:
    parsed = Page(html(result))
    sections = [each["id"] for each in parsed.all("section")]
    assert sections == ["scores", "mistakes", "data", "model", "training", "config", "environment"]
    assert [each["href"] for each in parsed.all("a")] == [f"#{name}" for name in sections]


def test_its_numbers_are_those_of_the_summary(result: RunResult) -> None:
    found = values(html(result))
    for scores in summary(result)["scores"].values():
        assert set(scores.values()) <= found
    for score in summary(result).get("classes", ()):
        assert {score["precision"], score["recall"], score["f1"]} <= found


def test_the_same_run_gives_the_same_page_but_for_times_and_places(numbers: RunResult, tmp_path: Path) -> None:
    again = run(config.loads(NUMBERS.format(output=tmp_path)), progress_bar=False)
    mine, other = (
        {
            name: html(one).split(f'<section id="{name}"')[1].split("</section>")[0]
            for name in ("scores", "mistakes", "data", "model")
        }
        for one in (numbers, again)
    )
    assert mine == other
    times = {"seconds", "started", "finished"}
    assert {k: v for k, v in summary(numbers).items() if k not in times} == {
        k: v for k, v in summary(again).items() if k not in times
    }


def test_colours_follow_the_theme_and_there_is_a_style_for_paper(result: RunResult) -> None:
    source = html(result)
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source
    drawn = source[source.index("</style>") :]
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) & set(figures.COLOURS.values())
    style = source[: source.index("</style>")]
    for name in re.findall(r"var\(--([a-z]+)\)", drawn):
        assert len(re.findall(rf"--{name}:", style)) == 3 or name == "share", name  # light, dark and paper


# ------------------------------------------------------------ classification


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["/home/me/nanotorch/nanotorch/__main__.py", "train", "a.yaml"], "python -m nanotorch train a.yaml"),
        (["/home/me/nanotorch/nanotorch/train/__main__.py", "a.yaml"], "python -m nanotorch.train a.yaml"),
        (["/usr/bin/nanotorch", "train", "a b.yaml"], "/usr/bin/nanotorch train 'a b.yaml'"),
    ],
)
def test_the_command_is_shown_as_it_can_be_typed_again(words: list[str], typed: str) -> None:
    assert run_page._command(words) == typed


def test_names_are_escaped_wherever_they_stand(own: RunResult) -> None:
    source = html(own)
    assert "<script" not in source
    assert "<b>" not in source
    assert "<i>" not in source
    text = "".join(Page(source).text)
    for name in ("<script>alert(1)</script>", 'a "quoted" & $odd$ class', "<b>age</b>", "$income$", "<i>blue</i>"):
        assert name in text, name
    assert "# <script>a comment</script>" in text


def test_the_confusion_matrix_adds_up_to_the_accuracy(own: RunResult) -> None:
    source = html(own)
    counts = [int(count) for count in re.findall(r'<td class="(?:none|right|wrong)"[^>]*>(\d+)</td>', source)]
    matrix = np.array(counts).reshape(3, 3)
    assert matrix.sum() == summary(own)["rows"]["test"]
    assert np.trace(matrix) / matrix.sum() == summary(own)["scores"]["test"]["accuracy"]
    assert [row["support"] for row in summary(own)["classes"]] == matrix.sum(axis=1).tolist()
    f1 = [row["f1"] for row in summary(own)["classes"]]
    assert math.isclose(sum(f1) / 3, summary(own)["scores"]["test"]["f1_macro"])
    assert sum(f1) / 3 in values(source)


def test_the_data_card_knows_missing_values_and_categories(own: RunResult) -> None:
    text = "".join(Page(html(own)).text)
    assert re.search(r"missing values\s*\d+ in 1 columns", text)
    assert re.search(r"colour\s+category\s+0\s*2\s*red \d+%, <i>blue</i> \d+%", text)


def test_a_run_without_epochs_before_has_one_point(numbers: RunResult) -> None:
    assert len(numbers.history) == 1
    assert "over 1 epochs" in html(numbers)


# ------------------------------------------------------------ regression


def test_a_regression_shows_each_target_in_its_units(numbers: RunResult) -> None:
    parsed = Page(html(numbers))
    labels = [each.get("aria-label") or "" for each in parsed.all("svg")]
    for target in ("Weight", "Waist", "Pulse"):
        assert any(label.startswith(f"Predicted against true values of {target} for 4 rows") for label in labels)
    shown = values(html(numbers))
    for target in ("Weight", "Waist", "Pulse"):
        rmse = summary(numbers)["scores"]["test"][f"rmse_{target}"]
        assert any(math.isclose(value, rmse, rel_tol=1e-5) for value in shown)


# ------------------------------------------------------------ what goes wrong


def test_without_matplotlib_the_page_says_so_and_training_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(config.loads(NUMBERS.format(output=tmp_path)), progress_bar=False)
    assert "pip install matplotlib" in html(result)
    assert "no figures" in capsys.readouterr().err
    assert summary(result)["scores"]["test"]["loss"] in values(html(result))


def test_a_page_that_cannot_be_written_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_page, "page", full)
    result = run(config.loads(NUMBERS.format(output=tmp_path)), progress_bar=False)
    assert "report.html cannot be written (No space left on device)" in capsys.readouterr().err
    assert (result.directory / "summary.json").is_file()


# ------------------------------------------------------------ the parts


def test_class_scores_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    true, guessed = draw.integers(0, 4, 200), draw.integers(0, 5, 200)  # class 4 is only guessed
    matrix = classification.confusion(true, guessed, 5)
    assert (matrix == sklearn.metrics.confusion_matrix(true, guessed, labels=range(5))).all()
    scores = classification.class_scores(true, guessed, list("abcde"))
    expected = sklearn.metrics.precision_recall_fscore_support(true, guessed, labels=range(5), zero_division=0)
    for mine, theirs in zip(zip(*(score[1:] for score in scores), strict=True), expected, strict=True):
        assert np.allclose(mine, theirs, atol=1e-15)


def test_the_most_frequent_mistakes() -> None:
    true, guessed = np.repeat([0, 0, 1, 1, 2, 2], [9, 1, 4, 9, 1, 9]), np.repeat([0, 1, 0, 1, 1, 2], [9, 1, 4, 9, 1, 9])
    assert classification.confusions(true, guessed, "abc", 2) == [("b", "a", 4), ("a", "b", 1)]
    assert classification.confusions(true, true, "abc", 5) == []


def test_calibration_of_honest_probabilities_is_nearly_perfect() -> None:
    draw = np.random.default_rng(2)
    chance = draw.random(20_000)
    honest = classification.calibration(chance, draw.random(20_000) < chance)
    assert honest.error < 0.02
    assert len(honest.rows) == 10
    boastful = classification.calibration(np.ones(10), np.array([True] * 7 + [False] * 3))
    assert boastful.error == pytest.approx(0.3)
    assert (boastful.stated, boastful.observed) == (1.0, pytest.approx(0.7))


@pytest.mark.parametrize(
    ("column", "kind", "distinct"),
    [
        ([1.0, 1.0], "constant", 1),
        ([0.0, 1.0, 1.0], "two values", 2),
        ([math.nan, math.nan], "empty", 0),
        ([1e308, -1e308, 0.0], "number", 3),
    ],
)
def test_columns_of_every_kind(column: list[float], kind: str, distinct: int) -> None:
    found = data_card.describe("x", np.array(column))
    assert (found.kind, found.distinct) == (kind, distinct)


def test_long_tables_are_looked_at_in_part() -> None:
    table = Table(np.zeros((250_000, 2)), np.zeros((250_000, 1)), "regression", ("a", "b"), ("y",))
    assert data_card.described_rows(table) == 83_334
    assert [column.name for column in data_card.columns(table, 1)] == ["a"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.confusion_map(np.eye(300, dtype=np.int64), "test"),
        lambda: figures.predicted_versus_true(np.arange(5e4), np.arange(5e4), "cost $ of <it> $"),
        lambda: figures.predicted_versus_true(np.ones(1), np.ones(1), "日本"),
        lambda: figures.value_by_epoch([{"epoch": k, "x": 10.0**-k} for k in range(9)], "x", "x", logarithmic=True),
        lambda: figures.parts_by_epoch([{"epoch": k, "validation_r2": -1.0 * k} for k in range(5000)], "r2", 7),
    ],
    ids=["many classes", "many rows", "one row", "decades", "many epochs"],
)
def test_figures_of_odd_runs_are_whole_and_small(draw: Callable[[], str]) -> None:
    drawing = draw()
    Page(drawing)
    assert len(drawing) < 300_000
    assert drawing == draw()  # to the bit


def test_the_lines_of_the_parts_go_through_their_values() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    history = [{"epoch": k, "train_loss": 3.0 - k, "validation_loss": 4.0 - k} for k in (1, 2)]
    figures._draw_parts(axes, history, "loss", 2)
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn["train"] == ([1, 2], [2.0, 1.0]) and drawn["validation"] == ([1, 2], [3.0, 2.0])


def test_the_table_of_many_classes_shows_those_that_are_found_worst() -> None:
    scores = [classification.ClassScore(f"class {k}", 0.5, 0.5, k / 100, 3) for k in range(60)]
    text = report.class_table(scores)
    assert text.splitlines()[1].split()[:2] == ["class", "0"]
    assert text.splitlines()[-1] == "(40 more classes, with F1 of 0.1900 and above)"
    assert max(map(len, text.splitlines())) <= 80


def test_text_is_shortened_to_its_width_and_printable() -> None:
    assert report.short("abc", 3) == "abc"
    assert len(report.short("x" * 50, 20)) == 20
    assert report.short("a\x1b[31mred\n", 20) == "a\\x1b[31mred\\n"
