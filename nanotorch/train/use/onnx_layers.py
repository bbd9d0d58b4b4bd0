"""From modules to ONNX nodes: one converter for each class of layer, registered beside its formula.

The operators are those of opset 18, so that runtimes of 2023 and later read the file. A layer is converted as it works
in evaluation mode: dropout is nothing, batch norm uses its running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch import Tensor, nn
from nanotorch.nn.modules.ensemble import Kind
from nanotorch.train.model.embedding import EmbeddedColumns
from nanotorch.train.model.members import MeanOfModels
from nanotorch.train.model.models import Residual
from nanotorch.train.model.tabular import OnNumbers
from nanotorch.train.model.tempered import Tempered

Converter = Callable[["Graph", Any, str], str]
ONNX_LAYERS: dict[type[nn.Module], Converter] = {}


class ExportError(RuntimeError):
    """A model that cannot be exported; the message names the layer, or what is missing."""


def converts(*kinds: type[nn.Module]) -> Callable[[Converter], Converter]:
    """Register a converter: it takes the graph, the module and the name of its input,
    and returns that of its output.
    """

    def register(converter: Converter) -> Converter:
        ONNX_LAYERS.update(dict.fromkeys(kinds, converter))
        return converter

    return register


class Graph:
    """The nodes and constants of an ONNX graph in the making; every method returns the name of its result.

    Args:
        dtype: the floating-point type of the model, and of every number that becomes a constant.
    """

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.layer = "model"
        self._count = 0

    def add(self, operator: str, *inputs: str, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        """Return one node with one output."""
        from onnx import helper

        name = output or self._name(operator)
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=f"{name}_node", domain=domain, **attributes)
        )
        return name

    def constant(self, value: Tensor | NDArray[Any] | float, dtype: Any = None) -> str:
        """Return an array as it is; a parameter or a number in the type of the model unless another is given."""
        from onnx import numpy_helper

        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy().astype(self.dtype)
        if dtype is not None or not isinstance(value, np.ndarray):
            value = np.asarray(value, dtype=dtype or self.dtype)
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def texts(self, values: list[str]) -> str:
        """Return a constant of texts."""
        from onnx import TensorProto, helper

        name = self._name("texts")
        encoded = [value.encode() for value in values]
        self.constants.append(helper.make_tensor(name, TensorProto.STRING, [len(values)], encoded))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """Return the same numbers in another type."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self.layer}/{kind.lower()}_{self._count}"


def layer(graph: Graph, module: nn.Module, value: str, name: str = "model") -> str:
    """Add a module to the graph, by the converter of its class; `name` is its place in the model.

    A class that has no converter is an ExportError that names it and where it stands.
    """
    converter = next((ONNX_LAYERS[kind] for kind in type(module).__mro__ if kind in ONNX_LAYERS), None)
    own_forward = converter is not None and type(module) not in ONNX_LAYERS and "forward" in vars(type(module))
    if converter is None or own_forward:
        known = ", ".join(sorted(kind.__name__ for kind in ONNX_LAYERS))
        raise ExportError(
            f"layer {name!r} is a {type(module).__name__}, which has no converter to ONNX; those that have: {known}"
        )
    outer, graph.layer = graph.layer, name
    try:
        return converter(graph, module, value)
    finally:
        graph.layer = outer


# ------------------------------------------------------------ containers, and layers that do nothing when a model is
# used


@converts(nn.Sequential)
def _sequential(graph: Graph, module: nn.Sequential, x: str) -> str:
    place = graph.layer
    for name, child in module.named_children():
        x = layer(graph, child, x, f"{place}.{name}")
    return x


@converts(Tempered)
def _tempered(graph: Graph, module: Tempered, x: str) -> str:
    return graph.add("Div", layer(graph, module.model, x, graph.layer), graph.constant(module.temperature))


@converts(MeanOfModels)
def _mean_of_models(graph: Graph, module: MeanOfModels, x: str) -> str:
    place, columns, members, start = graph.layer, graph.constant(np.array([1])), [], 0
    for number, (model, width) in enumerate(zip(module.models, module.widths, strict=True)):
        bounds = [graph.constant(np.array([place])) for place in (start, start + width)]
        piece = graph.add("Slice", x, *bounds, columns)
        members.append(graph.add("Unsqueeze", layer(graph, model, piece, f"{place}.models.{number}"), columns))
        start += width
    said = graph.add("Mul", graph.add("Concat", *members, axis=1), graph.constant(module.scale))
    return layer(graph, module.mean, graph.add("Add", said, graph.constant(module.shift)), f"{place}.mean")


