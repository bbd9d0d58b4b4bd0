"""The weights of a run as one safetensors file, and beside it all else that the model is, as JSON."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import nanotorch as torch
from nanotorch.train.model.tempered import Tempered
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.use.loaded_run import LoadedRun
from nanotorch.utils import files
from nanotorch.utils.serialization import to_bytes

FORMAT = "nanotorch model"


def beside_weights(path: Path) -> Path:
    """Return the `.json` that stands beside the weights;
    a UsageError where either would replace what this command has not written.
    """
    if not path.name:
        raise UsageError(f"{path} is a directory: the weights need the name of a file")
    beside = path.with_suffix(".json")
    if beside == path:
        raise UsageError(
            f"{path}: the weights need a name that does not end in .json, which is for what stands beside them"
        )
    if os.path.lexists(beside) and not _is_ours(beside):
        raise UsageError(
            f"{beside} is there already and was not written by this command, which would replace it: give another name"
        )
    if path.is_file() and path.suffix.lower() != ".safetensors" and not _holds_weights(path):
        raise UsageError(f"{path} is there already and holds no weights, which would replace it: give another name")
    return beside


def save_weights(run: LoadedRun, path: Path) -> Path:
    """Write the weights under PyTorch's names and shapes, and a `.json` of the same name; return the path of that.

    The JSON holds the layers as text, the model's section of the config, and the preprocessing: which columns go in,
    what they are shifted and scaled by, the categories, the names of the classes; and the temperature by which logits
    are to be divided, where there is one.
    """
    if run.members:
        raise UsageError(
            f"{run.directory} holds several runs, each with weights of its own: export one of them; --onnx and --python"
            " write their mean"
        )
    beside = beside_weights(path)
    config, model = run.config.model_dump(mode="json"), run.model
    added: dict[str, float] = {}
    if isinstance(model, Tempered):
        added["temperature"] = model.temperature
        model = model.model
    facts = {
        "format": FORMAT,
        "nanotorch": torch.__version__,
        "name": run.config.name,
        "epoch": run.state["epoch"],
        "dtype": run.config.dtype,
        "model": config["model"],
        "layers": str(model).splitlines(),
        **added,
        "preprocessing": run.preprocessing.state(),
    }
    files.write(path, to_bytes(model.state_dict()))
    files.write(beside, json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return beside


def _is_ours(path: Path) -> bool:
    with suppress(OSError, ValueError, RecursionError, LookupError, TypeError):
        return bool(json.loads(files.read_own(path, 2**26))["format"] == FORMAT)
    return False


def _holds_weights(path: Path) -> bool:
    """Return whether a file begins as a safetensors file does, with the length of a JSON object and the object."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"
