"""A run as one ONNX file: raw columns go in, class names and probabilities,
or values in the units of the targets, come out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch.train.data.class_targets import widths
from nanotorch.train.data.columns.dates import INPUT, Part
from nanotorch.train.data.columns.notation import spellings
from nanotorch.train.data.standardizer import QuantileScaler, Standardizer
from nanotorch.train.score.classification import probabilities
from nanotorch.train.use.loaded_run import LoadedRun
from nanotorch.train.use.onnx_layers import ExportError, Graph, layer, pieces_of
from nanotorch.train.use.prediction import predict
from nanotorch.utils import files

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
TOLERANCE = 1e-5


def exported(run: LoadedRun, matrix: bool = False, dtype: str = "float32") -> Any:
    """Return the run's model with its preprocessing as an `onnx.ModelProto`, checked by `onnx.checker`.

    Every column is an input of its own name and shape (rows, 1): float64 for a numeric column, with NaN for a missing
    value, and a string for a categorical one; a date is given as its seconds since 1970-01-01. With `matrix`, where all
    columns are numeric, there is one input "features" of shape (rows, columns) instead. Numbers are float64 up to the
    model itself, because a float32 loses digits of values that are large beside their spread, such as years. The model
    itself computes in `dtype`: runtimes have many operators for float32 alone.

    The outputs are "label", the name of the class of each row, and "probabilities" (rows, classes); for a regression
    "prediction" (rows, targets); for several targets of classes "label: TARGET" and "probabilities: TARGET" of each.
    """
    onnx = _onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    preprocessing = run.preprocessing
    graph = Graph(np.dtype(dtype))
    graph.layer = "preprocessing"
    inputs, features = _features(graph, run, matrix)
    graph.layer = "model"
    outputs = layer(graph, run.model, features)
    graph.layer = "output"
    taken = {one.name for one in inputs}
    if preprocessing.task == "regression":
        name = _free("prediction", taken)
        values = graph.cast(outputs, np.float64)
        if preprocessing.target_scaler is not None:
            values = graph.add("Mul", values, graph.constant(preprocessing.target_scaler.scale))
            values = graph.add("Add", values, graph.constant(preprocessing.target_scaler.mean))
        graph.add("Identity", values, output=name)
        results = [helper.make_tensor_value_info(name, kinds.DOUBLE, ["rows", len(preprocessing.target_names)])]
    else:
        several = bool(preprocessing.classes)
        pieces = pieces_of(graph, outputs, widths(preprocessing.classes), 1) if several else [outputs]
        results = []
        for number, (classes, piece) in enumerate(zip(preprocessing.of_classes, pieces, strict=True)):
            of = f": {preprocessing.target_names[number]}" if several else ""
            label, odds = _free(f"label{of}", taken), _free(f"probabilities{of}", taken)
            _classes(graph, piece, classes, label, odds)
            results += [
                helper.make_tensor_value_info(label, kinds.STRING, ["rows"]),
                helper.make_tensor_value_info(
                    odds, helper.np_dtype_to_tensor_dtype(graph.dtype), ["rows", len(classes)]
                ),
            ]
    made = helper.make_graph(graph.nodes, _identifier(run.config.name), inputs, results, graph.constants)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="nanotorch",
        producer_version=torch.__version__,
        doc_string=f"{run.config.name}, {run.when}",
    )
    helper.set_model_props(model, {"task": preprocessing.task, "target_names": json.dumps(preprocessing.target_names)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _classes(graph: Graph, outputs: str, classes: Sequence[str], label: str, odds: str) -> None:
    """Add the label of each row and the probability of each class, from the logits of one target."""
    if len(classes) == 2:
        second = graph.add("Sigmoid", outputs)
        first = graph.add("Sigmoid", graph.add("Neg", outputs))
        graph.add("Concat", first, second, axis=1, output=odds)
        chosen = graph.cast(graph.add("Greater", outputs, graph.constant(0)), np.int64)
        chosen = graph.add("Reshape", chosen, graph.constant(np.array([-1])))
    else:
        graph.add("Softmax", outputs, axis=1, output=odds)
        chosen = graph.add("ArgMax", outputs, axis=1, keepdims=0)
    graph.add("Gather", graph.texts(list(classes)), chosen, axis=0, output=label)


def _features(graph: Graph, run: LoadedRun, matrix: bool) -> tuple[list[Any], str]:
    """Return the inputs, and what the model sees of them (Note [Columns of the model] in preprocessing.py)."""
    from onnx import TensorProto, helper

    if run.members:
        (inputs, first), *others = [_features(graph, member, matrix) for member in run.members]
        return inputs, graph.add("Concat", first, *(features for _, features in others), axis=1)
    preprocessing = run.preprocessing
    numeric = preprocessing.numeric_names
    if matrix and preprocessing.categories:
        some = ", ".join(map(repr, list(preprocessing.categories)[:3]))
        raise ExportError(
            f"a matrix holds numbers alone, and this model takes categories ({some}): export without --matrix"
        )
    refuse_texts(run)
    if matrix and preprocessing.dates:
        some = ", ".join(map(repr, list(preprocessing.dates)[:3]))
        raise ExportError(f"this model takes dates ({some}), which are inputs of their own: export without --matrix")
    inputs, blocks = [], []
    if matrix:
        inputs.append(helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", len(numeric)]))
    else:
        for name in preprocessing.column_names:
            kind = TensorProto.STRING if name in preprocessing.categories else TensorProto.DOUBLE
            dates = preprocessing.dates.get(name)
            said = "" if dates is None else f"{INPUT}{' UTC' * dates.utc}, NaN where it is missing"
            inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1], said))
    parts: dict[str, str] = {}
    for name, dates in preprocessing.dates.items():
        parts |= zip(dates.columns(name), _parts_of_dates(graph, name, dates.parts), strict=True)
    if numeric:
        values = "features" if matrix else graph.add("Concat", *(parts.get(name, name) for name in numeric), axis=1)
        lacking = graph.add("IsNaN", values)
        raw = graph.constant(np.array([name not in parts for name in numeric]))
        for number in sorted(preprocessing.missing_numbers):
            same = graph.add("Equal", values, graph.constant(number, np.float64))
            lacking = graph.add("Or", lacking, graph.add("And", raw, same))
        values = graph.add("Where", lacking, graph.constant(np.array(preprocessing.fills)), values)
        values = _scaled(graph, preprocessing.scaler, values)
        blocks.append(graph.cast(values, graph.dtype))
        if preprocessing.indicators:
            places = np.array([numeric.index(name) for name in preprocessing.indicators])
            blocks.append(graph.cast(graph.add("Gather", lacking, graph.constant(places), axis=1), graph.dtype))
    for name, category in preprocessing.categories.items():
        known = spellings(category.values)
        if category.of_missing != category.fallback:
            known |= dict.fromkeys(preprocessing.missing_values, category.of_missing)
        numbers = graph.add(
            "LabelEncoder",
            name,
            domain="ai.onnx.ml",
            keys_strings=list(known),
            values_int64s=list(known.values()),
            default_int64=category.fallback,
        )
        if preprocessing.encoding == "one_hot":
            numbers = graph.add("Equal", numbers, graph.constant(np.arange(len(category.names))))
        blocks.append(graph.cast(numbers, graph.dtype))
    return inputs, blocks[0] if len(blocks) == 1 else graph.add("Concat", *blocks, axis=1)


def refuse_texts(run: LoadedRun) -> None:
    """Raise an ExportError if the model takes free text."""
    if run.preprocessing.texts:
        some = ", ".join(map(repr, run.preprocessing.texts[:3]))
        raise ExportError(
            f"this model takes free text ({some}), for which there is no operator; nanotorch predict reads it, and"
            " --safetensors exports the weights alone"
        )


def _parts_of_dates(graph: Graph, seconds: str, wanted: Sequence[Part]) -> list[str]:
    """Return these parts of seconds since 1970 (Note [Dates as numbers] in dates.py), each (rows, 1) float64.

    Year and month of a day are those of the calendar that begins in March, whose leap days come last.
    """

    def calculated(operator: str, value: str, number: float) -> str:
        return graph.add(operator, value, graph.constant(number, np.float64))

    def floored(value: str, divisor: float) -> str:
        return graph.add("Floor", calculated("Div", value, divisor))

    def less(value: str, other: str, times: float) -> str:
        return graph.add("Sub", value, calculated("Mul", other, times))

    days = floored(seconds, 86400)
    since_march = calculated("Add", days, 719468)  # 0000-03-01
    era = floored(since_march, 146097)  # of 400 years
    day = less(since_march, era, 146097)
    whole = graph.add("Add", graph.add("Sub", day, floored(day, 1460)), floored(day, 36524))
    year = floored(graph.add("Sub", whole, floored(day, 146096)), 365)
    day = graph.add("Add", less(less(day, year, 365), floored(year, 4), 1), floored(year, 100))
    march = floored(calculated("Add", calculated("Mul", day, 5), 2), 153)  # months since March
    next_year = graph.cast(graph.add("Greater", march, graph.constant(9.5, np.float64)), np.float64)
    weekday = calculated("Add", days, 3)
    turns = {
        "month": calculated("Div", calculated("Add", less(march, next_year, 12), 2), 12),
        "weekday": calculated("Div", less(weekday, floored(weekday, 7), 7), 7),
        "hour": calculated("Div", less(seconds, days, 86400), 86400),
    }
    plain = {"year": graph.add("Add", less(year, era, -400), next_year), "elapsed": calculated("Div", seconds, 86400)}
    found = []
    for part in wanted:
        name, _, kind = part.partition(" ")
        if name in turns:
            ahead = turns[name] if kind == "(sin)" else calculated("Add", turns[name], 0.25)
            found.append(graph.add("Sin", calculated("Mul", ahead, 2 * np.pi)))
        else:
            found.append(plain[name])
    return found


def _scaled(graph: Graph, scaler: Standardizer | QuantileScaler | None, values: str) -> str:
    """Return float64 columns of numbers as the scaler gives them."""
    if isinstance(scaler, QuantileScaler):
        # A line between two edges is the share of the way from one to the other, times how far it rises.
        shape = len(scaler.edges), max(1, *(len(edges) - 1 for edges in scaler.edges))
        starts, widths, rises = np.zeros(shape), np.ones(shape), np.zeros(shape)
        for column, (edges, places) in enumerate(zip(scaler.edges, scaler.places, strict=True)):
            filled = column, slice(len(edges) - 1)
            starts[filled], widths[filled], rises[filled] = edges[:-1], np.diff(edges), np.diff(places)
        last, none, whole = graph.constant(np.array([2])), graph.constant(0, np.float64), graph.constant(1, np.float64)
        way = graph.add("Sub", graph.add("Unsqueeze", values, last), graph.constant(starts))
        share = graph.add("Clip", graph.add("Div", way, graph.constant(widths)), none, whole)
        risen = graph.add("ReduceSum", graph.add("Mul", share, graph.constant(rises)), last, keepdims=0)
        return graph.add("Add", risen, graph.constant(np.array([places[0] for places in scaler.places])))
    if scaler is None:
        return values
    values = graph.add("Sub", values, graph.constant(scaler.mean))
    values = graph.add("Div", values, graph.constant(scaler.scale))
    if scaler.clip is None:
        return values
    share = graph.add("Div", values, graph.constant(scaler.clip, np.float64))
    share = graph.add("Clip", share, *(graph.constant(bound, np.float64) for bound in (-1e100, 1e100)))
    root = graph.add("Sqrt", graph.add("Add", graph.add("Mul", share, share), graph.constant(1, np.float64)))
    return graph.add("Mul", graph.add("Div", share, root), graph.constant(scaler.clip, np.float64))


def difference(run: LoadedRun, answer: Callable[[dict[str, NDArray[Any]]], Any], rows: int = 256) -> float:
    """Return the largest difference between an exported model and `predict`, over rows made up for it.

    `answer` is what the model gives for columns: labels and the probabilities of each class, or each target. The rows
    reach beyond what the training part had: far values, missing ones, and categories that are not known.
    Differences of values larger than 1 are relative to them. An ExportError if a class differs though its probability
    is clearly the largest.
    """
    columns = _rows_to_try(run, rows)
    expected = predict(run, run.preprocessing.encode(columns)[0])
    found = answer(columns)
    worst = 0.0
    if run.preprocessing.task == "regression":
        pairs = zip(expected.values(), found, strict=True)
    else:
        every, targets = list(expected.values()), run.preprocessing.of_classes
        pairs = zip(every[len(targets) :], found[len(targets) :], strict=True)
        outputs = run.preprocessing.each(run.outputs(run.preprocessing.encode(columns)[0]))
        for labels, got, piece in zip(every, found, outputs, strict=False):
            apart = np.sort(probabilities(piece), axis=1)
            clear = apart[:, -1] - apart[:, -2] > TOLERANCE
            if not np.array_equal(labels[clear], got[clear].astype(object)):
                raise ExportError("the exported model gives other classes than predict")
    for want, got in pairs:
        with np.errstate(invalid="ignore"):
            distance = np.abs(want - got) / np.maximum(1.0, np.abs(want))
        worst = max(worst, float(np.where(np.isnan(distance), np.inf, distance).max()))
    return worst


def save(run: LoadedRun, path: Path, matrix: bool = False) -> tuple[str, float]:
    """Export, try, write; returns the type of the model's numbers,
    and the largest difference to `predict`, at most 1e-5.

    A float64 model becomes one of float32, unless it differs by more then.
    """
    for dtype in dict.fromkeys(("float32", run.config.dtype)):
        model = exported(run, matrix, dtype)
        worst = difference(run, partial(answer_of, model, run, matrix=matrix))
        if worst <= TOLERANCE:
            break
    else:
        raise ExportError(
            f"the exported model differs from predict by {worst:g}, more than {TOLERANCE:g}; nothing was written"
        )
    files.write(path, model.SerializeToString())
    return dtype, worst


def _rows_to_try(run: LoadedRun, rows: int) -> dict[str, NDArray[Any]]:
    generator, preprocessing = np.random.default_rng(0), run.preprocessing
    columns: dict[str, NDArray[Any]] = {}
    for index, name in enumerate(preprocessing.numeric_names):
        spread = 1.0 if preprocessing.scaler is None else preprocessing.scaler.scale[index]
        column = preprocessing.fills[index] + spread * 2.0 * generator.standard_normal(rows)
        for lacking in (np.nan, *preprocessing.missing_numbers):
            column[generator.random(rows) < 0.1] = lacking
        columns[name] = column
    for name, dates in preprocessing.dates.items():
        stamps = generator.integers(-(2**55), 2**57, size=rows)  # microseconds: from 828 to 6537
        stamps[::2] = generator.integers(2**51, size=len(stamps[::2]))
        texts = np.datetime_as_string(stamps.astype("datetime64[us]")) + np.array("Z" if dates.utc else "")
        columns[name] = np.where(generator.random(rows) < 0.1, np.array(None), texts.astype(object))
        for part in dates.columns(name):
            del columns[part]
    for name, category in preprocessing.categories.items():
        texts = np.array([*spellings(category.values), "", "never seen before"], dtype=object)
        columns[name] = texts[generator.integers(len(texts), size=rows)]
    return columns


def answer_of(
    model: Any, run: LoadedRun, columns: Mapping[str, NDArray[Any]], matrix: bool = False
) -> list[NDArray[Any]]:
    """Return what an exported model gives for raw columns, run by `onnx.reference`."""
    given = dict(columns)
    for name, dates in run.preprocessing.dates.items():
        stamps = dates.stamps(columns[name], frozenset(), str)
        given[name] = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e6)
    results = _run(model, given, matrix)
    if not run.preprocessing.classes:
        return [*results[:-1], *results[-1].T]
    labels, odds = results[::2], results[1::2]
    return [*labels, *(column for of in odds for column in of.T[int(of.shape[1] == 2) :])]


def _run(model: Any, columns: Mapping[str, NDArray[Any]], matrix: bool) -> list[NDArray[Any]]:
    from onnx.reference import ReferenceEvaluator

    given = {name: column[:, None] for name, column in columns.items()}
    if matrix:
        given = {"features": np.concatenate(list(given.values()), axis=1)}
    with np.errstate(all="ignore"):
        results: list[NDArray[Any]] = ReferenceEvaluator(model).run(None, given)
    return results


def _free(name: str, taken: set[str]) -> str:
    """Return the name of an output, where no column of the input has it already."""
    while name in taken:
        name = f"predicted_{name}"
    return name


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
    except ImportError:
        raise ExportError("exporting to ONNX needs the package onnx: pip install onnx") from None
    return onnx
