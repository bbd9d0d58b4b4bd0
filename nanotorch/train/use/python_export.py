"""A run as one readable Python file that needs NumPy alone, preprocessing included.

Note [Python files]
~~~~~~~~~~~~~~~~~~~
The converters of `onnx_layers` write the network: they ask a graph for operators and constants, and this one writes
down the line of NumPy that an operator is. So a layer that has a converter can be exported both ways. What comes before
and after the network is written here, as one would write it by hand.
"""

from __future__ import annotations

import ast
import base64
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import Tensor
from nanotorch.train.data.columns.dates import DIGITS, PLAIN
from nanotorch.train.data.columns.notation import spellings
from nanotorch.train.data.standardizer import QuantileScaler, Standardizer
from nanotorch.train.data.text_format import TextFormat
from nanotorch.train.use.loaded_run import LoadedRun
from nanotorch.train.use.onnx_export import TOLERANCE, difference, refuse_texts
from nanotorch.train.use.onnx_layers import ExportError, Graph, layer
from nanotorch.train.use.prediction import predicted_columns
from nanotorch.utils import files

Line = Callable[..., str]
ROWS = 256  # by which the file is compared


def _axes(text: str) -> tuple[int, ...]:
    found = ast.literal_eval(text)
    return tuple(found) if isinstance(found, tuple) else (int(found),)


def _reduced(call: str) -> Line:
    def line(x: str, axes: str, keepdims: int = 1) -> str:
        return f"{call.format(x=x)}axis={_axes(axes)[0]}, keepdims={bool(keepdims)})"

    return line


def _layer_norm(x: str, weight: str, bias: str = "0", axis: int = -1, epsilon: float = 1e-5) -> str:
    over = tuple(range(axis, 0))
    mean = f"({x} - {x}.mean(axis={over}, keepdims=True))"
    return f"{mean} / np.sqrt({x}.var(axis={over}, keepdims=True) + {epsilon!r}) * {weight} + {bias}"


OPERATORS: dict[str, Line] = {
    "Add": lambda x, y: f"{x} + {y}",
    "Sub": lambda x, y: f"{x} - {y}",
    "Mul": lambda x, y: f"{x} * {y}",
    "Div": lambda x, y: f"{x} / {y}",
    "Gemm": lambda x, w, b="", transB=0: f"{x} @ {w}{'.T' * transB}{f' + {b}' * bool(b)}",
    "MatMul": lambda x, y: f"{x} @ {y}",
    "Transpose": lambda x, perm: f"{x}.transpose({perm})",
    "Expand": lambda x, shape: f"{x} * np.ones({shape}, {x}.dtype)",
    "Unsqueeze": lambda x, axes: f"np.expand_dims({x}, {axes})",
    "Flatten": lambda x, axis=1: f"{x}.reshape(len({x}), np.prod({x}.shape[1:]))",
    "Concat": lambda *inputs, axis: f"np.concatenate([{', '.join(inputs)}], axis={axis})",
    "Slice": lambda x, start, end, axis: f"{x}[{':, ' * _axes(axis)[0]}{_axes(start)[0]}:{_end(end)}]",
    "Gather": lambda x, index, axis: f"np.take({x}, {index}, axis={axis})",
    "Shape": lambda x, start, end: f"np.array({x}.shape[{start}:{end}])",
    "ReduceMean": _reduced("np.mean({x}, "),
    "ReduceLogSumExp": _reduced("np.logaddexp.reduce({x}, "),
    "Neg": lambda x: f"-{x}",
    **{name: (lambda x, name=name: f"np.{name.lower()}({x})") for name in ("Exp", "Log", "Abs", "Cos", "Tanh", "Sqrt")},
    "Min": lambda x, y: f"np.minimum({x}, {y})",
    "Max": lambda x, y: f"np.maximum({x}, {y})",
    "Where": lambda where, x, y: f"np.where({where}, {x}, {y})",
    "Greater": lambda x, y: f"{x} > {y}",
    "Clip": lambda x, low, high: f"np.clip({x}, {low}, {high})",
    "Relu": lambda x: f"np.maximum({x}, 0)",
    "Sigmoid": lambda x: f"sigmoid({x})",
    "Erf": lambda x: f"erf({x})",
    "Softsign": lambda x: f"{x} / (1 + np.abs({x}))",
    "HardSwish": lambda x: f"{x} * np.clip({x} / 6 + 0.5, 0, 1)",
    "HardSigmoid": lambda x, alpha, beta: f"np.clip({alpha!r} * {x} + {beta!r}, 0, 1)",
    "LeakyRelu": lambda x, alpha: f"np.where({x} > 0, {x}, {alpha!r} * {x})",
    "PRelu": lambda x, slope: f"np.where({x} > 0, {x}, {slope} * {x})",
    "Selu": lambda x, alpha, gamma: f"{gamma!r} * np.where({x} > 0, {x}, {alpha!r} * np.expm1(np.minimum({x}, 0)))",
    "Shrink": lambda x, lambd, bias: (
        f"np.where({x} > {lambd!r}, {x} - {bias!r}, np.where({x} < -{lambd!r}, {x} + {bias!r}, 0))"
    ),
    "BatchNormalization": lambda x, weight, bias, mean, var, epsilon: (
        f"({x} - {mean}) / np.sqrt({var} + {epsilon!r}) * {weight} + {bias}"
    ),
    "LayerNormalization": _layer_norm,
}