@converts(Residual)
def _residual(graph: Graph, module: Residual, x: str) -> str:
    return graph.add("Add", x, _sequential(graph, module, x))


@converts(nn.Identity, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)
def _nothing(graph: Graph, module: nn.Module, x: str) -> str:
    return x


# ------------------------------------------------------------ weights


@converts(nn.Linear)
def _linear(graph: Graph, module: nn.Linear, x: str) -> str:
    inputs = [x, graph.constant(module.weight)]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias))
    return graph.add("Gemm", *inputs, transB=1)


@converts(nn.NTKLinear)
def _ntk_linear(graph: Graph, module: nn.NTKLinear, x: str) -> str:
    return _linear(graph, module, graph.add("Mul", x, graph.constant(module.in_features**-0.5)))


@converts(nn.Scale)
def _scale(graph: Graph, module: nn.Scale, x: str) -> str:
    return graph.add("Mul", x, graph.constant(module.scale))


@converts(nn.BatchedLinear)
def _batched_linear(graph: Graph, module: nn.BatchedLinear, x: str) -> str:
    x = graph.add("MatMul", graph.add("Transpose", x, perm=[1, 0, 2]), graph.constant(module.weight))
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    return x if module.bias is None else graph.add("Add", x, graph.constant(module.bias))


@converts(nn.Members)
def _members(graph: Graph, module: nn.Members, x: str) -> str:
    return graph.add("Expand", _with_axis(graph, x, 1), graph.constant(np.array([1, module.count, 1])))


@converts(nn.BatchEnsembleLinear)
def _batch_ensemble_linear(graph: Graph, module: nn.BatchEnsembleLinear, x: str) -> str:
    x = graph.add("Mul", x, graph.constant(module.r))
    x = graph.add("MatMul", x, graph.constant(module.weight.T))
    x = graph.add("Mul", x, graph.constant(module.s))
    return x if module.bias is None else graph.add("Add", x, graph.constant(module.bias))


@converts(nn.MeanOfMembers)
def _mean_of_members(graph: Graph, module: nn.MeanOfMembers, x: str) -> str:
    if isinstance(module.of, tuple):
        pieces = pieces_of(graph, x, module.of, 2)
        means = [
            _mean_of(graph, "binary" if size == 1 else "multiclass", piece)
            for size, piece in zip(module.of, pieces, strict=True)
        ]
        return graph.add("Concat", *means, axis=1)
    return _mean_of(graph, module.of, x)


def pieces_of(graph: Graph, x: str, sizes: Sequence[int], axis: int) -> list[str]:
    """Return columns of values in pieces of these sizes."""
    ends = np.cumsum(sizes)
    return [
        graph.add("Slice", x, *(graph.constant(np.array([place])) for place in (end - size, end, axis)))
        for size, end in zip(sizes, ends.tolist(), strict=True)
    ]


def _mean_of(graph: Graph, of: Kind, x: str) -> str:
    axis = graph.constant(np.array([1]))
    if of == "values":
        return graph.add("ReduceMean", x, axis, keepdims=0)
    if of == "binary":
        sides = [graph.add("Neg", _log_one_plus_exp(graph, each)) for each in (graph.add("Neg", x), x)]
        return graph.add("Sub", *[graph.add("ReduceLogSumExp", each, axis, keepdims=0) for each in sides])
    logs = graph.add("Sub", x, graph.add("ReduceLogSumExp", x, graph.constant(np.array([-1]))))
    total = graph.add("ReduceLogSumExp", logs, axis, keepdims=0)
    return graph.add("Sub", total, graph.add("Log", graph.cast(_length(graph, x, 1), graph.dtype)))


@converts(nn.PeriodicEmbedding)
def _periodic_embedding(graph: Graph, module: nn.PeriodicEmbedding, x: str) -> str:
    waves = graph.add("Mul", _with_axis(graph, x, 2), graph.constant(2 * np.pi * module.frequency))
    waves = graph.add("Cos", graph.add("Add", waves, graph.constant(module.phase)))
    return graph.add("Concat", x, _mixed(graph, module, waves), axis=1)


