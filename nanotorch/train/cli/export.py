"""A trained run for other programs: `python -m nanotorch.export RUN --onnx model.onnx`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nanotorch.train.terminal.command import path_option, run_command

EPILOG = """\
examples:
  {prog} RUN --onnx model.onnx
  {prog} RUN --onnx model.onnx --matrix
  {prog} RUN --python model.py
  {prog} RUN --safetensors model.safetensors

The ONNX file takes raw columns, each an input of its own name and shape
(rows, 1): float64 for numbers (NaN where one is missing), strings for
categories. It gives `label` and `probabilities` (of several targets of classes
`label: TARGET` and `probabilities: TARGET` for each), or `prediction` in the
units of the targets. Nothing is written unless onnx's checker and reference
evaluator agree with predictions to 1e-5. The Python file needs NumPy alone,
and is compared with predictions in the same way.

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
    add("run", type=path_option, metavar="RUN", help="the directory of a run, or of folds or repeats for their mean")
    add("--onnx", type=path_option, metavar="FILE", help="write an ONNX model (needs the extra onnx)")
    add("--matrix", action="store_true", help="one input `features` (rows, columns) instead of one for each column")
    add("--python", type=path_option, metavar="FILE", help="write a Python file that needs NumPy alone")
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

    outputs = {"onnx": options.onnx, "python": options.python, "safetensors": options.safetensors}
    if not any(outputs.values()):
        raise UsageError("say what to write: --onnx FILE, --python FILE or --safetensors FILE")
    if options.matrix and options.onnx is None:
        raise UsageError("--matrix is about the inputs of --onnx, which is not asked for")

    from nanotorch.train.use.loaded_run import load_told, refuse_to_replace
    from nanotorch.train.use.weights_export import beside_weights, save_weights

    run = load_told(options.run, options.checkpoint)
    beside = None if options.safetensors is None else beside_weights(Path(options.safetensors))
    places: dict[str, str] = {}
    for kind, output in [*outputs.items(), ("safetensors", beside)]:
        if output is None:
            continue
        refuse_to_replace(run, output)
        other = places.setdefault(os.path.realpath(output), kind)
        if other != kind:
            raise UsageError(f"{output} would hold what --{other} writes, and then what --{kind} does: give two names")
    for kind, ending in (("onnx", ".onnx"), ("python", ".py")):
        output = outputs[kind]
        if output is not None and os.path.isfile(output) and Path(output).suffix.lower() != ending:
            raise UsageError(
                f"{output} is there already, and by its name no {ending} file: give another name to write to"
            )
    if options.onnx is not None:
        from nanotorch.train.use import onnx_export

        dtype, worst = onnx_export.save(run, Path(options.onnx), options.matrix)
        print(
            f"{options.onnx}: {run.config.name}, {run.when}, in {dtype}; it differs from predict by at most {worst:.1g}"
        )
    if options.python is not None:
        from nanotorch.train.use import python_export

        worst = python_export.save(run, Path(options.python))
        print(f"{options.python}: {run.config.name}, {run.when}; it differs from predict by at most {worst:.1g}")
    if options.safetensors is not None:
        save_weights(run, Path(options.safetensors))
        print(f"{options.safetensors} and {beside}: {run.config.name}, {run.when}")
