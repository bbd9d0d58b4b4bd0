"""What differs from PyTorch on purpose: each entry names calls, what is found there,
and its line in docs/differences.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .calls import Call


def always(call: Call) -> bool:
    return True


def empty(call: Call) -> bool:
    return any(not t.array.size for t in call.tensors())


def infinite(call: Call) -> bool:
    """Whether a NaN or an infinity is among the elements or the numbers."""
    numbers = [v for a in call.arguments() for v in (a if isinstance(a, list | tuple) else [a]) if isinstance(v, float)]
    return not np.isfinite(numbers).all() or any(not np.isfinite(t.array).all() for t in call.tensors())


def ties(call: Call) -> bool:
    """Whether elements of a tensor are equal to others."""
    return any(len(np.unique(t.array)) < t.array.size for t in call.tensors())


def gaps(call: Call) -> bool:
    return any(t.layout != "contiguous" for t in call.tensors())


def whole(call: Call) -> bool:
    """Whether a tensor of whole numbers or truth values is among the inputs."""
    return any(t.array.dtype.kind in "iub" for t in call.tensors())


def extreme(call: Call) -> bool:
    """Whether a power of an element may lie outside its format."""
    sizes = np.abs(np.concatenate([t.array.reshape(-1).astype(np.float64) for t in call.tensors()]))
    return bool(np.any(np.isfinite(sizes) & (sizes > 0) & ((sizes < 1e-9) | (sizes > 1e9))))


def partly(call: Call) -> bool:
    """Whether an index uses a part of its source only."""
    *_, index, source = call.tensors()
    return index.array.size < source.array.size


def truths(call: Call) -> bool:
    return any(t.array.dtype == bool for t in call.tensors())


def singular(call: Call) -> bool:
    """Whether a matrix has no inverse."""
    return any(
        t.array.ndim > 1 and not infinite(call) and np.any(np.linalg.matrix_rank(t.array) < t.array.shape[-1])
        for t in call.tensors()
    )


def several_dtypes(call: Call) -> bool:
    return len({t.array.dtype for t in call.tensors()}) > 1


@dataclass(frozen=True)
class Stated:
    """Calls whose name and finding match, and that `when` holds of,
    differ for the reason in the line that `line` begins.
    """

    line: str
    names: str
    finding: str
    when: Callable[[Call], Any] = always


LOSSES = r".*_loss|kl_div|binary_cross_entropy.*|cross_entropy"
CHOICES = (
    r"kthvalue|topk|sort|argsort|msort|median|nanmedian|mode|max|min|cummax|cummin|argmax|argmin|.*max_pool\dd"
    r"|unique.*|aminmax|amax|amin"
)
WINDOWS = (
    r"scaled_dot_product_attention|unique.*|conv.*|unfold|fold|.*pool\dd|pixel_.*|channel_shuffle|interpolate|pad"
    r"|local_response_norm|batch_norm|group_norm|instance_norm"
)
MATRICES = r"linalg_.*|.*det|inverse|pinverse|cholesky.*|matrix_.*|.*matmul|chain_matmul|svd|qr"
EMPTY = (
    r"normal|as_strided|remainder|fmod|repeat_interleave|cholesky|linalg_(cholesky|cond).*|multinomial|cov|randn_like"
    r"|trapz|trapezoid|div"
)
VALUES = r"(output|gradient|tangent) \d+: values"
GRADIENTS = r"(gradient|tangent) \d+: values"

STATED = (
    Stated("losses whose input and target", LOSSES, r"(backward: )?ShapeError.*PyTorch computes"),
    Stated("losses at infinite", LOSSES, VALUES, infinite),
    Stated("gradient of `kl_div`", r"kl_div", GRADIENTS),
    Stated("`soft_margin_loss` far", r"soft_margin_loss", VALUES),
    Stated("`label_smoothing`", r"cross_entropy", r"RuntimeError: .*label_smoothing.*PyTorch computes"),
    Stated("gradient of `special.entr`", r"special\.entr", GRADIENTS),
    Stated("subtraction of booleans", rf"{LOSSES}|pairwise_distance|cdist|dist", VALUES, truths),
    Stated("`dim=None` for", r".*", r"computes .*PyTorch TypeError: .*NoneType|TypeError: .*None.*PyTorch computes"),
    Stated("`nn.Softmax()`", r"soft(min|max)|log_softmax", r"TypeError: .*dim.*PyTorch computes"),
    Stated(
        "overloads",
        r".*",
        r"computes .*PyTorch (TypeError|ValueError): .*(invalid combination|missing \d required|takes from|unexpected"
        r" keyword|must be int, not Tensor|to unpack)",
    ),
    Stated(
        "operands of two dtypes",
        r".*",
        r"(RuntimeError|DtypeError): .*(same dtype|dtypes match|floating).*PyTorch computes",
        several_dtypes,
    ),
    Stated(
        "linear algebra of matrices that hold",
        MATRICES,
        rf"(backward: )?LinAlgError.*PyTorch computes|{VALUES}|computes .*LinAlgError",
        infinite,
    ),
    Stated(
        "`linalg.solve_triangular` of",
        r"linalg_solve_triangular|(linalg_)?qr",
        r"(backward: )?LinAlgError.*PyTorch computes",
    ),
    Stated("`linalg.solve_triangular` of", r"linalg_solve_triangular", VALUES, lambda c: c.kwargs.get("unitriangular")),
    Stated("`bilinear` with a bias", r"bilinear", r"ShapeError: .*bias.*PyTorch computes"),
    Stated("gradient of `as_strided_scatter`", r"as_strided_scatter", r"gradient \d: values"),
    Stated("gradient of `logit(x, eps)`", r"hardswish", r"gradient \d: values", infinite),
    Stated("which of equal elements", r"scatter_reduce|index_reduce", r"gradient \d: values", infinite),
    Stated("`var`, `std` without", r"(var|std)(_mean)?", r"gradient \d: values.*PyTorch .*(nan|inf)"),
    Stated("operands of several dtypes", r".*_norm", VALUES, lambda c: several_dtypes(c) and whole(c)),
    Stated("digits of `polygamma`", r"polygamma|digamma|special\.psi", VALUES, infinite),
    Stated("integrals of nothing", r"linalg_cond|normal", r"requires_grad"),
    Stated("what `linalg.cholesky_ex`", r"linalg_\w+_ex", rf"{VALUES}|backward: LinAlgError.*PyTorch computes"),
    Stated("dimensions, indices and dtypes of empty", EMPTY, r".*PyTorch computes|computes ", empty),
    Stated("average pools of whole", r"local_response_norm", r"RuntimeError.*PyTorch computes", whole),
    Stated("what PyTorch reads", r"instance_norm", r"computes .*single memory", gaps),
    Stated("what PyTorch reads", r"arctan2|atan2|block_diag", GRADIENTS, lambda c: whole(c) or empty(c)),
    Stated("what PyTorch reads", r"ldexp", GRADIENTS, empty),
    Stated("operands of several dtypes", r"addr", r"output 0 is", several_dtypes),
    Stated("`einsum` of booleans", r"einsum", r"output 0 is", truths),
    Stated("gradients that PyTorch's", r"cov", r"computes .*in-place operation"),
    Stated("`linalg.solve(left=False)`", r"linalg_solve(_ex)?", r"computes .*Incompatible shapes"),
    Stated("gradient of determinants", r".*det", GRADIENTS, singular),
    Stated("gradient of determinants", r"linalg_cond", VALUES, singular),
    Stated("`linalg.lstsq`", r"linalg_lstsq", r"output \d: values|gradient|computes .*RuntimeError"),
    Stated("`linalg.norm(dtype=...)`", r"linalg_.*norm|norm", r"computes .*narrowing"),
    Stated(
        "comparisons and logic in place",
        r"logical_.*|eq|ne|[lg][te]|not_equal|less.*|greater.*",
        r"requires_grad|gradient \d: values",
    ),
    Stated("which of equal elements", CHOICES, r"(output 1|gradient 0|output 0|tangent \d): values", ties),
    Stated("`searchsorted`, `bucketize`", r"searchsorted|bucketize", r"output 0: values", infinite),
    Stated("the mean that `var_mean`", r"(var|std)_mean", r"output 1: values", infinite),
    Stated(
        "dimensions, indices and dtypes of empty",
        r".*",
        r"(IndexError|OutOfRangeError|DtypeError|.*floating).*PyTorch computes|output 0 is",
        empty,
    ),
    Stated("`take_along_dim` with an index", r"take_along_dim", r"OutOfRangeError.*PyTorch computes"),
    Stated("values with leading", r"(Tensor\.)?index_put_?", r"IndexError: .*mask.*PyTorch computes"),
    Stated("what PyTorch reads", r"scatter_reduce", r"gradient \d: values", partly),
    Stated(
        "values with leading dimensions",
        r"(Tensor\.)?index_(put_?|add)",
        r"computes .*(cannot be broadcast to indexing result|shape must match)",
    ),
    Stated("`linalg.pinv(hermitian=True)`", r"linalg_(pinv|matrix_rank)", r"computes .*square"),
    Stated(
        "dimensions, indices and dtypes of empty",
        r"adaptive_avg_pool\dd",
        r"RuntimeError: .*floating.*PyTorch computes",
    ),
    Stated("dimensions, indices and dtypes of empty", r"linalg_vecdot|diff", r"IndexError: .*PyTorch computes"),
    Stated("gradients that PyTorch's", r".*", r"computes .*PyTorch backward: RuntimeError"),
    Stated(
        "images, windows and weights without",
        WINDOWS,
        r".*PyTorch (RuntimeError|computes|IndexError)|output 0 has shape",
        empty,
    ),
    Stated("images, windows and weights without", r"group_norm", r"gradient \d: values", empty),
    Stated(
        "images, windows and weights without",
        r"conv_transpose\dd",
        r"ShapeError: .*size is too small.*PyTorch computes",
    ),
    Stated("the mean of nothing", rf"{LOSSES}|adaptive.*", rf"{VALUES}|ShapeError.*PyTorch computes", empty),
    Stated("`as_strided_scatter` of a tensor", r"as_strided_scatter", r"output 0: values|gradient|requires_grad", gaps),
    Stated(
        "factors, bounds and elements that are infinite",
        r"renorm|[cs]?elu|add.*mm|addm[mv]|addr|baddbmm|logit|cumprod|prod|threshold|.*shrink|histc|linspace|logspace|interpolate|gradient|einsum|cdist|pdist|pairwise_distance",
        rf"{VALUES}|computes .*(overflow|must be in range)",
        infinite,
    ),
    Stated("parts of floating numbers", r".*_scatter", r"requires_grad", whole),
    Stated("average pools of whole", r"(avg|lp)_pool\dd", VALUES + r"|output 0 is", whole),
    Stated("gradient of `ldexp`", r"ldexp", GRADIENTS, whole),
    Stated("gradient of `logit(x, eps)`", r"logit", VALUES),
    Stated("norms whose powers overflow", r"norm|linalg_.*norm", VALUES, extreme),
    Stated("derivatives of `celu`", r"addc(mul|div)", r"gradient \d: values", whole),
    Stated("subtraction of booleans", LOSSES, rf"{VALUES}|output 0 is|RuntimeError: .*PyTorch computes", whole),
    Stated("operands of two dtypes", LOSSES, r"output 0 is", several_dtypes),
    Stated("in-place operators never", r".*", r"ShapeError: .*cannot grow.*PyTorch computes"),
    Stated("attention where a key", r"scaled_dot_product_attention", VALUES, infinite),
    Stated("`interpolate` of whole", r"interpolate", r"NotImplementedError.*PyTorch computes", whole),
    Stated(
        "integrals of nothing",
        r"trapz|trapezoid|cumulative_trapezoid",
        rf"requires_grad|{VALUES}",
        lambda c: infinite(c) or empty(c),
    ),
    Stated("what PyTorch reads", r"median|nanmedian|batch_norm|kthvalue", VALUES, gaps),
    Stated("fractional factors", r"add.*|baddbmm", r"RuntimeError: .*integral.*PyTorch computes", whole),
)

ROUGH = {
    "digamma": 2.0**-28,
    "special.psi": 2.0**-28,
    "polygamma": 2.0**-28,
    "sinc": 2.0**-26,
    "celu": 2.0**-22,
    "batch_norm": 2.0**-41,
    "instance_norm": 2.0**-41,
    "group_norm": 2.0**-41,
    "layer_norm": 2.0**-41,
    "hardsigmoid": 2.0**-22,
}
"""How far PyTorch's own values or derivatives in double precision are off: "digits of" and "derivatives of `celu`"."""


def fatal(call: Call) -> bool:
    """Whether the call ends the process in PyTorch 2.13: the backward pass of distances between no points."""
    return call.name == "pdist" and empty(call)


def stated(call: Call, finding: str) -> str:
    """The line of the page that a finding is stated in, "" if none."""
    for entry in STATED:
        if re.fullmatch(entry.names, call.name) and re.match(entry.finding, finding, re.DOTALL) and entry.when(call):
            return entry.line
    return ""