@converts(nn.PiecewiseLinearEmbedding)
def _piecewise_linear_embedding(graph: Graph, module: nn.PiecewiseLinearEmbedding, x: str) -> str:
    shares = graph.add("Mul", _with_axis(graph, x, 2), graph.constant(module.slope))
    shares = graph.add("Add", shares, graph.constant(module.shift))
    bounded = graph.add("Min", graph.add("Max", shares, graph.constant(module.lower)), graph.constant(module.upper))
    return _mixed(graph, module, bounded)


def _mixed(graph: Graph, module: Any, x: str) -> str:
    return graph.add("Flatten", _batched_linear(graph, module.mixture, x), axis=1)


def _length(graph: Graph, x: str, axis: int) -> str:
    return graph.add("Shape", x, start=axis, end=axis + 1)


def _with_axis(graph: Graph, x: str, axis: int) -> str:
    return graph.add("Unsqueeze", x, graph.constant(np.array([axis])))


@converts(nn.BatchNorm1d)
def _batch_norm(graph: Graph, module: nn.BatchNorm1d, x: str) -> str:
    if module.running_mean is None or module.running_var is None:
        raise ExportError(f"layer {graph.layer!r} keeps no running statistics: its output depends on the batch")
    width = module.num_features
    weight: Any = np.ones(width, graph.dtype) if module.weight is None else module.weight
    bias: Any = np.zeros(width, graph.dtype) if module.bias is None else module.bias
    statistics = (weight, bias, module.running_mean, module.running_var)
    return graph.add("BatchNormalization", x, *map(graph.constant, statistics), epsilon=module.eps)


@converts(nn.LayerNorm)
def _layer_norm(graph: Graph, module: nn.LayerNorm, x: str) -> str:
    shape = module.normalized_shape
    weight: Any = np.ones(shape, graph.dtype) if module.weight is None else module.weight
    inputs = [x, graph.constant(weight)]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias))
    return graph.add("LayerNormalization", *inputs, axis=-len(shape), epsilon=module.eps)


@converts(nn.RMSNorm)
def _rms_norm(graph: Graph, module: nn.RMSNorm, x: str) -> str:
    axes = graph.constant(np.arange(-len(module.normalized_shape), 0))
    eps = np.finfo(graph.dtype).eps if module.eps is None else module.eps
    mean = graph.add("ReduceMean", graph.add("Mul", x, x), axes)
    x = graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean, graph.constant(eps))))
    return x if module.weight is None else graph.add("Mul", x, graph.constant(module.weight))


@converts(EmbeddedColumns)
def _embedded_columns(graph: Graph, module: EmbeddedColumns, x: str) -> str:
    pieces = []
    if module.numeric:
        pieces.append(graph.add("Gather", x, graph.constant(np.arange(module.numeric)), axis=1))
    for number, table in enumerate(module.tables):
        codes = graph.cast(graph.add("Gather", x, graph.constant(np.array(module.numeric + number)), axis=1), np.int64)
        pieces.append(graph.add("Gather", graph.constant(table.weight), codes, axis=0))
    return graph.add("Concat", *pieces, axis=1)


@converts(nn.ParametricActivation)
def _parametric_activation(graph: Graph, module: nn.ParametricActivation, x: str) -> str:
    bent = layer(graph, module.activation, x, f"{graph.layer}.activation")
    return graph.add("Add", x, graph.add("Mul", graph.constant(module.slope), graph.add("Sub", bent, x)))


@converts(OnNumbers)
def _on_numbers(graph: Graph, module: OnNumbers, x: str) -> str:
    place, bound, columns = graph.layer, np.array([module.numeric]), graph.constant(np.array([1]))
    start, end = graph.constant(np.array([0])), graph.constant(np.array([np.iinfo(np.int64).max]))
    numbers = graph.add("Slice", x, start, graph.constant(bound), columns)
    rest = graph.add("Slice", x, graph.constant(bound), end, columns)
    return graph.add("Concat", layer(graph, module.layer, numbers, f"{place}.layer"), rest, axis=1)


@converts(nn.PReLU)
def _prelu(graph: Graph, module: nn.PReLU, x: str) -> str:
    return graph.add("PRelu", x, graph.constant(module.weight))


# ------------------------------------------------------------ activations

ONE_NODE: dict[type[nn.Module], str] = {
    nn.ReLU: "Relu",
    nn.Sigmoid: "Sigmoid",
    nn.Tanh: "Tanh",
    nn.Softsign: "Softsign",
    nn.Hardswish: "HardSwish",
}


