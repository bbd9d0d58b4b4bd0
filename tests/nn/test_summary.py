"""summary(): shapes, parameters, FLOPs and saved bytes of known layers,
times that add up, and a model left as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd.graph.interpreter import at_rest
from nanotorch.ops.rows.flops import count_flops
from nanotorch.ops.rows.observe import observing
from oracle import pytorch, require

pytestmark = pytest.mark.parity


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 6))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        return x + self.inner(x)


def test_rows_of_known_layers() -> None:
    table = torch.summary(Residual(), torch.zeros(5, 6))
    assert [row.path for row in table.rows] == ["", "inner", "inner.0", "inner.1", "inner.2", "unused"]
    assert [row.kind for row in table.rows][:3] == ["Residual", "Sequential", "Linear"]
    first, relu, last = table["inner.0"], table["inner.1"], table["inner.2"]
    assert (first.output_shape, first.parameters, first.flops) == ((5, 24), 6 * 24 + 24, 2 * 5 * 6 * 24)
    assert (relu.parameters, relu.flops) == (0, 5 * 24)
    assert table["inner"].flops == first.flops + relu.flops + last.flops
    assert table.total_flops == table["inner"].flops + 5 * 6  # the addition
    assert table["unused"][2:] == (None, 0, 6, None, None, None, None)
    with pytest.raises(KeyError, match=r"no layer 'outer'; there are: '', 'inner'"):
        table["outer"]


def test_saved_bytes() -> None:
    """Memory counts once: the result that ReLU saves is the input that the next layer saves;
    parameters do not count.
    """
    table = torch.summary(Residual(), torch.zeros(5, 6))
    assert table["inner.0"].saved_bytes == 5 * 6 * 4  # its input; the data needs no gradient, so no weight is saved
    assert table["inner.1"].saved_bytes == 5 * 24 * 4
    assert table["inner.2"].saved_bytes == 0
    assert table.total_saved_bytes == 5 * 6 * 4 + 5 * 24 * 4
    loss = nn.CrossEntropyLoss()
    logits = torch.zeros(5, 3, requires_grad=True)
    target = torch.zeros(5, dtype=torch.int64)
    kept = torch.summary(loss, logits, target).total_saved_bytes
    assert kept == sum(t._array.nbytes for t in (logits, target)) + 5 * 3 * 4  # and the slope, a hidden output


def test_views_count_no_more_than_their_memory() -> None:
    class Wide(nn.Module):
        def forward(self, x: Any) -> Any:
            return (x.expand(1000, 4) * x[:, :2].sum()).sum()

    x = torch.ones(1, 4, requires_grad=True)
    assert torch.summary(Wide(), x).total_saved_bytes <= 4 * 4 + 4


def test_totals_and_frozen_parameters() -> None:
    model = Residual()
    model.inner[0].requires_grad_(False)
    table = torch.summary(model, torch.zeros(5, 6))
    assert table.total_parameters == sum(p.numel() for p in model.parameters())
    assert table.total_parameters - table.trainable_parameters == 6 * 24 + 24
    assert table.parameter_bytes == 4 * table.total_parameters
    assert "168 of them frozen" in table.text()


def test_times_of_parts_lie_within_the_whole() -> None:
    table = torch.summary(Residual(), torch.zeros(50, 6))
    parts = [table[path] for path in ("inner.0", "inner.1", "inner.2")]
    assert 0 < table["inner"].forward_seconds <= table.forward_seconds
    # each is the shortest of its own repeats
    assert sum(p.backward_seconds for p in parts) <= table.backward_seconds * 3
    assert all(p.forward_seconds > 0 and p.backward_seconds > 0 for p in parts)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {name: value.tolist() for name, value in model.state_dict().items()}
    buffers = [id(b) for b in model.buffers()]
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    torch.summary(model, torch.randn(6, 3))
    assert {name: value.tolist() for name, value in model.state_dict().items()} == before
    assert [id(b) for b in model.buffers()] == buffers and all(p.grad is None for p in model.parameters())
    torch.manual_seed(5)
    torch.summary(model, torch.ones(6, 3))
    assert torch.rand(3).tolist() == expected
    assert all(m._hooks is None or not (m._hooks.forward or m._hooks.forward_pre) for m in model.modules())
    assert at_rest()


def test_hooks_are_gone_after_an_error() -> None:
    model = Residual()
    with pytest.raises(torch.ShapeError, match=r"Linear 'inner.0'"):
        torch.summary(model, torch.zeros(5, 7))
    assert not any(m._hooks.forward or m._hooks.forward_pre for m in model.modules())


def test_layers_that_are_called_more_than_once_and_outputs_in_containers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any, *, scale: float) -> Any:
            hidden = self.layer(x)
            return {"hidden": hidden, "both": (self.layer(hidden) * scale, [hidden.sum()])}

    table = torch.summary(Twice(), torch.zeros(2, 4), kwargs={"scale": 2.0})
    assert table["layer"].calls == 2 and table["layer"].flops == 2 * (2 * 2 * 4 * 4)
    assert table.rows[0].output_shape == {"hidden": (2, 4), "both": ((2, 4), [()])}
    assert "(2 calls)" in table.text()


def test_without_recording_there_is_no_backward() -> None:
    with torch.no_grad():
        table = torch.summary(Residual(), torch.zeros(5, 6))
    assert table.backward_seconds is None and table.total_saved_bytes == 0 and table.total_flops > 0
    assert "forward" in table.text()


def test_text_is_aligned() -> None:
    table = torch.summary(Residual(), torch.zeros(5, 6))
    for width in (80, 120):
        lines = table.text(width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].split() == ["layer", "output", "parameters", "saved", "FLOPs", "forward", "backward"]
        assert lines[2].startswith("Residual") and lines[4].startswith("    0 Linear")
    assert "318 parameters" not in str(table) and f"{table.total_parameters:,} parameters (1.3 KiB)" in str(table)
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        torch.summary(Residual(), torch.zeros(5, 6), repeats=0)


def test_on_a_device(device: Any) -> None:
    model = nn.Linear(3, 2).to(device)
    table = torch.summary(model, torch.ones(4, 3, device=device))
    assert table.total_flops == 2 * 4 * 3 * 2 and table.total_saved_bytes == 4 * 3 * 4


# ------------------------------------------------------------------------------------------------- FLOPs and PyTorch's


def product_flops(function: Any) -> int:
    """The operations of rows that have a rule of their own: what PyTorch counts."""
    total = 0

    def count(row: Any, arguments: dict[str, Any], out: Any) -> None:
        nonlocal total
        total += count_flops(row, arguments, out) if row.flops is not None else 0

    with observing(count):
        function()
    return total


def attention(t: Any, q: Any, k: Any, v: Any) -> Any:
    scores = t.softmax(q @ k.transpose(-2, -1) / 4.0, -1)
    return scores @ v


FUNCTIONS: dict[str, Any] = {
    "linear": (lambda t, x, w, b: t.nn.functional.linear(x, w, b), [(5, 7, 3), (4, 3), (4,)]),
    "linear of a vector": (lambda t, x, w: t.nn.functional.linear(x, w), [(3,), (4, 3)]),
    "matmul": (lambda t, a, b: a @ b, [(2, 1, 5, 3), (4, 3, 6)]),
    "matmul of a matrix and a vector": (lambda t, a, b: a @ b, [(5, 3), (3,)]),
    "mm": (lambda t, a, b: t.mm(a, b), [(5, 3), (3, 2)]),
    "bmm": (lambda t, a, b: t.bmm(a, b), [(2, 5, 3), (2, 3, 2)]),
    "addmm": (lambda t, a, b, c: t.addmm(a, b, c, alpha=2), [(5, 2), (5, 3), (3, 2)]),
    "einsum": (lambda t, a, b: t.einsum("bij,bjk->bik", a, b), [(2, 5, 3), (2, 3, 4)]),
    "attention": (attention, [(2, 4, 6, 8), (2, 4, 5, 8), (2, 4, 5, 8)]),
    "scaled_dot_product_attention": (
        lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v, t.ones(6, 5) > 0),
        [(2, 4, 6, 8), (2, 4, 5, 8), (2, 4, 5, 8)],
    ),
    "addmv": (lambda t, a, b, c: t.addmv(a, b, c), [(5,), (5, 3), (3,)]),
    "baddbmm": (lambda t, a, b, c: t.baddbmm(a, b, c), [(2, 5, 2), (2, 5, 3), (2, 3, 2)]),
    "tensordot": (lambda t, a, b: t.tensordot(a, b, 2), [(2, 5, 3), (5, 3, 4)]),
    "conv1d": (lambda t, x, w: t.nn.functional.conv1d(x, w, stride=2), [(2, 3, 9), (4, 3, 3)]),
    "conv2d": (
        lambda t, x, w, b: t.nn.functional.conv2d(x, w, b, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
        [(2, 4, 9, 8), (6, 2, 3, 2), (6,)],
    ),
    "conv_transpose2d": (
        lambda t, x, w: t.nn.functional.conv_transpose2d(x, w, stride=2),
        [(2, 4, 5, 6), (4, 3, 3, 2)],
    ),
}


UNKNOWN_TO_PYTORCH = {  # products with vectors, and attention where the CPU has a kernel for it
    "linear of a vector": 2 * 3 * 4,
    "matmul of a matrix and a vector": 2 * 5 * 3,
    "addmv": 2 * 5 * 3,
    "scaled_dot_product_attention": 2 * (2 * 4 * 6 * 5 * 8) * 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_flops_are_those_that_pytorch_counts(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    arrays = [np.ones(shape, np.float32) for shape in shapes]
    counter = require("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter:
        function(pytorch, *[pytorch.from_numpy(array) for array in arrays])
    ours = product_flops(lambda: function(torch, *[torch.from_numpy(array) for array in arrays]))
    assert ours == (counter.get_total_flops() or UNKNOWN_TO_PYTORCH[name])


def test_einsum_of_one_and_of_three_operands() -> None:
    x = torch.ones(3, 4)
    assert product_flops(lambda: torch.einsum("ij->j", x)) == 12
    assert (
        product_flops(lambda: torch.einsum("ij,jk,kl->il", x, torch.ones(4, 5), torch.ones(5, 2))) == 3 * 3 * 4 * 5 * 2
    )


def test_views_count_nothing_and_other_ops_their_elements() -> None:
    counted: dict[str, int] = {}
    x = torch.ones(3, 4)
    with observing(lambda *call: counted.update({call[0].name: count_flops(*call)})):
        x.transpose(0, 1).sum(0)
        x.sort(1)
        x.split(2)
    assert counted == {"transpose": 0, "sum": 3, "sort": 12, "_split": 0}
