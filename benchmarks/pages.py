"""What the pages show of the results: the tables between their marks, and the figures.

    python -m benchmarks.pages

A page says `<!-- results: train_step -->` where the block of that name begins and `<!-- end -->` where it ends. What is
between is written from `benchmarks/results/`, and a test holds every page to it; the figures in `docs/` are drawn anew.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.quality.tables import TUNING

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- results: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured(name: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the results of a benchmark and the machine they were measured on."""
    written = json.loads((RESULTS / f"{name}-cpu.json").read_text())
    return written["results"], written["machine"]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- |", "|---|").replace(" ---: |", "---:|")
    )


def _when(machine: dict[str, str]) -> str:
    clock = ", time of the processor" if machine.get("clock") == "of the processor" else ""
    load = f", load of the machine {machine['load']}" if "load" in machine else ""
    absent = [f"{name[8:]} ({why})" for name, why in machine.items() if name.startswith("without ")]
    left_out = f" Left out: {'; '.join(absent)}." if absent else ""
    return textwrap.fill(f"Measured on {machine['date'][:10]}, {machine['processor']}{load}{clock}.{left_out}", 120)


def _significant(value: float) -> str:
    """Three digits, and no fewer before the point than there are."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def train_step() -> str:
    """Microseconds of every contestant."""
    results, machine = measured("train_step")
    names = list(dict.fromkeys(name for result in results for name in result["us"]))
    rows = [
        [name, *(_significant(result["us"][name]["median"]) if name in result["us"] else "-" for result in results)]
        for name in names
    ]
    return f"{_table(['', *(result['model'] for result in results)], rows)}\n\n{_when(machine)}"


def ratios_of_train_step() -> str:
    """How many times faster than PyTorch eager each one is."""
    results, _ = measured("train_step")
    names = {
        "nanotorch": "eager", "compiled": "compiled", "table": "compiled, table", "torch.compile": "torch.compile",
        "jax.jit": "jax.jit", "jax.lax.scan": "jax.lax.scan", "handwritten": "NumPy by hand",
        "fused by hand": "numba by hand",
    }  # fmt: skip
    rows = []
    for result in results:
        us = {name: found["median"] for name, found in result["us"].items()}
        cells = [f"{us['PyTorch'] / us[name]:.3g}" if name in us else "-" for name in names]
        rows.append([result["model"].replace(" batch", ", batch"), *cells])
    return _table(["MLP", *names.values()], rows)


def scaling_with_size() -> str:
    """Microseconds at every other size of each axis, with the two limits."""
    results, machine = measured("scaling_with_size")
    names = list(dict.fromkeys(name for result in results for name in result["us"]))
    peak = max(result["gflops"] for result in results)
    rows = []
    for result in results:
        size = result[result["axis"]]
        if size.bit_length() % 2:
            times = [_significant(result["us"][name]["median"]) if name in result["us"] else "-" for name in names]
            limits = [_significant(result["products_us"]), _significant(result["flop"] / peak / 1e3)]
            rows.append([f"{result['axis']} {size}", *times, *limits])
    return f"{_table(['', *names, 'products', 'limit'], rows)}\n\n{_when(machine)}"


def sweeps() -> str:
    """Microseconds per step and model, of one model and of several at once."""
    results, machine = measured("sweeps")
    names = list(results[0]["us"])
    rows = [
        [name, *(_significant(result["us"][name]["median"]) if name in result["us"] else "-" for result in results)]
        for name in names
    ]
    return f"{_table(['program, models', *(result['model'] for result in results)], rows)}\n\n{_when(machine)}"


def trainer_step() -> str:
    """Least microseconds of a step as a user writes it, and of the trainer's loop."""
    results, machine = measured("trainer_step")
    rows = []
    for result in results:
        least = {name: us["min"] for name, us in result["us"].items()}
        rows.append([result["model"], *(_significant(us) for us in least.values())])
    return f"{_table(['MLP', *results[0]['us']], rows)}\n\n{_when(machine)}"


