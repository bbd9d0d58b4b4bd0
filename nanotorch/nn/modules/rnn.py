"""Recurrent layers: RNN, LSTM and GRU over sequences, and their cells, which make one step.

Note [Steps of recurrent layers] in `ops/nn/recurrent.py` says how they go through time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.packed_sequence import PackedSequence
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty, zeros
from nanotorch.ops.nn.dense import linear
from nanotorch.ops.nn.dropout import dropout
from nanotorch.ops.nn.recurrent import _gru, _lstm, _rnn
from nanotorch.ops.shape.join import cat, stack

State = tuple[Tensor, ...]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _layer(
    kind: str, data: Tensor, sizes: tuple[int, ...], state: State, weights: Sequence[Any], reverse: bool = False
) -> State:
    """Run one layer in one direction over packed data: its outputs for all steps, packed alike, and the final state."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    if kind == "gru":  # its second bias is multiplied by a gate
        tensors = [linear(data, w_ih, b_ih), w_hh, *state]
        return _gru(tensors if b_hh is None else [*tensors, b_hh], sizes, reverse)
    tensors = [linear(data, w_ih, b_ih if b_hh is None else b_ih + b_hh), w_hh, *state]
    if kind == "lstm":
        return _lstm(tensors if w_hr is None else [*tensors, w_hr], sizes, reverse)
    return _rnn(tensors, sizes, reverse, kind == "relu")


def _drop(data: Tensor, p: float, batch: int | None) -> Tensor:
    """Drop elements of (steps * batch, features), drawn sequence by sequence: Note [Counters of dropout].

    Packed data, without a batch, are drawn as they lie.
    """
    if batch is None:
        return dropout(data, p)
    by_sequence = data.reshape(-1, batch, data.shape[-1]).transpose(0, 1)
    return dropout(by_sequence, p).transpose(0, 1).reshape(data.shape)


