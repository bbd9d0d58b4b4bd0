"""nanotorch: a small neural-network training framework with PyTorch's names on NumPy and CuPy.

>>> import nanotorch as torch
>>> x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""

from __future__ import annotations

from math import e, inf, nan, pi

import nanotorch.command_start as _command_start  # before all that takes time
from nanotorch import ops as _ops  # first: it makes Tensor's methods
from nanotorch import autograd, cuda, distributed, func, linalg, nn, optim, random, return_types, special, utils, viz
from nanotorch.absent import teach as _teach
from nanotorch.autograd.graph.anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.formatting import set_printoptions
from nanotorch.autograd.graph.grad_mode import (
    enable_grad,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from nanotorch.autograd.graph.inference import inference_mode
from nanotorch.autograd.graph.tensor import Size, Tensor
from nanotorch.backend.device import Device as device
from nanotorch.capture.entry import compile
from nanotorch.dtypes import DType as dtype
from nanotorch.dtypes import bool_ as bool
from nanotorch.dtypes import (
    can_cast,
    double,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    iinfo,
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
from nanotorch.ops.create.convert import result_type
from nanotorch.ops.create.creation import (
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
from nanotorch.ops.create.legacy import (
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
)
from nanotorch.ops.linalg.norm import cosine_similarity, pairwise_distance
from nanotorch.ops.linalg.statistics import pdist
from nanotorch.ops.index.indices import tril_indices, triu_indices
from nanotorch.ops.shape.views import broadcast_shapes
from nanotorch.ops.create.signal_windows import (
    bartlett_window,
    blackman_window,
    hamming_window,
    hann_window,
    kaiser_window,
)
from nanotorch.ops.create.random import (
    Generator,
    default_generator,
    get_rng_state,
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
    set_rng_state,
)
from nanotorch.explain import explain
from nanotorch.summary import summary
from nanotorch.utils.serialization import load, save
from numpy import newaxis

# --- operators: written by `python -m nanotorch.ops.docs.stubs` ---
from nanotorch.ops.create.random import bernoulli, multinomial
from nanotorch.ops.elementwise.activation import celu, hardshrink, prelu, relu, rrelu, selu, sigmoid, threshold
from nanotorch.ops.elementwise.arithmetic import (
    abs,
    absolute,
    add,
    addcdiv,
    addcmul,
    div,
    divide,
    float_power,
    floor_divide,
    fmod,
    hypot,
    ldexp,
    lerp,
    mul,
    multiply,
    neg,
    negative,
    positive,
    pow,
    reciprocal,
    remainder,
    rsqrt,
    rsub,
    sqrt,
    square,
    sub,
    subtract,
    true_divide,
)
from nanotorch.ops.elementwise.comparison import (
    allclose,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    eq,
    equal,
    ge,
    greater,
    greater_equal,
    gt,
    isclose,
    isfinite,
    isinf,
    isnan,
    isneginf,
    isposinf,
    isreal,
    le,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    not_equal,
)
from nanotorch.ops.elementwise.extrema import (
    clamp,
    clamp_max,
    clamp_min,
    clip,
    fmax,
    fmin,
    maximum,
    minimum,
    nan_to_num,
    where,
)
from nanotorch.ops.elementwise.numbers import frexp, gcd, lcm, mvlgamma, nextafter
from nanotorch.ops.elementwise.rounding import (
    ceil,
    copysign,
    fix,
    floor,
    frac,
    heaviside,
    round,
    sgn,
    sign,
    signbit,
    trunc,
)
from nanotorch.ops.elementwise.special import digamma, erf, erfc, erfinv, lgamma, logit, polygamma, sinc, xlogy
from nanotorch.ops.elementwise.transcendental import (
    acos,
    acosh,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    deg2rad,
    exp,
    exp2,
    expm1,
    log,
    log10,
    log1p,
    log2,
    logaddexp,
    logaddexp2,
    rad2deg,
    sin,
    sinh,
    tan,
    tanh,
)
from nanotorch.ops.index.gather import gather, index_select, masked_select, take, take_along_dim
from nanotorch.ops.index.index import index_put
from nanotorch.ops.index.indices import combinations, unravel_index
from nanotorch.ops.index.scatter import (
    index_add,
    index_copy,
    index_fill,
    index_reduce,
    masked_fill,
    masked_scatter,
    put,
    scatter,
    scatter_add,
    scatter_reduce,
)
from nanotorch.ops.index.scattered_parts import as_strided_scatter, diagonal_scatter, select_scatter, slice_scatter
from nanotorch.ops.linalg.decomposition import cholesky
from nanotorch.ops.linalg.determinant import det, logdet, slogdet
from nanotorch.ops.linalg.einsum import einsum
from nanotorch.ops.linalg.norm import cdist, dist, norm
from nanotorch.ops.linalg.products import (
    addbmm,
    addmm,
    addmv,
    addr,
    baddbmm,
    bmm,
    cross,
    dot,
    ger,
    inner,
    kron,
    matmul,
    mm,
    mv,
    outer,
    tensordot,
    vdot,
)
from nanotorch.ops.linalg.pseudoinverse import matrix_exp, pinverse
from nanotorch.ops.linalg.solve import cholesky_inverse, cholesky_solve, inverse, matrix_power
from nanotorch.ops.linalg.statistics import corrcoef, cov, mode, renorm
from nanotorch.ops.linalg.vandermonde import vander
from nanotorch.ops.nn.convolution import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from nanotorch.ops.nn.normalization import group_norm, rms_norm
from nanotorch.ops.nn.pixel_blocks import channel_shuffle, pixel_shuffle, pixel_unshuffle
from nanotorch.ops.nn.softmax_family import log_softmax, softmax
from nanotorch.ops.reduce.integral import cumulative_trapezoid, gradient
from nanotorch.ops.reduce.order import kthvalue, median, nanmedian, nanquantile, quantile
from nanotorch.ops.reduce.reductions import (
    all,
    amax,
    amin,
    aminmax,
    any,
    argmax,
    argmin,
    count_nonzero,
    logsumexp,
    max,
    mean,
    min,
    nanmean,
    nansum,
    prod,
    sum,
)
from nanotorch.ops.reduce.scan import cummax, cummin, cumprod, cumsum, diff, logcumsumexp, trapezoid, trapz
from nanotorch.ops.reduce.search import (
    argsort,
    argwhere,
    bincount,
    bucketize,
    histc,
    histogram,
    isin,
    msort,
    nonzero,
    searchsorted,
    sort,
    topk,
    unique,
    unique_consecutive,
)
from nanotorch.ops.reduce.variance import std, std_mean, var, var_mean
from nanotorch.ops.shape.geometry import as_strided
from nanotorch.ops.shape.join import (
    block_diag,
    cartesian_prod,
    cat,
    column_stack,
    concat,
    concatenate,
    dstack,
    hstack,
    meshgrid,
    row_stack,
    stack,
    vstack,
)
from nanotorch.ops.shape.query import (
    conj,
    detach,
    get_device,
    is_complex,
    is_floating_point,
    is_inference,
    is_nonzero,
    is_same_size,
    is_signed,
    numel,
)
from nanotorch.ops.shape.rearrange import (
    diag,
    diag_embed,
    diagflat,
    flip,
    fliplr,
    flipud,
    narrow_copy,
    repeat_interleave,
    roll,
    rot90,
    tile,
    trace,
    tril,
    triu,
)
from nanotorch.ops.shape.split import chunk, dsplit, hsplit, split, split_with_sizes, tensor_split, unbind, vsplit
from nanotorch.ops.shape.views import (
    adjoint,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_tensors,
    broadcast_to,
    clone,
    diagonal,
    flatten,
    moveaxis,
    movedim,
    narrow,
    permute,
    ravel,
    reshape,
    select,
    squeeze,
    swapaxes,
    swapdims,
    t,
    transpose,
    unflatten,
    unsqueeze,
)

# fmt: off
__all__ = [
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "Generator", "HalfTensor", "IntTensor",
    "LongTensor", "ShapeError", "ShortTensor", "Size", "Tensor", "abs", "absolute", "acos", "acosh", "add", "addbmm",
    "addcdiv", "addcmul", "addmm", "addmv", "addr", "adjoint", "all", "allclose", "amax", "amin", "aminmax", "any",
    "arange", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort",
    "argwhere", "as_strided", "as_strided_scatter", "as_tensor", "asin", "asinh", "atan", "atan2", "atanh",
    "atleast_1d", "atleast_2d", "atleast_3d", "autograd", "baddbmm", "bartlett_window", "bernoulli", "bincount",
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "blackman_window", "block_diag", "bmm", "bool", "broadcast_shapes", "broadcast_tensors", "broadcast_to",
    "bucketize", "can_cast", "cartesian_prod", "cat", "cdist", "ceil", "celu", "channel_shuffle", "cholesky",
    "cholesky_inverse", "cholesky_solve", "chunk", "clamp", "clamp_max", "clamp_min", "clip", "clone", "column_stack",
    "combinations", "compile", "concat", "concatenate", "conj", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "copysign", "corrcoef", "cos", "cosh", "cosine_similarity",
    "count_nonzero", "cov", "cross", "cuda", "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid",
    "default_generator", "deg2rad", "det", "detach", "device", "diag", "diag_embed", "diagflat", "diagonal",
    "diagonal_scatter", "diff", "digamma", "dist", "distributed", "div", "divide", "dot", "double", "dsplit", "dstack",
    "dtype", "e", "einsum", "empty", "empty_like", "enable_grad", "eq", "equal", "erf", "erfc", "erfinv", "exp",
    "exp2", "explain", "expm1", "eye", "finfo", "fix", "flatten", "flip", "fliplr", "flipud", "float", "float16",
    "float32", "float64", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frac", "frexp",
    "from_dlpack", "from_numpy", "full", "full_like", "func", "gather", "gcd", "ge", "ger", "get_default_dtype",
    "get_device", "get_rng_state", "gradient", "greater", "greater_equal", "group_norm", "gt", "half",
    "hamming_window", "hann_window", "hardshrink", "heaviside", "histc", "histogram", "hsplit", "hstack", "hypot",
    "iinfo", "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "index_select", "inf",
    "inference_mode", "initial_seed", "inner", "int", "int16", "int32", "int64", "int8", "inverse",
    "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "is_complex", "is_floating_point", "is_grad_enabled",
    "is_inference", "is_inference_mode_enabled", "is_nonzero", "is_same_size", "is_signed", "is_tensor", "isclose",
    "isfinite", "isin", "isinf", "isnan", "isneginf", "isposinf", "isreal", "kaiser_window", "kron", "kthvalue", "lcm",
    "ldexp", "le", "lerp", "less", "less_equal", "lgamma", "linalg", "linspace", "load", "log", "log10", "log1p",
    "log2", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp", "logdet", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "long", "lt", "manual_seed", "masked_fill",
    "masked_scatter", "masked_select", "matmul", "matrix_exp", "matrix_power", "max", "maximum", "mean", "median",
    "meshgrid", "min", "minimum", "mm", "mode", "moveaxis", "movedim", "msort", "mul", "multinomial", "multiply", "mv",
    "mvlgamma", "nan", "nan_to_num", "nanmean", "nanmedian", "nanquantile", "nansum", "narrow", "narrow_copy", "ne",
    "neg", "negative", "newaxis", "nextafter", "nn", "no_grad", "nonzero", "norm", "normal", "not_equal", "numel",
    "ones", "ones_like", "optim", "outer", "pairwise_distance", "pdist", "permute", "pi", "pinverse", "pixel_shuffle",
    "pixel_unshuffle", "polygamma", "positive", "pow", "prelu", "prod", "promote_types", "put", "quantile", "rad2deg",
    "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "random", "randperm", "ravel", "reciprocal",
    "relu", "remainder", "renorm", "repeat_interleave", "reshape", "result_type", "return_types", "rms_norm", "roll",
    "rot90", "round", "row_stack", "rrelu", "rsqrt", "rsub", "save", "scalar_tensor", "scatter", "scatter_add",
    "scatter_reduce", "searchsorted", "seed", "select", "select_scatter", "selu", "set_default_dtype",
    "set_grad_enabled", "set_printoptions", "set_rng_state", "sgn", "short", "sigmoid", "sign", "signbit", "sin",
    "sinc", "sinh", "slice_scatter", "slogdet", "softmax", "sort", "special", "split", "split_with_sizes", "sqrt",
    "square", "squeeze", "stack", "std", "std_mean", "sub", "subtract", "sum", "summary", "swapaxes", "swapdims", "t",
    "take", "take_along_dim", "tan", "tanh", "tensor", "tensor_split", "tensordot", "threshold", "tile", "topk",
    "trace", "transpose", "trapezoid", "trapz", "tril", "tril_indices", "triu", "triu_indices", "true_divide", "trunc",
    "uint8", "unbind", "unflatten", "unique", "unique_consecutive", "unravel_index", "unsqueeze", "utils", "vander",
    "var", "var_mean", "vdot", "viz", "vsplit", "vstack", "where", "xlogy", "zeros", "zeros_like",
]
# fmt: on
# --- end of operators ---

__version__ = "0.1.0"

_teach()
_command_start.imported()


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