def estimators() -> str:
    """Least seconds of the processor of fits."""
    results, machine = measured("estimators")
    rows = []
    for result in results:
        ours, theirs = (min(result["figures"][name]["processor"]) for name in ("nanotorch", "scikit-learn"))
        rows.append([result["case"], f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}"])
    header = ["data, hidden layers, batch", "nanotorch", "scikit-learn", "ratio"]
    return f"{_table(header, rows)}\n\n{_when(machine)}"


def scores_of_estimators() -> str:
    """Ratios of the least times of the processor, medians of the ratios by round, and scores on rows not seen."""
    results, _ = measured("estimators")
    rows = []
    for result in results:
        ours, theirs = (result["figures"][name] for name in ("nanotorch", "scikit-learn"))
        pairs = [a / b for a, b in zip(theirs["processor"], ours["processor"], strict=True)]
        longer = f"{min(theirs['processor']) / min(ours['processor']):.1f}, {np.median(pairs):.1f}"
        rows.append([result["case"], longer, *(f"{np.mean(found['score']):.3f}" for found in (ours, theirs))])
    return _table(["data, hidden layers, batch", "longer: least, median", "nanotorch", "scikit-learn"], rows)


def job() -> str:
    """Least seconds of whole jobs, of the wall and of the processor, and their megabytes."""
    results, machine = measured("job")
    rows = []
    for result in results:
        ours = result["figures"]["nanotorch.train"]
        for name, found in result["figures"].items():
            cells = [f"{min(found[key]):.1f}" for key in ("wall", "processor")]
            ratios = [f"{min(found[key]) / min(ours[key]):.1f}" for key in ("wall", "processor")]
            rows.append([f"{result['case']}, {name}", *cells, *ratios, f"{max(found['mb']):.0f}"])
    header = ["job", "seconds", "of the processor", "times ours", "of the processor", "MB"]
    return f"{_table(header, rows)}\n\n{_when(machine)}"


def search() -> str:
    """Least seconds of searches by the clock, and the best accuracies."""
    results, machine = measured("search")
    rows = []
    for result in results:
        ours, theirs = (result["figures"][name] for name in ("nanotorch", "scikit-learn"))
        times = [f"{min(found['seconds']):.1f}" for found in (ours, theirs)]
        best = [f"{found['best'][0]:.3f}" for found in (ours, theirs)]
        rows.append([result["case"], str(result["epochs"]), *times, f"{result['ratios']['minima']:.1f}", *best])
    header = ["data, hidden layer, batch", "epochs", "nanotorch", "scikit-learn", "ratio", "best", "scikit-learn's"]
    return f"{_table(header, rows)}\n\n{_when(machine)}"


def recurrent() -> str:
    """Milliseconds of a step of training of LSTMs."""
    results, machine = measured("recurrent")
    rows = []
    for result in results:
        if result["layer"] == "LSTM" and result["what"] == "training step":
            ours, theirs = (result["ms"][name][0] for name in ("rows", "PyTorch"))
            case = f"LSTM, {result['hidden']}, {result['steps']}"
            rows.append([case, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}"])
    return f"{_table(['layer, units, steps', 'nanotorch', 'PyTorch', 'ratio'], rows)}\n\n{_when(machine)}"


def ranks_of_tables() -> str:
    """How well each contestant predicts the tables that recipes were not tuned on, and some contestants alone."""
    lines = [json.loads(line) for line in (RESULTS / "tables.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["table"] not in TUNING]
    four = ("nanotorch", "linear", "scikit-learn MLP", "HistGradientBoosting")
    theirs = tuple(sorted({line["contestant"] for line in kept if line["contestant"].endswith("of pytabkit")}))

    def of(takes: Callable[[str], bool]) -> tables.Compared:
        found = tables.compared([line for line in kept if takes(line["contestant"])])
        assert found is not None
        return found

    def told(names: Sequence[str]) -> str:
        found = of(lambda name: name in names)
        seeds = sorted(set(found.seeds.values()))
        counted = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
        ranks = ", ".join(f"{name} {rank.split()[0]}" for name, rank, *_ in found.summary())
        return f"{len(found.seeds)} tables, {counted} seeds: {ranks}."

    header = ["", "rank (95%)", "better", "gap (95%)", "log-loss", "rank", "median s"]
    every = of(lambda name: name not in theirs).summary()
    said = f"Mean ranks of four alone, {told(four)} Of six, {told([*four, *theirs])}"
    return f"{_table(header, every)}\n\n{textwrap.fill(said, 120)}"


def table_fit() -> str:
    """How many times as long as scikit-learn's fit that of the preset takes, by the number of rows."""
    results, machine = measured("table_fit")
    rows, least = [], 0
    for most in (300, 1000, 5000, 10_000):
        of = [result for result in results if least < result["rows"] <= most]
        least = most
        if of:
            ratios = [result["ratios"]["minima"] for result in of]
            seconds = [min(result["seconds"]["nanotorch"]) for result in of]
            cells = [f"{np.median(ratios):.1f}", f"{min(ratios):.1f} to {max(ratios):.1f}", f"{np.median(seconds):.2f}"]
            rows.append([f"up to {most:,}", str(len(of)), *cells])
    header = ["rows to fit", "tables", "median ratio", "from, to", "seconds, median"]
    return f"{_table(header, rows)}\n\n{_when(machine)}"


def scaling() -> str:
    """Milliseconds of data-parallel steps by rows, libraries and ranks."""
    results, machine = measured("scaling")
    columns = list(dict.fromkeys((result["library"], result["ranks"]) for result in results))
    by = {(result["rows"], result["library"], result["ranks"]): result["ms"]["steps"] for result in results}
    rows = [
        [f"{size:,}", *[f"{by[size, *column]:.2f}" for column in columns]]
        for size in dict.fromkeys(result["rows"] for result in results)
    ]
    header = ["rows of a step", *[f"{library}, {count} rank{'s' * (count > 1)}" for library, count in columns]]
    return f"{_table(header, rows)}\n\n{_when(machine)}"


BLOCKS: dict[str, Callable[[], str]] = {
    "train_step": train_step,
    "ratios of train_step": ratios_of_train_step,
    "scaling_with_size": scaling_with_size,
    "sweeps": sweeps,
    "trainer_step": trainer_step,
    "estimators": estimators,
    "scores of estimators": scores_of_estimators,
    "job": job,
    "search": search,
    "recurrent": recurrent,
    "ranks of tables": ranks_of_tables,
    "table_fit": table_fit,
    "scaling": scaling,
}


def filled(text: str) -> str:
    """Return a page with what the results say between its marks."""
    return MARKED.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}", text)


def pages() -> list[Path]:
    """Return the pages that may have marks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    """Fill every page and draw the figures."""
    from benchmarks import figures

    for page in pages():
        page.write_text(filled(page.read_text()))
    for draw in (figures.train_step, figures.scaling_with_size, figures.scaling):
        draw(*measured(draw.__name__), ROOT / "docs" / f"{draw.__name__}.svg")


if __name__ == "__main__":
    main()
