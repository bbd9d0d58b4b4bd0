"""nanotorch: a small neural-network training framework with PyTorch's names on NumPy and CuPy.

>>> import nanotorch as torch
>>> x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""

from __future__ import annotations

from nanotorch import ops  # first: it makes Tensor's methods
from nanotorch import autograd, cuda, func, linalg, nn, optim, utils, viz
from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.formatting import set_printoptions
from nanotorch.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from nanotorch.autograd.tensor import Size, Tensor
from nanotorch.backend.device import Device as device
from nanotorch.dtypes import DType as dtype
from nanotorch.dtypes import (
    bool_ as bool,
)
from nanotorch.dtypes import (
    double,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
)
from nanotorch.dtypes import float_ as float
from nanotorch.dtypes import int_ as int
from nanotorch.ops.create import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    is_tensor,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    tensor,
    zeros,
    zeros_like,
)
from nanotorch.ops.random import (
    Generator,
    default_generator,
    initial_seed,
    manual_seed,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
)
from nanotorch.explain import explain
from nanotorch.summary import summary
from nanotorch.utils.serialization import load, save

# --- operators: written by `python -m nanotorch.ops.stubs` ---
# --- end of operators ---

__version__ = "0.1.0"