def _end(text: str) -> str:
    end = _axes(text)[0]
    return "" if end == np.iinfo(np.int64).max else str(end)


class NumpyLines(Graph):
    """A graph that writes down lines of NumPy (Note [Python files]); a name is that of a variable, or a literal."""

    def __init__(self, model: Any, dtype: Any) -> None:
        super().__init__(dtype)
        self.lines: list[str] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self._names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
        self._modules = dict(model.named_modules())
        self._told = ""

    def add(self, operator: str, *inputs: str, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        """Return the variable that a line gives its value to."""
        if operator not in OPERATORS:
            raise ExportError(f"layer {self.layer!r} needs {operator}, which has no line of NumPy")
        name = self.layer.removeprefix("model.")
        if name != self._told and name in self._modules:
            text = repr(self._modules[name])
            self.lines.append(f"# {name}: {text if chr(10) not in text else type(self._modules[name]).__name__}")
            self._told = name
        return self._line(OPERATORS[operator](*inputs, **attributes))

    def constant(self, value: Tensor | NDArray[Any] | float, dtype: Any = None) -> str:
        """Return numbers as a literal where they are few, else as one of the weights."""
        name = ""
        if isinstance(value, Tensor):
            name = self._names.get(id(value), "")
            value = value.detach().cpu().numpy().astype(self.dtype)
        elif dtype is not None or not isinstance(value, np.ndarray):
            value = np.asarray(value, dtype=dtype or self.dtype)
        if value.ndim == 0 or value.dtype.kind in "iu":
            return repr(value.item() if value.ndim == 0 else tuple(value.tolist()))
        name = name or f"{self.layer.removeprefix('model.')}.constant_{len(self.weights)}"
        self.weights[name] = value
        return f"WEIGHTS[{name!r}]"

    def cast(self, value: str, dtype: Any) -> str:
        """Return the same numbers in another type."""
        return self._line(f"{value}.astype(np.{np.dtype(dtype).name})")

    def _line(self, code: str) -> str:
        self._count += 1
        self.lines.append(f"x{self._count} = {code}")
        return f"x{self._count}"


HEAD = '''\
"""A trained model: `predict` takes raw columns, and needs NumPy alone.

    from {stem} import predict
    predict({{"column": [value, ...], ...}})                # all of COLUMNS, texts or numbers

    python {stem}.py rows.csv > predictions.csv

Written by nanotorch {version}; over {rows} rows made up for it, it gave what `nanotorch predict` gives.
"""

import base64
import csv
import re
import sys

import numpy as np

RUN = {run!r}
COLUMNS = {columns!r}
'''

TAIL = r'''

def predict(columns):
    """Return the answer for raw rows, a column of it by each name of ANSWER.

    `columns` maps the names of COLUMNS to columns of one length. A missing value is None, NaN or one of the texts
    MISSING.
    """
    absent = [name for name in COLUMNS if name not in columns]
    if absent:
        raise ValueError(f"these columns are missing: {absent}")
    return answer(network(prepare(columns).astype(np.DTYPE)).astype(np.float64))


def number(value, name):
    if value is None or (isinstance(value, str) and value.strip() in MISSING):
        return np.nan
    found = number_of_text(value.strip(), name) if isinstance(value, str) else float(value)
    if np.isinf(found) or (isinstance(value, str) and np.isnan(found)):
        raise ValueError(f"column {name!r} holds {value!r}, which is not a finite number")
    return np.nan if found in MISSING_NUMBERS and name in COLUMNS else found


def number_of_text(text, name):
    """Return the number in a text, which may have the unit of its column, before or after it."""
    sign, rest, unit = "", text.replace("\N{MINUS SIGN}", "-"), UNITS.get(name)
    if unit and rest.removeprefix("-").lstrip().startswith(unit):
        sign, rest = "-" * rest.startswith("-"), rest.removeprefix("-").lstrip().removeprefix(unit).lstrip()
    elif unit and rest.endswith(unit):
        rest = rest.removesuffix(unit).rstrip()
    whole, point, part = rest.partition(DECIMAL)
    if BETWEEN_THOUSANDS and re.fullmatch(rf"[+-]?\d{{1,3}}(?:{BETWEEN_THOUSANDS}\d{{3}})+", whole):
        rest = re.sub(BETWEEN_THOUSANDS, "", whole) + point + part
    if "_" in rest or (DECIMAL == "," and "." in rest) or (sign and rest[:1] in "+-"):
        raise ValueError(f"column {name!r} holds {text!r}, which is not a number")
    return float(sign + rest.replace(",", "." if DECIMAL == "," else ","))


def category(value, known, of_missing, of_others):
    text = "" if value is None or value != value else str(value).strip()
    return known.get(text, of_missing if value is None or value != value or text in MISSING else of_others)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(f"usage: python {sys.argv[0]} rows.csv")
    with open(sys.argv[1], encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"a row has more or fewer cells than the first line: {row}")
    found = predict({name: [row[name] for row in rows] for name in COLUMNS if name in (reader.fieldnames or ())})
    writer = csv.writer(sys.stdout)
    writer.writerow(found)
    writer.writerows(zip(*found.values()))
'''

DATES = '''

def with_parts_of_dates(columns):
    """Return the columns with the parts of DATES beside them.

    A date is a text: 2020-01-31, or 2020-01-31T13:05:00; 2020-01-31T13:05:00Z where it is in UTC; in TIMES 13:05 too.
    """
    columns = dict(columns)
    for name, (utc, parts) in DATES.items():
        texts = ["NaT" if value is None or value != value else str(value).strip() for value in columns[name]]
        texts = ["NaT" if text in MISSING else text for text in texts]
        if name in TIMES:
            texts = [re.sub("^(?=[0-9]:)", "0", text) for text in texts]
            texts = [re.sub("^(?=[0-9]{2}:)", "1970-01-01T", text) for text in texts]
        for text in texts:
            if text != "NaT" and not re.fullmatch(PATTERNS[utc], text):
                wanted = "13:05" if name in TIMES else "2020-01-31T13:05" if utc else "2020-01-31"
                text = text.removeprefix("1970-01-01T")
                raise ValueError(f"column {name!r} holds {text!r}, which is no date such as {wanted}{'Z' * utc}")
        stamps = np.array([text.removesuffix("Z") for text in texts], "datetime64[us]")
        micro = np.where(np.isnat(stamps), 0, stamps.astype(np.int64))
        days, of_day = np.divmod(micro, DAY)
        months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        turns = {"month": months % 12 / 12, "weekday": (days + 3) % 7 / 7, "hour": of_day / DAY}
        for part in parts:
            kind, _, curve = part.partition(" ")
            if kind in turns:
                values = ((np.sin if curve == "(sin)" else np.cos)(2 * np.pi * turns[kind])).round(DIGITS)
            else:
                values = months // 12 + 1970.0 if kind == "year" else micro / DAY
            columns[f"{name}: {part}"] = np.where(np.isnat(stamps), np.nan, values)
    return columns
'''

HELPERS = {
    "sigmoid(": """

def sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)
""",
    "erf(": '''

def erf(x):
    """The error function to 1.5e-7 (Abramowitz and Stegun, formula 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))
''',
}


def written(run: LoadedRun, stem: str = "model", dtype: str | None = None) -> str:
    """Return the text of the file; `stem` is its name without ending, `dtype` that in which the network computes."""
    refuse_texts(run)
    preprocessing, dtype = run.preprocessing, dtype or run.config.dtype
    graph = NumpyLines(run.model, np.dtype(dtype))
    result = layer(graph, run.model, "x")
    code = "\n".join(graph.lines)
    notation = TextFormat.of(run.reading).notation
    units = {name: unit for name, unit in preprocessing.units.items() if name in preprocessing.numeric_names}
    pieces = [
        HEAD.format(
            stem=stem if stem.isidentifier() else "model",
            version=torch.__version__,
            rows=ROWS,
            run=f"{run.config.name}, {run.when}",
            columns=list(preprocessing.column_names),
        ),
        f"MISSING = {sorted(preprocessing.missing_values or [''])!r}\n",
        f"MISSING_NUMBERS = {sorted(notation.missing_numbers)!r}\n",
        f"DECIMAL, BETWEEN_THOUSANDS = {notation.decimal!r}, {notation.between_thousands!r}  # in texts\n",
        f"UNITS = {_mapping(units)}\n",
        f"ANSWER = {predicted_columns(run)!r}\n",
        _known_classes(run),
        _dates(run),
        *(_prepare(member, graph, f"_{k}") for k, member in enumerate(run.members, 1)),
        _prepare_all(len(run.members)) if run.members else _prepare(run, graph),
        "\n\ndef network(x):\n" + textwrap.indent(code, "    ") + f"\n    return {result}\n",
        _answer(run),
        *(
            text
            for name, text in HELPERS.items()
            if name in code or (name == "sigmoid(" and any(len(classes) == 2 for classes in preprocessing.of_classes))
        ),
        TAIL.replace("DTYPE", dtype),
    ]
    text = "".join(pieces)
    body, _, main = text.rpartition('\n\nif __name__ == "__main__":')
    return f'{body}\n\n{_weights(graph.weights)}\n\nif __name__ == "__main__":{main}'


def _known_classes(run: LoadedRun) -> str:
    """Return the line that names the classes, of several targets those of each."""
    preprocessing = run.preprocessing
    if preprocessing.classes:
        return f"CLASSES = {[list(names) for names in preprocessing.classes]!r}\n"
    return f"CLASSES = {list(preprocessing.target_names)!r}\n" if preprocessing.of_classes else ""


def _mapping(values: Mapping[Any, Any]) -> str:
    lines = "".join(f"    {name!r}: {value!r},\n" for name, value in values.items())
    return f"{{\n{lines}}}" if values else "{}"


def _prepare_all(members: int) -> str:
    """Return the function that makes of raw columns what the networks of several runs see, side by side."""
    blocks = ", ".join(f"prepare_{k}(columns)" for k in range(1, members + 1))
    return f"\n\ndef prepare(columns):\n    return np.concatenate([{blocks}], axis=1)\n"


def _prepare(run: LoadedRun, graph: NumpyLines, suffix: str = "") -> str:
    """Return the function that makes of raw columns what the network sees (Note [Columns of the model]); `suffix` is
    for its name, and for those of what it needs.
    """
    preprocessing, lines = run.preprocessing, []
    numbers = dict(zip(preprocessing.numeric_names, preprocessing.fills, strict=True))
    categories = {
        name: (spellings(one.values), one.of_missing, one.fallback) for name, one in preprocessing.categories.items()
    }
    known = f"NUMBERS{suffix} = {_mapping(numbers)}" + "  # with what a missing value is filled with" * bool(numbers)
    if categories:
        known += f"\nCATEGORIES{suffix} = {_mapping(categories)}  # by text, of a missing value, of others"
    if preprocessing.dates:
        lines.append("columns = with_parts_of_dates(columns)")
    if preprocessing.numeric_names:
        lines += [
            f"values = np.array([[number(value, name) for value in columns[name]] for name in NUMBERS{suffix}]).T",
            "lacking = np.isnan(values)",
            f"values = np.where(lacking, list(NUMBERS{suffix}.values()), values)",
        ]
        lines += _scaling(preprocessing.scaler, graph, f"scaler{suffix}")
        lines.append("blocks = [values]")
    else:
        lines.append("blocks = []")
    if preprocessing.indicators:
        places = [preprocessing.numeric_names.index(name) for name in preprocessing.indicators]
        lines.append(f"blocks.append(lacking[:, {places}])")
    for name, one in preprocessing.categories.items():
        lines.append(f"known = CATEGORIES{suffix}[{name!r}]")
        lines.append(f"codes = np.array([category(value, *known) for value in columns[{name!r}]])[:, None]")
        one_hot = preprocessing.encoding == "one_hot"
        lines.append(f"blocks.append(codes == np.arange({len(one.names)}))" if one_hot else "blocks.append(codes)")
    lines.append("return np.concatenate(blocks, axis=1)")
    return f"\n\n{known}\n\n\ndef prepare{suffix}(columns):\n" + textwrap.indent("\n".join(lines), "    ") + "\n"


def _dates(run: LoadedRun) -> str:
    """Return the definitions that make numbers of dates (Note [Dates as numbers] in data/columns/dates.py)."""
    dates = run.preprocessing.dates
    if not dates:
        return ""
    lines = [
        f"DATES = {_mapping({name: (one.utc, one.parts) for name, one in dates.items()})}  # in UTC or not, and parts",
        f"TIMES = {[name for name, one in dates.items() if one.form == 'hour:minute']!r}  # without a date",
        "DAY = 86_400_000_000  # microseconds",
        f"DIGITS = {DIGITS}  # of sines and cosines",
        f"PATTERNS = {_mapping(PLAIN)}  # of dates without an offset, and of those in UTC",
    ]
    return "\n".join(lines) + "\n" + DATES


def _scaling(scaler: Standardizer | QuantileScaler | None, graph: NumpyLines, name: str) -> list[str]:
    if scaler is None:
        return []
    graph.layer = name
    if isinstance(scaler, QuantileScaler):
        pairs = [
            f"({graph.constant(edges)}, {graph.constant(places)})"
            for edges, places in zip(scaler.edges, scaler.places, strict=True)
        ]
        return [
            f"quantiles = [{', '.join(pairs)}]",
            "values = np.stack([np.interp(column, *pair) for column, pair in zip(values.T, quantiles)], axis=1)",
        ]
    graph.weights |= {f"{name}.mean": scaler.mean, f"{name}.scale": scaler.scale}
    lines = [f"values = (values - WEIGHTS['{name}.mean']) / WEIGHTS['{name}.scale']"]
    return lines + ([f"values = values / np.hypot(1, values / {scaler.clip!r})"] if scaler.clip is not None else [])


def _answer(run: LoadedRun) -> str:
    """Return the function that makes of outputs what `predict` gives."""
    preprocessing = run.preprocessing
    if preprocessing.task == "regression":
        scaler = preprocessing.target_scaler
        lines = [] if scaler is None else [f"outputs = outputs * {scaler.scale.tolist()} + {scaler.mean.tolist()}"]
        lines.append("return dict(zip(ANSWER, outputs.T))")
    elif preprocessing.classes:
        lines = [
            "labels, chances, start = [], [], 0",
            "for classes in CLASSES:",
            "    two = len(classes) == 2",
            "    piece = outputs[:, start : start + (1 if two else len(classes))]",
            "    start += piece.shape[1]",
            "    powers = np.exp(piece - piece.max(axis=1, keepdims=True))",
            "    chosen = (piece[:, 0] > 0).astype(int) if two else piece.argmax(axis=1)",
            "    labels.append(np.array(classes, dtype=object)[chosen])",
            "    chances += [*(sigmoid(piece) if two else powers / powers.sum(axis=1, keepdims=True)).T]",
            "return dict(zip(ANSWER, labels + chances))",
        ]
    elif preprocessing.task == "binary":
        lines = [
            "chances = np.concatenate([sigmoid(-outputs), sigmoid(outputs)], axis=1)",
            "chosen = (outputs[:, 0] > 0).astype(int)",
        ]
    else:
        lines = [
            "powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))",
            "chances = powers / powers.sum(axis=1, keepdims=True)",
            "chosen = outputs.argmax(axis=1)",
        ]
    if preprocessing.task in ("binary", "multiclass"):
        lines.append("return dict(zip(ANSWER, [np.array(CLASSES, dtype=object)[chosen], *chances.T]))")
    return "\n\ndef answer(outputs):\n" + textwrap.indent("\n".join(lines), "    ") + "\n"


def _weights(weights: Mapping[str, NDArray[Any]]) -> str:
    """Return the definition of the weights: their bytes as base64, by name, with type and shape."""
    lines = [
        "",
        "def weight(dtype, shape, text):",
        "    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)",
    ]
    lines += ["", "", "WEIGHTS = {"]
    for name, value in weights.items():
        kind = value.dtype.newbyteorder("<")
        text = base64.b64encode(np.ascontiguousarray(value, kind).tobytes()).decode("ascii")
        lines.append(f"    {name!r}: weight({kind.str!r}, {value.shape}, {text!r}),")
    return "\n".join([*lines, "}", ""])


def save(run: LoadedRun, path: Path) -> float:
    """Export, try, write; returns the largest difference to `predict`, at most 1e-5."""
    text = written(run, path.stem)
    worst = difference(run, lambda columns: list(_run(text, columns).values()), ROWS)
    if worst > TOLERANCE:
        raise ExportError(
            f"the exported file differs from predict by {worst:g}, more than {TOLERANCE:g}; nothing was written"
        )
    files.write(path, text)
    return worst


def _run(text: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    space: dict[str, Any] = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), space)
    with np.errstate(all="ignore"):
        found: dict[str, NDArray[Any]] = space["predict"](columns)
    return found
