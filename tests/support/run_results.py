"""All that a run leaves in its directory, but for times: to compare runs that have to be the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def left(directory: Path) -> dict[str, Any]:
    """All that a run leaves, but for times: bytes of the tensors, state, metrics, final scores."""
    result: dict[str, Any] = {}
    for link in ("best", "last"):
        for path in sorted((directory / "checkpoints" / link).iterdir()):
            if path.name == "MANIFEST.json":
                continue
            result[f"{link}/{path.name}"] = (
                path.read_bytes() if path.suffix == ".safetensors" else timeless(json.loads(path.read_text()))
            )
        result[link] = (directory / "checkpoints" / link).resolve().name.split("-")[1]
    result["metrics"] = [timeless(json.loads(line)) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    result["table"] = [line.rsplit(",", 1)[0] for line in (directory / "metrics.csv").read_text().splitlines()]
    result["summary"] = timeless(json.loads((directory / "summary.json").read_text()))
    for path in directory.rglob("*"):
        assert "writing" not in path.name, f"{path} was left behind"
    return result


def timeless(value: Any) -> Any:
    """Return plain values without how long things took."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def assert_same(directory: Path, whole: dict[str, Any]) -> None:
    """Compare what a run leaves with what another has left."""
    got = left(directory)
    assert got.keys() == whole.keys()
    different = [name for name in whole if got[name] != whole[name]]
    assert not different