class _Recurrent(Module):
    """What RNN, LSTM and GRU share: parameters, layers and directions, packed and unbatched input."""

    weight_ih_l0: Parameter
    gates = 1
    states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise ValueError(
                f"{name}: dropout should be a number in range [0, 1], the probability of an element being zeroed, got"
                f" {dropout!r}"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects"
                f" num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        for argument, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name}: {argument} should be of type bool, got: {type(flag).__name__}")
        for argument, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"{name}: {argument} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name}: {argument} must be greater than zero, got {size}")
        if proj_size and self.states == 1:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{name}: proj_size is zero, for none, or positive and smaller than hidden_size, got {proj_size}"
            )
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional, self.proj_size = (
            batch_first,
            float(dropout),
            bidirectional,
            proj_size,
        )
        width, directions = proj_size or hidden_size, 2 if bidirectional else 1
        for layer in range(num_layers):
            features = input_size if layer == 0 else width * directions
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (self.gates * hidden_size, features),
                "weight_hh": (self.gates * hidden_size, width),
            }
            if bias:
                shapes |= {"bias_ih": (self.gates * hidden_size,), "bias_hh": (self.gates * hidden_size,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for direction in range(directions):
                for kind, shape in shapes.items():
                    self.register_parameter(
                        f"{kind}_l{layer}{'_reverse' * direction}", Parameter(empty(*shape, device=device, dtype=dtype))
                    )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform between plus and minus `1 / sqrt(hidden_size)`."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: it is for PyTorch's programs, whose GPUs want one block of memory."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of every layer and direction."""
        found = [[getattr(self, f"{kind}_{place}", None) for kind in WEIGHTS] for place in self._places()]
        return [[parameter for parameter in place if parameter is not None] for place in found]

    def _places(self) -> list[str]:
        return [
            f"l{layer}{end}"
            for layer in range(self.num_layers)
            for end in ("", "_reverse")[: 2 if self.bidirectional else 1]
        ]

    def _kind(self) -> str:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run over sequences (T, B, input_size), (B, T, input_size) with `batch_first`,
        (T, input_size), or a PackedSequence.

        `hx` is the initial state, (layers * directions, B, hidden_size), for an LSTM a pair of those; zeros unless
        given. Returns the outputs of the last layer in the form of the input, and the final state in the form of `hx`.
        """
        name = type(self).__name__
        packed = input if isinstance(input, PackedSequence) else None
        data = input if packed is None else packed.data
        if data.dtype is not self.weight_ih_l0.dtype:
            raise ValueError(
                f"{name}: input dtype ({data.dtype}) does not match weight dtype ({self.weight_ih_l0.dtype}). Convert"
                f" input: input.to({self.weight_ih_l0.dtype}), or convert model: model.to({data.dtype})"
            )
        if packed is None and data.ndim not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {data.ndim}D tensor instead")
        if packed is not None and data.ndim != 2:
            raise RuntimeError(f"{name}: input must have 2 dimensions, got {data.ndim}")
        if data.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}"
            )
        single = packed is None and data.ndim == 2
        if packed is None:
            if single:
                data = data.unsqueeze(1)
            elif self.batch_first:
                data = data.transpose(0, 1)
            steps, batch = data.shape[:2]
            if not steps:
                raise RuntimeError(f"{name}: Expected sequence length to be larger than 0 in RNN")
            sizes, data = (batch,) * steps, data.reshape(steps * batch, self.input_size)
        else:
            sizes = tuple(packed.batch_sizes.tolist())
            batch = sizes[0]
        initial = self._initial(hx, batch, single, data, None if packed is None else packed.sorted_indices)
        finals = []
        for place, layer in enumerate(range(0, len(self._places()), 2 if self.bidirectional else 1)):
            if place and self.dropout and self.training:
                data = _drop(data, self.dropout, None if packed is not None else batch)
            outputs = []
            for number in range(layer, layer + (2 if self.bidirectional else 1)):
                weights = [getattr(self, f"{kind}_{self._places()[number]}", None) for kind in WEIGHTS]
                values, *final = _layer(
                    self._kind(), data, sizes, tuple(part[number] for part in initial), weights, number > layer
                )
                outputs.append(values)
                finals.append(final)
            data = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
        state = tuple(stack(parts) for parts in zip(*finals, strict=True))
        output: Any
        if packed is not None:
            output = PackedSequence(data, *packed[1:])
            if packed.unsorted_indices is not None:
                state = tuple(part.index_select(1, packed.unsorted_indices) for part in state)
        else:
            output = data.reshape(len(sizes), batch, data.shape[-1])
            if single:
                output, state = output.squeeze(1), tuple(part.squeeze(1) for part in state)
            elif self.batch_first:
                output = output.transpose(0, 1)
        return output, state if self.states > 1 else state[0]

    def _initial(self, hx: Any, batch: int, single: bool, data: Tensor, order: Tensor | None) -> State:
        """The initial states, (layers * directions, B, width) each, in the order of the packed batch."""
        name, count = type(self).__name__, len(self._places())
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        if hx is None:
            return tuple(zeros(count, batch, width, dtype=data.dtype, device=data.device) for width in widths)
        given = tuple(hx) if self.states > 1 else (hx,)
        if len(given) != self.states:
            raise RuntimeError(f"{name}: hx is a pair of tensors, got {len(given)}")
        for part, width, what in zip(given, widths, ("hidden[0]", "hidden[1]"), strict=False):
            expected = (count, width) if single else (count, batch, width)
            if part.ndim != len(expected):
                kind = "unbatched 2-D" if single else "batched 3-D"
                raise RuntimeError(
                    f"{name}: For {kind} input, hx should also be {len(expected)}-D but got {part.ndim}-D tensor"
                )
            if tuple(part.shape) != expected:
                label = what if self.states > 1 else "hidden"
                raise RuntimeError(f"{name}: Expected {label} size {expected}, got {list(part.shape)}")
        if single:
            given = tuple(part.unsqueeze(1) for part in given)
        return given if order is None else tuple(part.index_select(1, order) for part in given)

    def extra_repr(self) -> str:
        """The sizes and the options that differ from their defaults."""
        usual = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        options = [f", {name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return f"{self.input_size}, {self.hidden_size}{''.join(options)}"


class RNN(_Recurrent):
    """`h = tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)` at every step (Elman 1990); or with "relu".

    >>> output, h = torch.nn.RNN(3, 5, num_layers=2)(torch.zeros(7, 4, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 4, 5]), torch.Size([2, 4, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(input_size, hidden_size, num_layers, *args, **kwargs)
        self.nonlinearity = nonlinearity

    def _kind(self) -> str:
        return self.nonlinearity


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter, Schmidhuber 1997), with gates i, f, g, o in this order in the weights.

    `c = sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h = sigmoid(o) * tanh(c)`; with `proj_size`, `h` is then multiplied
    by `weight_hr` (Sak et al. 2014). The state is `(h, c)`.
    """

    gates = 4
    states = 2

    def _kind(self) -> str:
        return "lstm"


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014), with gates r, z, n in this order in the weights.

    `n = tanh(n_x + sigmoid(r) * n_h)` and `h = (1 - sigmoid(z)) * n + sigmoid(z) * h`.
    """

    gates = 3

    def _kind(self) -> str:
        return "gru"


class _Cell(Module):
    """What the three cells share."""

    bias_ih: Parameter | None
    bias_hh: Parameter | None
    gates = 1
    states = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform between plus and minus `1 / sqrt(hidden_size)`."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _kind(self) -> str:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """One step for input (B, input_size) or (input_size) from the state `hx`, zeros unless given;
        returns the new state.
        """
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        given = None if hx is None else tuple(hx) if self.states > 1 else (hx,)
        if given is None:
            lead = input.shape[:-1]
            given = tuple(
                zeros(*lead, self.hidden_size, dtype=input.dtype, device=input.device) for _ in range(self.states)
            )
        for part in given:
            if part.ndim not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {part.ndim}D instead")
            if tuple(part.shape) != (*input.shape[:-1], self.hidden_size):
                raise RuntimeError(
                    f"{name}: hidden {tuple(part.shape)} does not fit input {tuple(input.shape)} and hidden_size"
                    f" {self.hidden_size}"
                )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}"
            )
        single = input.ndim == 1
        if single:
            input, given = input.unsqueeze(0), tuple(part.unsqueeze(0) for part in given)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        _, *state = _layer(self._kind(), input, (len(input),), given, weights)
        if single:
            state = [part.squeeze(0) for part in state]
        return tuple(state) if self.states > 1 else state[0]

    def extra_repr(self) -> str:
        """The sizes and the options that differ from their defaults."""
        nonlinearity = getattr(self, "nonlinearity", "tanh")
        return (
            f"{self.input_size}, {self.hidden_size}"
            + ", bias=False" * (not self.bias)
            + f", nonlinearity={nonlinearity}" * (nonlinearity != "tanh")
        )


class RNNCell(_Cell):
    """One step of an `RNN`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: Unknown nonlinearity: {nonlinearity}; select from 'tanh' or 'relu'")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _kind(self) -> str:
        return self.nonlinearity


class LSTMCell(_Cell):
    """One step of an `LSTM`: from `(h, c)` to the next."""

    gates = 4
    states = 2

    def _kind(self) -> str:
        return "lstm"


class GRUCell(_Cell):
    """One step of a `GRU`."""

    gates = 3

    def _kind(self) -> str:
        return "gru"
