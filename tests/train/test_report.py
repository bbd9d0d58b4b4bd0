"""The page that every run leaves: complete, true to summary.json, escaped, self-contained;
and the tables in the terminal.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import sklearn.metrics

from html_page import Page
from nanotorch.train.cli.report import main as report_command
from nanotorch.train.config import loading as config
from nanotorch.train.data.table import Table
from nanotorch.train.report import chart, data_card, figures, run_page
from nanotorch.train.report.markup import stylesheet
from nanotorch.train.report.sections import facts
from nanotorch.train.run.open_run import RunResult
from nanotorch.train.run.run import run
from nanotorch.train.score import classification
from nanotorch.train.terminal import text_report as report

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
    assert sections == ["scores", "mistakes", "columns", "data", "model", "training", "config", "environment"]
    links = re.search("<nav.*?</nav>", html(result), re.DOTALL)
    assert links and [each["href"] for each in Page(links[0]).all("a")] == [f"#{name}" for name in sections]


def test_its_first_screen_says_what_is_odd_about_the_data(own: RunResult, numbers: RunResult) -> None:
    header, rest = html(own).split("</header>")
    (note,) = re.findall(r'<p class="note">Look at the data: (.*?) \(<a href="#data">Data</a>\)', header)
    what = note.partition(", and ")[0]
    odd = re.search(r"<h3>What the data hold</h3>\n<p class=\"note\">(.*?)\.</p>", rest)
    assert odd and odd[1].startswith(what)
    assert "Look at the data" not in html(numbers) and "What the data hold" not in html(numbers)


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
    style, drawn = source.split("</style>")
    assert not re.findall(r"#[0-9a-f]{6}\b|var\(", drawn)
    for name in set(re.findall(r"var\(--([a-z]+)\)", style)) - {"share"}:
        assert len(re.findall(rf"--{name}:", style)) == 3, name  # light, dark and paper


@pytest.mark.parametrize("dark", [False, True])
def test_letters_and_lines_can_be_told_from_what_is_behind_them(dark: bool) -> None:
    known = chart.colours(dark)
    for name in ("ink", "quiet", *chart.SERIES):
        for behind in ("card", "page"):
            assert contrast(rgb(known[name]), rgb(known[behind])) >= 4.5, (name, behind)


MIXED = (
    r"color-mix\(in srgb, var\(--(\w+)\) "
    r"(?:(\d+)%|calc\((\d+)% \+ var\(--share\) \* (\d+)%\)), transparent\)"
)


@pytest.mark.parametrize("dark", [False, True])
def test_letters_can_be_told_from_every_background(dark: bool) -> None:
    """From those that are mixed of two colours too: rows under the pointer, cells of a confusion matrix."""
    known, style = chart.colours(dark), stylesheet("colours", "chart", "page")
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL))
    behind: dict[str, list[tuple[float, float, float]]] = {}
    letters = set()
    for selector, rule in rules:
        letters |= set(re.findall(r"(?<![-\w])color: ([^;]+)", rule))
        for value in re.findall(r"background: ([^;]+)", rule):
            if plain := re.fullmatch(r"var\(--(\w+)\)", value.strip()):
                behind[selector.strip()] = [rgb(known[plain[1]])]
                continue
            mixed = re.fullmatch(MIXED, value.strip())
            assert mixed is not None, value
            name, alone, least, more = mixed.groups()
            shares = [int(alone)] if alone else [int(least) + int(more) * k / 10 for k in range(11)]
            pairs = list(zip(rgb(known[name]), rgb(known["card"]), strict=True))
            behind[selector.strip()] = [
                tuple(share / 100 * one + (1 - share / 100) * other for one, other in pairs) for share in shares
            ]
    assert letters - {f"var(--{name})" for name in chart.SERIES} == {"var(--ink)", "var(--quiet)"}
    assert {".confusion td.right", ".confusion td.wrong", "tbody tr:hover > *", "body", "section"} <= set(behind)
    for selector, colours in behind.items():
        names = ["ink"] if selector.startswith(".confusion td") else ["ink", "quiet", "train"]
        for name in names:
            least = min(contrast(rgb(known[name]), colour) for colour in colours)
            assert least >= 4.5, (selector, name, least)


def rgb(colour: str) -> tuple[float, float, float]:
    """Return the parts of a colour such as "#1c2330", from 0 to 255."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Return the contrast of two colours as the Web Content Accessibility Guidelines 2 define it."""

    def luminance(colour: tuple[float, float, float]) -> float:
        parts = [part / 255 for part in colour]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


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
    assert facts._command(words) == typed


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


