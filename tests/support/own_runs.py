"""Small runs on a table of one's own, for the tests of what is done with a run afterwards."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.train.cli.train import main as train

CITIES = {"Rome": 10.0, "Oslo": -20.0, "Zürich": 0.0}
COLUMNS = ("id", "age", "city", "year", "price", "kind", "sold")


def write_table(path: Path, rows: int = 120, seed: int = 0) -> list[dict[str, str]]:
    """A CSV file with numbers, a category, missing values in both, two numeric targets and three classes."""
    generator = np.random.default_rng(seed)
    table = []
    for number in range(rows):
        age, city, year = generator.normal(40, 10), generator.choice(list(CITIES)), 2000 + generator.integers(20)
        price = 3 * age + CITIES[city] + generator.normal()
        kind = "cheap" if price < 100 else "dear" if price > 130 else "middling, so to say"
        table.append(
            {
                "id": f"{number:04d}",
                "age": "" if number % 10 == 3 else f"{age:.2f}",
                "city": "" if number % 13 == 5 else city,
                "year": str(year),
                "price": f"{price:.3f}",
                "kind": kind,
                "sold": "yes" if price + year - 2010 > 115 else "no",
            }
        )
    write_rows(path, table)
    return table


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows, their columns in the order of the first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], prefix: str) -> np.ndarray[Any, Any]:
    """The columns whose names begin with the prefix."""
    return np.array([[float(row[name]) for name in row if name.startswith(prefix)] for row in rows])


def trained(folder: Path, data: str, loss: str, model: str = "{hidden: [8]}", more: str = "", epochs: int = 3) -> Path:
    """The directory of a short run, made in `folder`; `TABLE` in `data` is a table written there."""
    folder.mkdir(parents=True, exist_ok=True)
    if "TABLE" in data:
        write_table(folder / "table.csv")
    (folder / "config.yaml").write_text(
        f"name: own\n"
        f"data: {data.replace('TABLE', str(folder / 'table.csv'))}\n"
        f"model: {model}\n"
        f"loss: {{name: {loss}}}\n"
        f"optimizer: {{name: Adam, lr: 1e-2}}\n"
        f"train: {{epochs: {epochs}, batch_size: 16}}\n{more}"
    )
    assert train([str(folder / "config.yaml"), "--output", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def damage(run: Path, file: Path, content: bytes) -> None:
    """Put the content into the file, and where that is a checkpoint's, a checksum that fits."""
    (run / file).write_bytes(content)
    manifest = (run / file).parent / "MANIFEST.json"
    if file.name != "MANIFEST.json" and manifest.exists():
        facts = json.loads(manifest.read_text())
        facts["files"][file.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(facts))
    if file.name == "history.jsonl":
        for manifest in (run / file).parent.glob("step-*/MANIFEST.json"):
            facts = json.loads(manifest.read_text())
            facts["history"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest.write_text(json.dumps(facts))


CLASSES = "{file: TABLE, target: kind, drop: [id, price, sold]}"
TWO_CLASSES = "{file: TABLE, target: sold, drop: [id, price, kind], categories: embedding}"
NUMBERS = "{file: TABLE, target: [price, year], drop: [id, kind, sold]}"
