"""`python -m nanotorch.export`: ONNX files that give what predict gives, and weights that PyTorch reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import nanotorch as torch
from nanotorch import nn
from nanotorch.registry import ACTIVATIONS
from nanotorch.train.onnx_layers import ExportError, Graph, layer

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
        graph.nodes, "layer",
        [helper.make_tensor_value_info("rows", kind, ["rows", rows.shape[1]])],
        [helper.make_tensor_value_info(output, kind, ["rows", None])],
        graph.constants,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with np.errstate(all="ignore"):
        found: np.ndarray[Any, Any] = ReferenceEvaluator(model).run(None, {"rows": rows})[0]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_the_same_in_onnx(name: str, dtype: str) -> None:
    module = LAYERS[name]().to(getattr(torch, dtype))
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for buffer in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            buffer.copy_(torch.tensor(generator.uniform(0.5, 1.5, buffer.shape)))
    module.eval()
    edges = [[0.0, 1, -1, 0.5, -0.5], [1000, -1000, 100, -100, 20], [3, -3, 6, -6, 1e-4]]
    rows = np.concatenate([3 * generator.standard_normal((40, 5)), edges]).astype(dtype)
    expected = module(torch.tensor(rows)).detach().numpy()
    found = in_onnx(module, rows)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-7, atol=1e-6 if dtype == "float32" else 1e-7)


def test_a_layer_without_converter_is_named_with_its_place() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.ReLU(), nn.GLU()))
    with pytest.raises(ExportError, match=r"layer 'model.1.1' is a GLU, which has no converter to ONNX; those that have: .*BatchNorm1d"):
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