def test_a_page_that_cannot_be_written_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_page, "page", full)
    result = run(config.loads(NUMBERS.format(output=tmp_path)), progress_bar=False)
    assert "report.html cannot be written (No space left on device)" in capsys.readouterr().err
    assert (result.directory / "summary.json").is_file()


# ------------------------------------------------------------ anew


def test_the_page_is_made_anew_to_the_byte_and_the_curve_as_png(
    result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {name: (result.directory / name).read_bytes() for name in ("report.html", "learning_curve.svg")}
    for name in written:
        (result.directory / name).unlink()
    assert report_command([str(result.directory), "--png"]) == 0
    said = capsys.readouterr().err
    for name, content in written.items():
        assert (result.directory / name).read_bytes() == content, name
        assert f"{result.directory / name} is written" in said
    assert (result.directory / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_has_stopped_is_judged_by_its_validation_part(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = shutil.copytree(result.directory, tmp_path / "stopped", symlinks=True)
    for name in ("summary.json", "report.html"):
        (stopped / name).unlink()
    assert report_command([str(stopped)]) == 0
    source = (stopped / "report.html").read_text(encoding="utf-8")
    text = "".join(Page(source).text)
    assert "Its test part is looked at when it is complete" in text and "validation loss" in text
    scores = summary(result)["scores"]
    assert {*scores["train"].values(), *scores["validation"].values()} <= values(source)
    assert scores["test"]["loss"] not in values(source)
    assert not (stopped / "summary.json").exists()
    (stopped / "metrics.jsonl").write_text("")
    assert report_command([str(stopped)]) == 2
    assert "has no page yet: no epoch of it is complete" in capsys.readouterr().err


def test_a_page_says_that_epochs_are_lost(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(result.directory, tmp_path / "damaged", symlinks=True)
    first, *others = (damaged / "metrics.jsonl").read_text().splitlines(keepends=True)
    (damaged / "metrics.jsonl").write_text("".join([first, '{"epoch": 2}\n', *others]))
    assert report_command([str(damaged)]) == 0
    assert "metrics.jsonl, line 2: step is missing; the epochs before that are shown" in capsys.readouterr().err
    (damaged / "metrics.jsonl").write_text('{"epoch": 1}\n')
    assert report_command([str(damaged)]) == 2
    assert "metrics.jsonl, line 1: step is missing" in capsys.readouterr().err


def test_without_matplotlib_a_png_says_what_to_install(
    numbers: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report_command([str(numbers.directory), "--png"]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err


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


def test_bars_of_a_column_are_those_of_a_histogram_from_its_least_to_its_most() -> None:
    values = np.random.default_rng(0).normal(50, 3, 400)
    counts, _ = np.histogram(values, data_card.BARS)
    assert data_card.describe("x", np.append(values, math.nan)).bars == pytest.approx(counts / counts.max())


def test_long_tables_are_looked_at_in_part() -> None:
    table = Table(np.zeros((250_000, 2)), np.zeros((250_000, 1)), "regression", ("a", "b"), ("y",))
    assert data_card.described_rows(table) == 83_334
    assert [column.name for column in data_card.columns(table, 1)] == ["a"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.confusion_map(np.eye(300, dtype=np.int64), "test", [EVIL[0]] * 300),
        lambda: figures.predicted_versus_true(np.arange(5e4), np.arange(5e4), "cost $ of <it> $"),
        lambda: figures.predicted_versus_true(np.ones(1), np.ones(1), "日本"),
        lambda: figures.value_by_epoch([{"epoch": k, "x": 10.0**-k} for k in range(9)], "x", "x", logarithmic=True),
        lambda: figures.parts_by_epoch([{"epoch": k, "validation_r2": -1.0 * k} for k in range(5000)], "r2", 7),
    ],
    ids=["many classes", "many rows", "one row", "decades", "many epochs"],
)
def test_figures_of_odd_runs_are_whole_and_small(draw: Callable[[], str | chart.Chart]) -> None:
    drawing, again = (found if isinstance(found, str) else chart.inline(found) for found in (draw(), draw()))
    Page(drawing)
    assert len(drawing) < 300_000
    assert drawing == again


def points(drawing: str) -> list[list[tuple[float, float]]]:
    """Return the corners of the lines of a drawing."""
    lines = re.findall(r'<polyline points="([^"]+)"', drawing)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def test_lines_go_through_their_values() -> None:
    """Places on the page are a linear function of the values, upwards and to the right."""
    history = [{"epoch": k, "train_loss": 3.0 - k, "validation_loss": 4.5 - k} for k in (1, 2, 4)]
    train, validation = points(chart.inline(figures.parts_by_epoch(history, "loss", 2)))
    assert [x for x, _ in train] == [x for x, _ in validation]
    a, b, c = train
    assert a[0] < b[0] < c[0] and a[1] < b[1] < c[1]
    assert (c[0] - b[0]) / (b[0] - a[0]) == pytest.approx(2, abs=0.01)
    assert (c[1] - b[1]) / (b[1] - a[1]) == pytest.approx(2, abs=0.01)
    assert (train[0][1] - validation[0][1]) / (b[1] - a[1]) == pytest.approx(1.5, abs=0.01)


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    history = [{"epoch": k, "x": 10.0**-k} for k in range(4)]
    (line,) = points(chart.inline(figures.value_by_epoch(history, "x", "x", logarithmic=True)))
    assert np.diff([y for _, y in line]) == pytest.approx([line[1][1] - line[0][1]] * 3, abs=0.15)


def test_values_that_are_no_numbers_leave_a_gap() -> None:
    drawn = chart.Chart("y", "x", "", [chart.Line("", range(5), [1.0, 2.0, math.nan, 3.0, 4.0])])
    assert [len(line) for line in points(chart.inline(drawn))] == [2, 2]


def test_of_very_many_points_the_extremes_are_drawn() -> None:
    values = np.zeros(100_000)
    values[12_345], values[67_890] = 5.0, -5.0
    (line,) = points(chart.inline(chart.Chart("y", "x", "", [chart.Line("", range(100_000), values)])))
    heights = [y for _, y in line]
    assert len(line) <= 2 * chart.MOST_DRAWN + 3
    assert min(heights) < np.median(heights) - 50 and max(heights) > np.median(heights) + 50


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.0, 7e5), (0.99991, 0.99993), (1e-12, 1.3e-12), (-5.0, -4.0), (1e6, 1e6 + 2)]
)
def test_axes_have_a_few_round_numbers_that_differ(low: float, high: float) -> None:
    found = chart.ticks(low, high, log=False)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in found)
    assert np.diff(found) == pytest.approx([found[1] - found[0]] * (len(found) - 1))
    drawn = chart.inline(chart.Chart("y", "x", "", [chart.Line("", [0, 1], [low, high])]))
    labels = re.findall(r'text-anchor="end">([^<]+)<', drawn)
    assert len(set(labels)) == len(labels) >= 2


def test_a_drawing_of_its_own_is_xml_with_the_colours_themselves() -> None:
    history = [{"epoch": k, "train_loss": 3.0 - k, "validation_loss": 4.5 - k} for k in (1, 2)]
    source = chart.alone([figures.parts_by_epoch(history, "loss", 2)] * 2, "a <b> \x1b[31m\x00 $x$", "lead")
    root = ElementTree.fromstring(source)
    assert "var(" not in source and "prefers-color-scheme: dark" in source
    assert r"a <b> \x1b[31m\x00 $x$" in "".join(root.itertext())
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|<image|@import", source)


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