@converts(*ONE_NODE)
def _one_node(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add(next(operator for kind, operator in ONE_NODE.items() if isinstance(module, kind)), x)


@converts(nn.Mish)
def _mish(graph: Graph, module: nn.Mish, x: str) -> str:
    return graph.add("Mul", x, graph.add("Tanh", _log_one_plus_exp(graph, x)))


@converts(nn.LeakyReLU)
def _leaky_relu(graph: Graph, module: nn.LeakyReLU, x: str) -> str:
    return graph.add("LeakyRelu", x, alpha=module.negative_slope)


@converts(nn.RReLU)
def _rrelu(graph: Graph, module: nn.RReLU, x: str) -> str:
    return graph.add("LeakyRelu", x, alpha=(module.lower + module.upper) / 2)


@converts(nn.ELU, nn.CELU)
def _elu(graph: Graph, module: nn.ELU | nn.CELU, x: str) -> str:
    """Return the same function for alpha = 1; CELU scales its input, too. By exp: ONNX's Celu is of float32 alone."""
    zero, one, alpha = graph.constant(0), graph.constant(1), graph.constant(module.alpha)
    below = graph.add("Min", x, zero)
    if isinstance(module, nn.CELU):
        below = graph.add("Div", below, alpha)
    below = graph.add("Mul", alpha, graph.add("Sub", graph.add("Exp", below), one))
    return graph.add("Add", graph.add("Max", x, zero), below)


@converts(nn.SELU)
def _selu(graph: Graph, module: nn.SELU, x: str) -> str:
    return graph.add("Selu", x, alpha=1.6732632423543772, gamma=1.0507009873554805)


@converts(nn.GELU)
def _gelu(graph: Graph, module: nn.GELU, x: str) -> str:
    """ONNX has Gelu from opset 20 on."""
    if module.approximate == "tanh":
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", graph.constant(0.044715), cube))
        curve = graph.add("Tanh", graph.add("Mul", graph.constant((2 / np.pi) ** 0.5), inner))
    else:
        curve = graph.add("Erf", graph.add("Mul", x, graph.constant(0.5**0.5)))
    half = graph.add("Mul", graph.constant(0.5), x)
    return graph.add("Mul", half, graph.add("Add", graph.constant(1), curve))


@converts(nn.SiLU)
def _silu(graph: Graph, module: nn.SiLU, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


@converts(nn.Softplus)
def _softplus(graph: Graph, module: nn.Softplus, x: str) -> str:
    beta = graph.constant(module.beta)
    scaled = graph.add("Mul", x, beta)
    curve = graph.add("Div", _log_one_plus_exp(graph, scaled), beta)
    return graph.add("Where", graph.add("Greater", scaled, graph.constant(module.threshold)), x, curve)


@converts(nn.LogSigmoid)
def _log_sigmoid(graph: Graph, module: nn.LogSigmoid, x: str) -> str:
    return graph.add("Neg", _log_one_plus_exp(graph, graph.add("Neg", x)))


def _log_one_plus_exp(graph: Graph, x: str) -> str:
    """`max(x, 0) + log(1 + exp(-|x|))`: nothing overflows, which not every runtime's Softplus promises."""
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    rest = graph.add("Log", graph.add("Add", graph.constant(1), small))
    return graph.add("Add", graph.add("Relu", x), rest)


@converts(nn.Hardtanh)
def _hardtanh(graph: Graph, module: nn.Hardtanh, x: str) -> str:
    return graph.add("Clip", x, graph.constant(module.min_val), graph.constant(module.max_val))


@converts(nn.ReLU6)
def _relu6(graph: Graph, module: nn.ReLU6, x: str) -> str:
    return graph.add("Clip", x, graph.constant(0), graph.constant(6))


@converts(nn.Hardsigmoid)
def _hardsigmoid(graph: Graph, module: nn.Hardsigmoid, x: str) -> str:
    return graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@converts(nn.Hardshrink)
def _hardshrink(graph: Graph, module: nn.Hardshrink, x: str) -> str:
    return graph.add("Shrink", x, lambd=module.lambd, bias=0.0)


@converts(nn.Softshrink)
def _softshrink(graph: Graph, module: nn.Softshrink, x: str) -> str:
    return graph.add("Shrink", x, lambd=module.lambd, bias=module.lambd)


@converts(nn.Tanhshrink)
def _tanhshrink(graph: Graph, module: nn.Tanhshrink, x: str) -> str:
    return graph.add("Sub", x, graph.add("Tanh", x))
