"""`python -m nanotorch.export`: ONNX files that give what predict gives, and weights that PyTorch reads."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import nanotorch as torch
from nanotorch import nn
from nanotorch.registry import ACTIVATIONS, MODELS
from nanotorch.train.cli.export import main
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.data.standardizer import QuantileScaler, Standardizer
from nanotorch.train.model.embedding import EmbeddedColumns
from nanotorch.train.use import onnx_export, python_export
from nanotorch.train.use.loaded_run import load_run
from nanotorch.train.use.onnx_layers import ExportError, Graph, layer
from nanotorch.train.use.python_export import HELPERS, NumpyLines
from nanotorch.utils.serialization import load
from oracle import pytorch
from own_runs import CLASSES, NUMBERS, TWO_CLASSES, numbers, read_rows, trained, write_rows, write_table

LAYERS: dict[str, Any] = {name: ACTIVATIONS.get(name) for name in ACTIVATIONS} | {
    "GELU tanh": lambda: nn.GELU("tanh"),
    "CELU 0.5": lambda: nn.CELU(0.5),
    "ELU 2": lambda: nn.ELU(2.0),
    "Softplus 2, 3": lambda: nn.Softplus(2.0, 3.0),
    "PReLU of columns": lambda: nn.PReLU(5, 0.1),
    "Hardtanh -2, 3": lambda: nn.Hardtanh(-2.0, 3.0),
    "Linear": lambda: nn.Linear(5, 3),
    "Linear without bias": lambda: nn.Linear(5, 3, bias=False),
    "BatchNorm1d": lambda: nn.BatchNorm1d(5),
    "BatchNorm1d without weights": lambda: nn.BatchNorm1d(5, affine=False),
    "LayerNorm": lambda: nn.LayerNorm(5),
    "LayerNorm without bias": lambda: nn.LayerNorm(5, bias=False),
    "LayerNorm without weights": lambda: nn.LayerNorm(5, elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "Dropout": lambda: nn.Dropout(0.5),
    "Scale": lambda: nn.Scale(5),
    "NTKLinear": lambda: nn.NTKLinear(5, 3),
    "NTKLinear without bias": lambda: nn.NTKLinear(5, 3, bias=False),
    "ParametricActivation": lambda: nn.ParametricActivation(nn.SELU(), 5),
    "PeriodicEmbedding": lambda: nn.PeriodicEmbedding(5, 2, 3),
    "PiecewiseLinearEmbedding": lambda: nn.PiecewiseLinearEmbedding(5, 3, 2),
    **{
        f"ensemble of {of}": lambda of=of: nn.Sequential(
            nn.Members(4),
            nn.BatchEnsembleLinear(4, 5, 6),
            nn.Scale(4, 6),
            nn.Dropout(0.5),
            nn.BatchEnsembleLinear(4, 6, 5, bias=False),
            nn.BatchedLinear(4, 5, 2),
            nn.BatchedLinear(4, 2, 3, bias=False),
            nn.MeanOfMembers(of),
        )
        for of in ("values", "binary", "multiclass")
    },
    "AlphaDropout": lambda: nn.AlphaDropout(0.5),
    "Identity": nn.Identity,
    "Sequential": lambda: nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), nn.Linear(4, 2)),
}


def in_onnx(module: nn.Module, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the reference evaluator makes of a module's nodes."""
    graph = Graph(rows.dtype)
    output = layer(graph, module, "rows")
    kind = helper.np_dtype_to_tensor_dtype(rows.dtype)
    if output == "rows":
        return rows
    made = helper.make_graph(
        graph.nodes,
        "layer",
        [helper.make_tensor_value_info("rows", kind, ["rows", rows.shape[1]])],
        [helper.make_tensor_value_info(output, kind, ["rows", None])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with np.errstate(all="ignore"):
        found: np.ndarray[Any, Any] = ReferenceEvaluator(model).run(None, {"rows": rows})[0]
    return found


def in_numpy(module: nn.Module, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the lines of an exported Python file make of rows."""
    graph = NumpyLines(module, rows.dtype)
    output = layer(graph, module, "rows")
    space: dict[str, Any] = {"np": np, "rows": rows, "WEIGHTS": graph.weights}
    for helper_of_lines in HELPERS.values():
        exec(helper_of_lines, space)
    with np.errstate(all="ignore"):
        exec("\n".join(graph.lines), space)
    found: np.ndarray[Any, Any] = space[output]
    return found


@pytest.mark.parametrize("through", [in_onnx, in_numpy])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_the_same(name: str, dtype: str, through: Any) -> None:
    module = LAYERS[name]().to(getattr(torch, dtype))
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for buffer in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            buffer.copy_(torch.tensor(generator.uniform(0.5, 1.5, buffer.shape)))
    module.eval()
    edges = [[0.0, 1, -1, 0.5, -0.5], [1000, -1000, 100, -100, 20], [3, -3, 6, -6, 1e-4]]
    rows = np.concatenate([3 * generator.standard_normal((40, 5)), edges]).astype(dtype)
    expected = module(torch.tensor(rows)).detach().numpy()
    found = through(module, rows)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    by_series = through is in_numpy and "GELU" in name  # of erf, to 1.5e-7
    close = 1e-6 if dtype == "float32" or by_series else 1e-7
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-7, atol=close)


def test_a_layer_without_converter_is_named_with_its_place() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.ReLU(), nn.GLU()))
    with pytest.raises(
        ExportError, match=r"layer 'model.1.1' is a GLU, which has no converter to ONNX; those that have: .*BatchNorm1d"
    ):
        layer(Graph(), model, "rows")


def test_a_subclass_with_a_forward_of_its_own_is_not_taken_for_its_base() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Any) -> Any:
            return 2 * super().forward(input)

    with pytest.raises(ExportError, match="Doubled"):
        layer(Graph(), Doubled(5, 3), "rows")


def test_batch_norm_without_running_statistics_is_refused() -> None:
    with pytest.raises(ExportError, match="keeps no running statistics"):
        layer(Graph(), nn.BatchNorm1d(5, track_running_stats=False), "rows")


MODEL_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "mlp": [{"hidden": [6, 5], "dropout": 0.2}, {"batch_norm": True}, {"layer_norm": True}, {"hidden": []}],
    "realmlp": [{"hidden": [6, 5]}, {"numeric": 2, "embedding": "none"}, {"hidden": [], "embedding": "piecewise"}],
    "tabm": [
        {"hidden": [6, 5], "members": 3, "kind": kind, "numeric": 2, "shared": kind == "values"}
        for kind in ("values", "multiclass")
    ],
    "residual_mlp": [{"width": 6, "dropout": 0.2}, {"batch_norm": True}, {"layer_norm": True, "blocks": 3}],
}


def test_every_model_of_the_registry_can_be_exported() -> None:
    assert set(MODEL_OPTIONS) == set(MODELS), "a new model: say here with which options it is to be tried"
    rows = np.random.default_rng(0).standard_normal((20, 5)).astype("float32")
    for name, options in MODEL_OPTIONS.items():
        for arguments in options:
            model = MODELS.get(name)(5, 3, **arguments).train()
            model(torch.tensor(rows))  # so that batch norm has statistics of its own
            model.eval()
            np.testing.assert_allclose(
                in_onnx(model, rows), model(torch.tensor(rows)).detach().numpy(), rtol=1e-5, atol=1e-6
            )


def test_embedded_columns() -> None:
    for numeric in (2, 0):
        front = EmbeddedColumns(numeric, [3, 5])
        codes = np.array([[0, 4], [2, 0], [1, 3]])
        rows = np.concatenate([np.full((3, numeric), 0.5), codes], axis=1).astype("float32")
        np.testing.assert_array_equal(in_onnx(front, rows), front(torch.tensor(rows)).detach().numpy())


@pytest.mark.parametrize("fit", [Standardizer.fit, Standardizer.fit_robustly, QuantileScaler.fit])
def test_columns_are_scaled_the_same_in_onnx(fit: Any) -> None:
    known = np.random.default_rng(0).exponential(size=(90, 3)) * [1, 0, 1e6] + [0, 5, 1e3]
    known[:, 0] = np.round(known[:, 0])
    rows = np.concatenate([known, -known, 1e3 * known, [[1e200, -1e200, 5]]])
    graph, scaler = Graph(), fit(known)
    output = onnx_export._scaled(graph, scaler, "rows")
    kind = onnx.TensorProto.DOUBLE
    ends = [helper.make_tensor_value_info(name, kind, ["rows", 3]) for name in ("rows", output)]
    made = helper.make_graph(graph.nodes, "scaled", ends[:1], ends[1:], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = ReferenceEvaluator(model).run(None, {"rows": rows})[0]
    np.testing.assert_allclose(found, scaler.transform(rows), rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------ whole runs

SCALED = "%s, standardize: %s}"
RUNS = {
    "classes": (
        CLASSES[:-1] + ", standardize: quantile}",
        "CrossEntropyLoss",
        "{hidden: [8], batch_norm: true, dropout: 0.1}",
        "",
    ),
    "two_classes": (
        TWO_CLASSES[:-1] + ", standardize: robust}",
        "BCEWithLogitsLoss",
        "{hidden: [8], layer_norm: true}",
        "",
    ),
    "numbers": (NUMBERS, "MSELoss", "{name: residual_mlp, width: 8, activation: SiLU}", "dtype: float64\n"),
}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, loss, model, more = RUNS[request.param]
    return trained(tmp_path_factory.mktemp(request.param), data, loss, model, more)


def fed(model: Any, table: list[dict[str, str]]) -> list[Any]:
    """What the reference evaluator makes of rows of a CSV file: raw columns, nothing done to them."""
    feeds = {}
    for one in model.graph.input:
        cells = [row[one.name] for row in table]
        of_texts = one.type.tensor_type.elem_type == onnx.TensorProto.STRING
        feeds[one.name] = (
            np.array(cells, object)[:, None]
            if of_texts
            else np.array([float(cell or "nan") for cell in cells])[:, None]
        )
    with np.errstate(all="ignore"):
        found: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    return found


def predicted(run: Path, folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """New rows in `rows.csv`, among them a text that was never seen and a value far away, and what predict says."""
    table = write_table(folder / "rows.csv", rows=60, seed=2)
    table[7]["city"] = "Ulm"
    table[8]["age"] = "1e6"
    write_rows(folder / "rows.csv", table)
    assert predict([str(run), "--input", str(folder / "rows.csv"), "--output", str(folder / "out.csv")]) == 0
    return table, read_rows(folder / "out.csv")


@pytest.mark.slow
def test_raw_rows_give_in_onnx_what_predict_gives(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), "--onnx", str(tmp_path / "model.onnx")]) == 0
    assert "model.onnx: own, epoch " in capsys.readouterr().out
    table, expected = predicted(run, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    names = [one.name for one in model.graph.output]
    found = fed(model, table)
    if names == ["prediction"]:
        np.testing.assert_allclose(found[0], numbers(expected, "prediction"), rtol=1e-5)
    else:
        assert names == ["label", "probabilities"]
        np.testing.assert_allclose(found[1], numbers(expected, "probability"), atol=1e-5)
        assert found[0].tolist() == [row["prediction"] for row in expected]
    facts = {one.key: one.value for one in model.metadata_props}
    assert json.loads(facts["target_names"]) == list(load_run(run).preprocessing.target_names)


def test_one_matrix_of_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_iris

    rows = load_iris().data
    run = trained(tmp_path / "iris", "{name: iris}", "CrossEntropyLoss")
    np.save(tmp_path / "rows.npy", rows)
    assert main([str(run), "--onnx", str(tmp_path / "model.onnx"), "--matrix"]) == 0
    assert predict([str(run), "--input", str(tmp_path / "rows.npy"), "--output", str(tmp_path / "out.csv")]) == 0
    label, odds = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx")).run(None, {"features": rows})
    expected = read_rows(tmp_path / "out.csv")
    np.testing.assert_allclose(odds, numbers(expected, "probability"), atol=1e-5)
    assert label.tolist() == [row["prediction"] for row in expected]


def test_a_python_file_gives_what_predict_gives_with_numpy_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a program of its own, in a process that can import NumPy and nothing else from outside."""
    assert main([str(run), "--python", str(tmp_path / "model.py")]) == 0
    assert "it differs from predict by at most" in capsys.readouterr().out
    _, expected = predicted(run, tmp_path)
    alone = "import runpy, sys; sys.modules |= dict.fromkeys(['nanotorch', 'scipy', 'sklearn', 'pandas', 'torch']);"
    alone += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", alone, str(tmp_path / "model.py"), str(tmp_path / "rows.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    (tmp_path / "found.csv").write_text(done.stdout, newline="")
    found = read_rows(tmp_path / "found.csv")
    assert list(found[0]) == list(expected[0])
    if any(name.startswith("probability") for name in expected[0]):
        assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
        np.testing.assert_allclose(numbers(found, "probability"), numbers(expected, "probability"), atol=1e-5)
    else:
        np.testing.assert_allclose(numbers(found, "prediction"), numbers(expected, "prediction"), rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a;b\n1;2\n", "these columns are missing: ['a', 'b']"), ("a,b\n1\n", "a row has more or fewer cells")],
)
def test_a_python_file_refuses_rows_that_it_cannot_read(text: str, said: str, tmp_path: Path) -> None:
    write_rows(
        tmp_path / "table.csv", [{"a": str(k % 7), "b": str(k % 5), "y": ["no", "yes"][k % 2]} for k in range(80)]
    )
    place = trained(tmp_path / "run", f"{{file: {tmp_path / 'table.csv'}, target: y}}", "auto")
    assert main([str(place), "--python", str(tmp_path / "model.py")]) == 0
    (tmp_path / "rows.csv").write_text(text)
    command = [sys.executable, str(tmp_path / "model.py"), str(tmp_path / "rows.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and not done.stdout


def test_exported_models_know_numbers_for_missing_values_and_how_numbers_are_written(tmp_path: Path) -> None:
    """ONNX takes numbers; the Python file takes texts as the table has them, and refuses what predict refuses."""
    rows = [
        {"a": f"{k % 9 + 1}.{k:03},5" if k % 7 else "-999", "b": f"{k % 5 - 2} %", "c": f"k{k % 3}", "y": f"w{k % 2}"}
        for k in range(80)
    ]
    path = tmp_path / "table.csv"
    path.write_text("a;b;c;y\n" + "".join(";".join(row.values()) + "\n" for row in rows))
    keys = "decimal: ',', thousands: '.', missing_values: ['-999']"
    place = trained(tmp_path / "run", f"{{file: {path}, target: y, {keys}}}", "auto")
    table = {name: [row[name] for row in rows] for name in "abc"}
    assert predict([str(place), "--input", str(path), "--output", str(tmp_path / "out.csv")]) == 0
    expected = numbers(read_rows(tmp_path / "out.csv"), "probability")
    assert main([str(place), "--python", str(tmp_path / "model.py")]) == 0
    answer = runpy.run_path(str(tmp_path / "model.py"))["predict"]
    found = np.stack([values for name, values in answer(table).items() if name != "prediction"], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for text in ("1.25.0", "1_000", "2 kg", "true", "nan?", "1.5", "--1", "-+1"):
        with pytest.raises(ValueError, match=r"number|convert"):
            answer({**table, "a": [text, *table["a"][1:]]})
    assert main([str(place), "--onnx", str(tmp_path / "model.onnx")]) == 0
    given = [float(text.replace(".", "").replace(",", ".")) for text in table["a"]]
    percent = [float(text[:-1]) for text in table["b"]]
    feeds = {"a": np.array(given)[:, None], "b": np.array(percent)[:, None], "c": np.array(table["c"], object)[:, None]}
    odds = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx")).run(None, feeds)[1]
    np.testing.assert_allclose(odds, expected, atol=1e-5)


def test_names_cannot_leave_their_place_in_a_python_file(tmp_path: Path) -> None:
    evil = ['a"""\nraise SystemExit("evil")\n"""', "b' + exit() + '", "{c}\\x1b[31m"]
    classes = ["'''\nraise SystemExit", evil[2]]
    table = [{evil[0]: str(k % 7), evil[1]: evil[k % 3], "y": classes[k % 2]} for k in range(80)]
    write_rows(tmp_path / "table.csv", table)
    place = trained(tmp_path / "run", f"{{file: {tmp_path / 'table.csv'}, target: y}}", "auto")
    assert main([str(place), "--python", str(tmp_path / "model.py")]) == 0
    answer = runpy.run_path(str(tmp_path / "model.py"))["predict"]
    columns = {name: [row[name] for row in table[:5]] for name in evil[:2]}
    loaded = load_run(place)
    found, expected = answer(columns), onnx_export.predict(loaded, loaded.preprocessing.encode(columns)[0])
    assert list(found) == list(expected) and found["prediction"].tolist() == expected["prediction"].tolist()
    with pytest.raises(ValueError, match="these columns are missing"):
        answer({"z": [1]})
    with pytest.raises(ValueError, match="holds inf, which is not a finite number"):
        answer({evil[0]: [float("inf")], evil[1]: [None]})


def test_a_python_file_that_differs_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(python_export.OPERATORS, "Gemm", lambda x, w, b="0", transB=0: f"1.01 * {x} @ {w}.T + {b}")
    assert main([str(run), "--python", str(tmp_path / "model.py")]) == 1
    said = capsys.readouterr().err
    assert "differs from predict by" in said or "gives other classes than predict" in said
    assert not list(tmp_path.iterdir())


def test_weights_and_all_else_beside_them(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--safetensors", str(tmp_path / "model.safetensors")]) == 0
    saved, weights = load_run(run), load(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in saved.model.state_dict().items())
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["preprocessing"] == json.loads(json.dumps(saved.preprocessing.state()))
    assert facts["model"]["name"] == saved.config.model.name


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "say what to write: --onnx FILE, --python FILE or --safetensors FILE"),
        (["--safetensors", "m.safetensors", "--matrix"], 2, "--matrix is about the inputs of --onnx"),
        (["--onnx", "m", "--python", "m"], 2, "m would hold what --onnx writes, and then what --python does"),
        (["--safetensors", "m.json"], 2, "a name that does not end in .json"),
        (["--onnx", "nowhere/m.onnx"], 1, "No such file or directory"),
        (["--onnx", "m.onnx", "--matrix"], 1, "a matrix holds numbers alone, and this model takes categories ('city')"),
    ],
)
def test_mistakes_are_sentences(
    run: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(run), *arguments]) == code
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_without_the_package_there_is_a_hint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main([str(run), "--onnx", str(tmp_path / "m.onnx")]) == 1
    assert "pip install onnx" in capsys.readouterr().err


def test_a_model_that_differs_is_not_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = onnx_export.exported

    def wrong(*arguments: Any) -> Any:
        model = exported(*arguments)
        weight = next(one for one in model.graph.initializer if len(one.dims) == 2)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.1, weight.name))
        return model

    monkeypatch.setattr(onnx_export, "exported", wrong)
    assert main([str(run), "--onnx", str(tmp_path / "m.onnx")]) == 1
    assert "exported model" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_float64_where_float32_is_not_close_enough(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 1e-10)
    is_double = load_run(run).config.dtype == "float64"
    assert main([str(run), "--onnx", str(tmp_path / "m.onnx")]) == (0 if is_double else 1)
    printed = capsys.readouterr()
    assert ("in float64" in printed.out) if is_double else ("differs from predict by" in printed.err)


def test_columns_may_have_the_names_of_outputs(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv")
    write_rows(
        tmp_path / "table.csv", [{"label": row["age"], "features": row["year"], "sold": row["sold"]} for row in table]
    )
    run = trained(tmp_path / "run", f"{{file: {tmp_path / 'table.csv'}, target: sold}}", "BCEWithLogitsLoss")
    for options in ([], ["--matrix"]):
        assert main([str(run), "--onnx", str(tmp_path / "m.onnx"), *options]) == 0
        model = onnx.load(tmp_path / "m.onnx")
        names = [one.name for one in (*model.graph.input, *model.graph.output)]
        assert len(set(names)) == len(names) and names[-1] == "probabilities"


# ------------------------------------------------------------ PyTorch reads the weights, and nanotorch PyTorch's


@pytest.mark.parity
def test_weights_go_to_pytorch_and_back(tmp_path: Path) -> None:
    import safetensors.torch

    run = trained(
        tmp_path,
        "{name: iris}",
        "CrossEntropyLoss",
        "{hidden: [8, 6], batch_norm: true, dropout: 0.1, activation: PReLU}",
    )
    layers: list[Any] = []
    for inside, outside in ((4, 8), (8, 6)):
        layers += [
            pytorch.nn.Linear(inside, outside),
            pytorch.nn.BatchNorm1d(outside),
            pytorch.nn.PReLU(),
            pytorch.nn.Dropout(0.1),
        ]
    theirs = pytorch.nn.Sequential(*layers, pytorch.nn.Linear(6, 3))
    theirs.load_state_dict(safetensors.torch.load_file(run / "checkpoints" / "best" / "model.safetensors"), strict=True)
    ours = load_run(run).model
    rows = np.random.default_rng(0).standard_normal((10, 4)).astype("float32")
    theirs.eval()
    np.testing.assert_allclose(
        theirs(pytorch.tensor(rows)).detach().numpy(), ours(torch.tensor(rows)).detach().numpy(), rtol=1e-5, atol=1e-6
    )

    theirs.train()
    theirs(pytorch.tensor(rows)).sum().backward()
    with pytorch.no_grad():
        for parameter in theirs.parameters():
            parameter -= 0.1 * parameter.grad
    theirs.eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(load(tmp_path / "theirs.safetensors"), strict=True)
    np.testing.assert_allclose(
        ours(torch.tensor(rows)).detach().numpy(), theirs(pytorch.tensor(rows)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
