"""A trained run for other programs: `python -m nanotorch.export RUN --onnx model.onnx`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nanotorch.train.terminal.command import path_option, run_command

EPILOG = """\
examples:
  {prog} RUN --onnx model.onnx
  {prog} RUN --onnx model.onnx --matrix
  {prog} RUN --safetensors model.safetensors

The ONNX file takes raw columns, each an input of its own name and shape
(rows, 1): float64 for numbers (NaN where one is missing), strings for
categories. It gives `label` and `probabilities`, or `prediction` in the units
of the targets. Nothing is written unless onnx's checker and reference evaluator
agree with predictions to 1e-5.

exit codes:
  0 done   1 failed   2 bad usage, or no run
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Write the model of a run, preprocessing included, for other programs.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("run", type=path_option, metavar="RUN", help="the directory of a run")
    add("--onnx", type=path_option, metavar="FILE", help="write an ONNX model (needs the extra onnx)")
    add("--matrix", action="store_true", help="one input `features` (rows, columns) instead of one for each column")
    beside = "write the weights, and beside them a .json with all else that the model is"
    add("--safetensors", type=path_option, metavar="FILE", help=beside)
    add("--checkpoint", type=path_option, default="best", metavar="best|last|PATH", help="which model (default: best)")
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.export") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _export, argv)


def _export(options: argparse.Namespace) -> None:
    import os
    from pathlib import Path

    from nanotorch.train.terminal.command import UsageError

    if options.onnx is None and options.safetensors is None:
        raise UsageError("say what to write: --onnx FILE, --safetensors FILE, or both")
    if options.matrix and options.onnx is None:
        raise UsageError("--matrix is about the inputs of --onnx, which is not asked for")

    from nanotorch.train.use.loaded_run import load_told, refuse_to_replace
    from nanotorch.train.use.weights_export import beside_weights, save_weights

    run = load_told(options.run, options.checkpoint)
    beside = None if options.safetensors is None else beside_weights(Path(options.safetensors))
    for output in (options.onnx, options.safetensors, beside):
        if output is not None:
            refuse_to_replace(run, output)
    if options.onnx is not None:
        if os.path.isfile(options.onnx) and Path(options.onnx).suffix.lower() != ".onnx":
            raise UsageError(
                f"{options.onnx} is there already, and by its name no ONNX file: give another name to write to"
            )
        if options.safetensors is not None and os.path.realpath(options.onnx) in map(
            os.path.realpath, (options.safetensors, beside)
        ):
            raise UsageError(
                f"{options.onnx} would hold the ONNX file, and then what --safetensors writes: give them two names"
            )
    if options.onnx is not None:
        from nanotorch.train.use import onnx_export

        dtype, worst = onnx_export.save(run, Path(options.onnx), options.matrix)
        print(
            f"{options.onnx}: {run.config.name}, {run.when}, in {dtype}; it differs from predict by at most {worst:.1g}"
        )
    if options.safetensors is not None:
        save_weights(run, Path(options.safetensors))
        print(f"{options.safetensors} and {beside}: {run.config.name}, {run.when}")
