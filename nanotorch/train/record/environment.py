"""What the numbers of a run depend on beside its config: versions, device, threads, processor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nanotorch as torch

LIBRARIES = ("numpy", "scipy", "scikit-learn", "safetensors", "cupy-cuda12x", "cupy-cuda13x")
COMMIT, LONGEST_REF = r"[0-9a-f]{40,64}", 1000
DECIDE_BITS = ("python", "nanotorch", "libraries", "blas", "threads", "machine", "processor", "device")


def environment(device: torch.device) -> dict[str, Any]:
    """Return the facts that bit-exactness depends on, and where the run took place, as plain values."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "nanotorch": torch.__version__,
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
        "blas": sorted(
            {f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools}
        ),
        "threads": sorted({f"{pool['internal_api']} {pool['num_threads']}" for pool in pools}),
        "thread_variables": {key: os.environ[key] for key in sorted(os.environ) if key.endswith("_NUM_THREADS")},
        "device": str(device),
        "machine": platform.machine(),
        "processor": processor(),
        "system": platform.platform(),
        "host": platform.node(),
        "command": sys.argv,
        "directory": os.getcwd(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        **({"git_commit": commit} if (commit := _git_commit()) else {}),
    }


def _git_commit() -> str:
    """Return the commit that is checked out where the run was started; an empty text where there is none."""
    here = Path.cwd()
    place = next((folder / ".git" for folder in (here, *here.parents) if (folder / ".git").is_dir()), None)
    if place is None:
        return ""
    try:
        head = (place / "HEAD").read_text(encoding="utf-8")[:LONGEST_REF].strip()
        if not head.startswith("ref: "):
            return head if re.fullmatch(COMMIT, head) else ""
        name = head.removeprefix("ref: ")
        if (place / name).is_file():
            found = (place / name).read_text(encoding="utf-8")[:LONGEST_REF].strip()
            return found if re.fullmatch(COMMIT, found) else ""
        packed = (place / "packed-refs").read_text(encoding="utf-8")
        line = re.search(rf"^({COMMIT}) {re.escape(name)}$", packed, re.MULTILINE)
        return line[1] if line else ""
    except (OSError, UnicodeDecodeError, ValueError):
        return ""


def same_bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what changed of that on which the bits of a result depend,
    as `threads: ['openblas 2'] -> ['openblas 1']`.
    """
    changes = []
    for key in DECIDE_BITS:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += [
                f"{name}: {old.get(name)} -> {new.get(name)}"
                for name in {**old, **new}
                if old.get(name) != new.get(name)
            ]
        elif old != new:
            changes.append(f"{key}: {old} -> {new}")
    ran = [facts.get("compile", "") for facts in (before, now)]
    if all(ran) and ran[0].startswith("table") != ran[1].startswith("table"):
        changes.append(f"compile: {ran[0]} -> {ran[1]}")
    return changes


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the name of the processor; an empty text where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
