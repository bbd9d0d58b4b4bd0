"""The benchmarks run and print their rows; how fast anything is, is never tested."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import figures, pages, tables
from benchmarks.__main__ import names
from benchmarks.quality.tables import SOURCES, TUNING
from benchmarks.steps.handwritten import HandwrittenStep
from benchmarks.steps.problem import Problem

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def run(name: str, json_file: Path) -> tuple[str, list[dict[str, object]]]:
    command = [sys.executable, "-W", "error", "-m", f"benchmarks.{name}", "--quick", "--json", str(json_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(json_file.read_text())
    assert {"date", "processor", "threads", "system", "numpy"} <= set(written["machine"])
    return done.stdout, written["results"]


@pytest.mark.slow
def test_train_step(tmp_path: Path) -> None:
    printed, results = run("train_step", tmp_path / "results" / "train_step.json")
    assert "processor:" in printed and "PyTorch/it" in printed and "\n4-16-3 batch 16  nanotorch " in printed
    assert [result["model"] for result in results] == ["4-16-3 batch 16", "4-32-16-4 batch 10000"]
    expected = {"nanotorch", "compiled", "table", "handwritten", "fused by hand"}
    expected |= {"PyTorch"} if find_spec("torch") else set()
    expected |= {"jax", "jax.jit", "jax.lax.scan"} if find_spec("jax") else set()
    assert [set(result["us"]) for result in results] == [expected, expected - {"handwritten", "fused by hand"}]
    assert ("without jax: JAX is not installed" in printed) is (find_spec("jax") is None)


@pytest.mark.slow
def test_scaling_with_size(tmp_path: Path) -> None:
    printed, results = run("scaling_with_size", tmp_path / "scaling.json")
    assert "GFLOP/s at best" in printed and "without torch.compile: compiles for seconds" in printed
    assert [(result["width"], result["depth"], result["batch"]) for result in results] == [
        (4, 2, 64), (64, 4, 64), (64, 2, 4),
    ]  # fmt: skip
    assert ["fused by hand" in result["us"] for result in results] == [True, False, True]


@pytest.mark.slow
def test_op_overhead(tmp_path: Path) -> None:
    printed, results = run("op_overhead", tmp_path / "op_overhead.json")
    for row in ("forward", "backward", "forward under no_grad", "forward, collector on", "memory, bytes"):
        assert f"\n{row} " in printed
    assert {result["library"] for result in results} >= {"nanotorch", "NumPy"}


@pytest.mark.slow
def test_recurrent(tmp_path: Path) -> None:
    printed, results = run("recurrent", tmp_path / "recurrent.json")
    assert "\nLSTM 16, 20 steps, training step " in printed and "loop of ops/rows" in printed
    assert [result["layer"] for result in results] == ["RNN", "RNN", "LSTM", "LSTM", "GRU", "GRU"]


@pytest.mark.slow
def test_search(tmp_path: Path) -> None:
    printed, results = run("search", tmp_path / "search.json")
    assert "\nbreast_cancer (32,) batch 32 " in printed
    assert [set(result["figures"]) for result in results] == [{"nanotorch", "scikit-learn"}] * 2


@pytest.mark.slow
def test_table_fit(tmp_path: Path) -> None:
    printed, results = run("table_fit", tmp_path / "table_fit.json")
    assert "times as long" in printed and "\nwine " in printed
    assert [(result["table"], set(result["seconds"])) for result in results] == [
        (table, {"nanotorch", "scikit-learn"}) for table in ("iris", "wine")
    ]  # fmt: skip


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    printed, results = run("scaling", tmp_path / "scaling.json")
    assert "\n256 rows, nanotorch, 1 rank " in printed
    assert all(result["ms"]["steps"] > 0 for result in results)  # type: ignore[index]
    assert any(result["ranks"] > 1 and set(result["ms"]) > {"steps"} for result in results)  # type: ignore[call-overload]


@pytest.mark.slow
def test_trainer_step(tmp_path: Path) -> None:
    printed, [result] = run("trainer_step", tmp_path / "trainer_step.json")
    assert "\n4-16-3  window step " in printed
    assert set(result["us"]) == {"step", "window step", "measured", "clipped", "fit"}  # type: ignore[call-overload]


@pytest.mark.slow
def test_job(tmp_path: Path) -> None:
    printed, [result] = run("job", tmp_path / "job.json")
    assert "\nbreast_cancer: nanotorch.train " in printed
    expected = {"nanotorch.train", "scikit-learn script"} | ({"PyTorch script"} if find_spec("torch") else set())
    assert set(result["figures"]) == expected


@pytest.mark.slow
def test_sweeps(tmp_path: Path) -> None:
    printed, [result] = run("sweeps", tmp_path / "sweeps.json")
    assert "\n4-16-3 batch 16  numpy 64 " in printed
    expected = {"nanotorch"} | {f"{backend} {count}" for backend in ("numpy", "table") for count in (1, 8, 64)}
    expected |= {f"jax.vmap {count}" for count in (8, 64)} if find_spec("jax") else set()
    assert isinstance(result["us"], dict) and set(result["us"]) == expected


def measured(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}-cpu.json").read_text())["results"]
    return found


def test_every_benchmark_has_one_current_file() -> None:
    grown = {"tables.jsonl"}  # line by line, as each fit takes long
    assert {path.name for path in RESULTS.iterdir()} == {f"{name}-cpu.json" for name in names()} | grown


def rows_of_table(page: str, block: str) -> list[list[str]]:
    text = (ROOT / page).read_text()
    table = text[text.index(f"<!-- results: {block} -->") :].split("\n\n")[0].splitlines()[3:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.name)
def test_pages_say_what_the_results_say(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- results: ") == text.count("<!-- end -->") == len(pages.MARKED.findall(text))
    assert pages.filled(text) == text, "python -m benchmarks.pages brings it up to date"


def test_every_block_is_on_a_page() -> None:
    shown = {block for page in pages.pages() for _, block, _ in pages.MARKED.findall(page.read_text())}
    assert shown == set(pages.BLOCKS)


def test_the_readme_quotes_what_was_measured() -> None:
    table = rows_of_table("README.md", "ratios of train_step")
    results = measured("train_step")
    assert [row[0].replace(",", "") for row in table] == [result["model"] for result in results]
    for (_, plain, *_), result in zip(table, results, strict=True):
        assert plain == f"{result['us']['PyTorch']['median'] / result['us']['nanotorch']['median']:.3g}"


def test_the_page_of_the_estimators_quotes_what_was_measured() -> None:
    table = rows_of_table("docs/estimators.md", "scores of estimators")
    for (case, longer, *scores), result in zip(table, measured("estimators"), strict=True):
        ours, theirs = (result["figures"][name] for name in ("nanotorch", "scikit-learn"))
        pairs = zip(theirs["processor"], ours["processor"], strict=True)
        ratios = min(theirs["processor"]) / min(ours["processor"]), np.median([a / b for a, b in pairs])
        assert case == result["case"] and longer == ", ".join(f"{ratio:.1f}" for ratio in ratios)
        assert scores == [f"{np.mean(figures['score']):.3f}" for figures in (ours, theirs)]


@pytest.mark.parametrize("name", ["train_step", "scaling_with_size"])
def test_figures_are_those_of_the_results(name: str, tmp_path: Path) -> None:
    results, machine = pages.measured(name)
    getattr(figures, name)(results, machine, tmp_path / "drawn.svg")
    for drawn in ((tmp_path / "drawn.svg").read_text(), (ROOT / "docs" / f"{name}.svg").read_text()):
        assert machine["date"] in drawn and "prefers-color-scheme" in drawn and figures.INK not in drawn
        assert all(f">{contestant}<" in drawn for result in results for contestant in result["us"])


def test_handwritten_step_equals_its_own_numerical_gradient() -> None:
    rng = np.random.default_rng(0)
    parameters = [rng.standard_normal(shape) for shape in ((5, 4), (5,), (3, 5), (3,))]
    step = HandwrittenStep(np, parameters, rng.standard_normal((6, 4)), rng.integers(0, 3, 6))
    step.forward()
    step.backward()
    for position in range(step.flat.size):
        losses = []
        for change in (1e-6, -1e-6):
            step.flat[position] += change
            losses.append(step.forward())
            step.flat[position] -= change
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(step.grads[position], abs=1e-7)


def test_handwritten_step_learns() -> None:
    step = HandwrittenStep(np, *Problem((4, 16, 3), 16).draw())
    losses = [step() for _ in range(200)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_forward_mode(tmp_path: Path) -> None:
    printed, results = run("forward_mode", tmp_path / "forward_mode.json")
    assert "jvp/dual" in printed
    assert [set(result) for result in results] == [{"width", "forward", "vjp", "jvp", "dual numbers"}]


@pytest.mark.slow
def test_checkpoint_memory(tmp_path: Path) -> None:
    printed, results = run("checkpoint_memory", tmp_path / "checkpoint_memory.json")
    assert "MB recomputed" in printed
    assert [set(result) for result in results] == [{"layers", "peak_mb", "ms"}]


@pytest.mark.slow
def test_accumulation_memory(tmp_path: Path) -> None:
    printed, results = run("accumulation_memory", tmp_path / "accumulation_memory.json")
    assert [result["pieces"] for result in results] == [1, 2, 4] and "\npieces " in printed


@pytest.mark.slow
def test_estimators(tmp_path: Path) -> None:
    printed, results = run("estimators", tmp_path / "estimators.json")
    assert "scikit-learn/nanotorch" in printed and "\ndigits (100,) batch 200 " in printed
    assert len(results) == 6
    assert all({"nanotorch", "scikit-learn"} <= set(result["figures"]) for result in results)  # type: ignore[call-overload]


def test_tables_are_reported_by_rank_and_gap() -> None:
    scores = {"nanotorch": (0.8, 0.9), "linear": (0.8, 0.7), "forest": (0.6, 0.8)}
    lines = [
        {"table": table, "seed": seed, "contestant": name, "score": given[number] + 0.01 * seed, "seconds": 1.0}
        | ({"log_loss": 1.0 - given[0]} if table == "one" else {})
        for name, given in scores.items()
        for number, table in enumerate(("one", "two"))
        for seed in (0, 1)
    ]
    printed = tables.report([*lines, {**lines[0], "table": "fitted by one alone"}]).splitlines()
    assert printed[0] == "2 tables, 2 to 2 seeds"
    assert [line.split()[:2] for line in printed[3:6]] == [
        ["nanotorch", "1.25"],
        ["linear", "2.25"],
        ["forest", "2.50"],
    ]
    assert [line.split()[5] for line in printed[3:6]] == ["50%", "25%", "0%"]
    assert "-0.1000 (-0.2000 to +0.0000)" in printed[4]
    assert [line.split()[-3:] for line in printed[3:6]] == [
        ["0.2000", "1.50", "1.00"], ["0.2000", "1.50", "1.00"], ["0.4000", "3.00", "1.00"],
    ]  # fmt: skip
    assert [line.split() for line in printed[8:10]] == [
        ["one", "0.6050", "0.8050", "0.8050"], ["two", "0.8050", "0.7050", "0.9050"],
    ]  # fmt: skip
    one = tables.report([line for line in lines if line["table"] == "two"]).splitlines()
    assert [line.split()[-3:] for line in one[3:6]] == [["-", "-", "1.00"]] * 3
    assert tables.report([]).startswith("no table")


def test_half_of_the_tables_are_kept_from_tuning() -> None:
    assert len(SOURCES) >= 25 and len(TUNING) == len(SOURCES) // 2 and set(TUNING) < set(SOURCES)
