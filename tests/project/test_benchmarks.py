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
    assert "processor:" in printed and "PyTorch/nanotorch" in printed
    for model in ("4-16-3 batch 16", "64-128-64-10 batch 64", "64-256-256-8 batch 256", "784-1024-1024-10 batch 512"):
        assert f"\n{model} " in printed
    assert len(results) == 4
    expected = {"model", "nanotorch", "compiled", "table", "handwritten", "fused by hand"}
    expected |= {"PyTorch"} if find_spec("torch") else set()
    assert all(set(result) == expected for result in results)


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


def measured(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}-cpu.json").read_text())["results"]
    return found


def test_every_benchmark_has_one_current_file() -> None:
    names = {path.stem for path in RESULTS.parent.glob("*.py")} - {"__init__", "common", "fused_step", "handwritten"}
    assert {path.name for path in RESULTS.iterdir()} == {f"{name}-cpu.json" for name in names}


def rows_of_table(page: str, header: str) -> list[list[str]]:
    text = (ROOT / page).read_text()
    table = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_readme_quotes_what_was_measured() -> None:
    table = rows_of_table("README.md", "| MLP | eager | compiled | compiled, table |")
    results = measured("train_step")
    assert [row[0].replace(",", "") for row in table] == [result["model"] for result in results]
    for (_, *ratios), result in zip(table, results, strict=True):
        medians = [
            result[name]["median_us"] for name in ("nanotorch", "compiled", "table", "handwritten", "fused by hand")
        ]
        assert ratios == [f"{result['PyTorch']['median_us'] / median:.3g}" for median in medians]


def test_the_page_of_the_estimators_quotes_what_was_measured() -> None:
    table = rows_of_table("docs/estimators.md", "| data, hidden layers, batch |")
    for (_, longer, *scores), result in zip(table, measured("estimators"), strict=True):
        ours, theirs = (result["figures"][name] for name in ("nanotorch", "scikit-learn"))
        pairs = zip(theirs["clock"], ours["clock"], strict=True)
        ratios = min(theirs["clock"]) / min(ours["clock"]), np.median([a / b for a, b in pairs])
        assert longer == ", ".join(f"{ratio:.1f}" for ratio in ratios)
        assert scores == [f"{np.mean(figures['score']):.3f}" for figures in (ours, theirs)]


def tables_of_speed() -> list[str]:
    """The tables of docs/speed.md, from the files of results."""
    results = measured("train_step")
    names = [name for name in results[0] if name != "model"]
    step = [f"| MLP | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for result in results:
        cells = [f"{result[name]['median_us']:,.0f}" if name in result else "-" for name in names]
        step.append(f"| {result['model']} | {' | '.join(cells)} |")
    fits = ["| data, hidden layers, batch | nanotorch | scikit-learn | ratio |", "|---|---:|---:|---:|"]
    for result in measured("estimators"):
        ours, theirs = (min(result["figures"][name]["clock"]) for name in ("nanotorch", "scikit-learn"))
        fits.append(f"| {result['case']} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} |")
    layers = ["| layer, units, steps | nanotorch | PyTorch | ratio |", "|---|---:|---:|---:|"]
    for result in measured("recurrent"):
        ours, theirs = (result["ms"][name][0] for name in ("rows", "PyTorch"))
        if result["layer"] == "LSTM" and result["what"] == "training step":
            case = f"LSTM, {result['hidden']}, {result['steps']}"
            layers.append(f"| {case} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |")
    return ["\n".join(table) for table in (step, fits, layers)]


def test_the_page_of_speed_shows_what_was_measured() -> None:
    page = (ROOT / "docs" / "speed.md").read_text()
    for table in tables_of_speed():
        assert table in page, f"docs/speed.md lacks\n{table}"
    for name in ("train_step", "estimators", "recurrent"):
        date = json.loads((RESULTS / f"{name}-cpu.json").read_text())["machine"]["date"][:10]
        assert date in page, f"docs/speed.md does not say that {name} was measured on {date}"


def test_handwritten_step_equals_its_own_numerical_gradient() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.handwritten import HandwrittenStep
    finally:
        sys.path.remove(str(ROOT))
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
    from benchmarks.train_step import handwritten_step, problem

    step, _ = handwritten_step(*problem((4, 16, 3), 16), "cpu")
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
