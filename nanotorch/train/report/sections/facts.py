"""What the model is, and what makes it anew: config, commands, environment."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanotorch.summary import Summary
from nanotorch.train.report.markup import Html, commands, fill, scrolling, table
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import Record
from nanotorch.train.terminal.text_report import counted


def model(found: Findings) -> Iterator[Html]:
    """Give the layers."""
    layers = found.layers
    rows = []
    for layer in layers.rows:
        depth = layer.path.count(".") + 1 if layer.path else 0
        shape = "" if layer.output_shape is None else str(layer.output_shape)
        name = "  " * depth + f"{layer.path.rpartition('.')[2]} {layer.kind}".strip()
        cells = [name, shape, layer.parameters or None]
        rows.append([*cells, layer.saved_bytes, layer.flops])
    heads = ["layer", "output", "parameters", "bytes kept for backward", "operations forward"]
    trainable = (
        ""
        if layers.trainable_parameters == layers.total_parameters
        else f", {layers.trainable_parameters:,} of them trained"
    )
    size = f"{layers.total_parameters:,} parameters{trainable}, {layers.parameter_bytes:,} bytes"
    yield table(f"{size}; for a batch of {_batch(layers)}", heads, rows)


def _batch(layers: Summary) -> str:
    shape = layers.rows[0].output_shape
    return counted(shape[0], "row") if isinstance(shape, tuple) and shape and isinstance(shape[0], int) else "rows"


def config(found: Findings, record: Record) -> Iterator[Html]:
    """Give the config, and the commands that use the run."""
    command = record.environment.get("command")
    if command:
        yield fill("<p>Started as <code>{command}</code></p>", command=_command(command))
    run = shlex.quote(str(record.directory))
    export = "--safetensors model.safetensors" if found.preprocessing.texts else "--python model.py"
    lines = [
        (
            "the same training again",
            f"python -m nanotorch.train {shlex.quote(str(record.directory / 'resolved.yaml'))}",
        ),
        ("the scores again", f"python -m nanotorch.evaluate {run}"),
        ("new rows", f"python -m nanotorch.predict {run} --input rows.csv --output predictions.csv"),
        (
            "with what holds the truth in nine of ten",
            f"python -m nanotorch.predict {run} --input rows.csv --output predictions.csv --interval 0.9",
        ),
        ("for other programs", f"python -m nanotorch.export {run} {export}"),
    ]
    yield commands(lines)
    if record.source is not None:
        text = fill("<pre>{text}</pre>", text=record.source.strip("\n"))
        yield scrolling("the config as it was given", text)
    yield fill(
        "<details{open}><summary>Every value, defaults included</summary>\n{text}</details>",
        open=Html(" open" if record.source is None else ""),
        text=scrolling("every value of the config", fill("<pre>{text}</pre>", text=found.resolved.strip("\n"))),
    )


def _command(words: Sequence[str]) -> str:
    """Return the command line as it can be typed."""
    first = Path(words[0])
    start = shlex.quote(words[0])
    if first.name == "__main__.py":
        package, inner = first.parts[-3:-1]
        start = f"python -m {inner if inner == 'nanotorch' else f'{package}.{inner}'}"
    return " ".join([start, *map(shlex.quote, words[1:])])


def environment(record: Record) -> Iterator[Html]:
    """Give what the bits of the result depend on."""
    pairs = []
    for key, value in record.environment.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {one}" for name, one in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        if value not in ("", None) and key != "command":
            pairs.append([key.replace("_", " "), str(value)])
    yield table("What the bits of the result depend on", ["fact", "value"], pairs, "wrap left")
