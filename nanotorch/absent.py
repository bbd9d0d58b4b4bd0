"""What PyTorch has and nanotorch has not, where a sentence says what to do instead: the AttributeError tells it."""

from __future__ import annotations

import sys
from opcode import opmap

from nanotorch import dtypes

REAL = "tensors hold real numbers only"
DENSE = "tensors are dense: use zeros and scatter_add, or nn.Embedding for indices"
BATCHED = (
    "it needs a batching rule for every operator; operators batch by broadcasting, and per-sample gradients come from a"
    " loop over func.grad"
)
MIXED = "there is no mixed precision: convert a model with .half(), .float() or .double()"
LINALG = "it is in torch.linalg"
THREADS = "NumPy's BLAS has the threads: set OMP_NUM_THREADS or OPENBLAS_NUM_THREADS before the start"
POOLS = "pools have one or two dimensions"
LAZY = "layers are told how many features they get: a forward pass of the layers before says how many"
ENCODER = "of transformers there is the encoder: TransformerEncoder, TransformerEncoderLayer, MultiheadAttention"
FACTORS = "solve, inv, det and cholesky do what the factors are for"
IMPORT_FROM = opmap["IMPORT_FROM"]

ABSENT: dict[str, dict[str, str]] = {
    "nanotorch": {
        **dtypes.ABSENT,
        **dict.fromkeys(
            ("complex", "polar", "real", "imag", "angle", "view_as_complex", "view_as_real", "fft", "stft", "istft"),
            REAL,
        ),
        **dict.fromkeys(("sparse", "sparse_coo_tensor", "sparse_csr_tensor", "sparse_tensor"), DENSE),
        **dict.fromkeys(("autocast", "amp", "GradScaler"), MIXED),
        **dict.fromkeys(("svd", "qr", "lstsq", "matrix_rank", "solve", "eig", "symeig"), LINALG),
        **dict.fromkeys(
            ("get_num_threads", "set_num_threads", "get_num_interop_threads", "set_num_interop_threads"), THREADS
        ),
        **dict.fromkeys(("jit", "fx"), "programs run as Python: there is no TorchScript and no tracer"),
        "vmap": BATCHED,
        "set_default_device": "give device= where tensors are made, or move a module with .to(device)",
        "onnx": "python -m nanotorch.export writes a trained run as ONNX",
        "profiler": "torch.summary and Python's cProfile say where time and memory go",
    },
    "nanotorch.nn": {
        **dict.fromkeys(
            (
                "MaxPool3d",
                "AvgPool3d",
                "AdaptiveAvgPool3d",
                "AdaptiveMaxPool3d",
                "LPPool3d",
                "FractionalMaxPool2d",
                "FractionalMaxPool3d",
            ),
            POOLS,
        ),
        **dict.fromkeys(("Transformer", "TransformerDecoder", "TransformerDecoderLayer"), ENCODER),
        **dict.fromkeys(
            (
                "LazyLinear",
                "LazyConv1d",
                "LazyConv2d",
                "LazyConv3d",
                "LazyBatchNorm1d",
                "LazyBatchNorm2d",
                "LazyBatchNorm3d",
                "UninitializedParameter",
                "UninitializedBuffer",
            ),
            LAZY,
        ),
        **dict.fromkeys(("DataParallel", "SyncBatchNorm"), "a model computes on one device"),
        "EmbeddingBag": "nn.Embedding looks the vectors of a bag up; sum or average them over its dimension",
        "CrossMapLRN2d": "nn.LocalResponseNorm computes the same",
        "NLLLoss2d": "nn.NLLLoss takes images too",
        "Container": "nn.Module holds modules",
        "Buffer": "use module.register_buffer(name, tensor)",
    },
    "nanotorch.nn.init": {
        name: f"it is called {name}_, as it writes in place"
        for name in (
            "uniform",
            "normal",
            "constant",
            "eye",
            "xavier_uniform",
            "xavier_normal",
            "kaiming_uniform",
            "kaiming_normal",
            "orthogonal",
        )
    },
    "nanotorch.nn.utils": {
        "clip_grad_norm": "it is called clip_grad_norm_, as it writes in place",
        "prune": "multiply the weights by a mask: parametrize.register_parametrization keeps it",
        "skip_init": "layers are small: make them, then fill them by nn.init",
        "stateless": "func.functional_call calls a module with other parameters",
    },
    "nanotorch.nn.utils.parametrizations": {
        "orthogonal": (
            "register a parametrization that returns linalg.matrix_exp(x.triu(1) - x.triu(1).mT), for square weights"
        )
    },
    "nanotorch.optim": {
        **dict.fromkeys(
            ("Adafactor", "Muon"),
            "it is for the large matrices of language models: AdamW, NAdam and RAdam serve small ones",
        ),
        "SparseAdam": "gradients are dense: use Adam",
    },
    "nanotorch.func": {
        **dict.fromkeys(("vmap", "stack_module_state"), BATCHED),
        "linearize": "func.jvp takes the tangent with the point",
        "functionalize": "in-place operations are differentiable as they are",
    },
    "nanotorch.autograd": {
        "forward_ad": "func.jvp and autograd.functional.jvp give forward derivatives",
        "profiler": "torch.summary and Python's cProfile say where time and memory go",
    },
    "nanotorch.linalg": {
        **dict.fromkeys(
            ("eig", "eigvals"), f"{REAL}, and eigenvalues may be complex; eigh and eigvalsh take symmetric matrices"
        ),
        **dict.fromkeys(
            ("lu", "lu_factor", "lu_factor_ex", "lu_solve", "ldl_factor", "ldl_factor_ex", "ldl_solve"), FACTORS
        ),
    },
    "nanotorch.utils.data": {
        **dict.fromkeys(
            ("IterDataPipe", "MapDataPipe", "DFIterDataPipe", "datapipes"),
            "Dataset and IterableDataset hold data, DataLoader makes batches",
        )
    },
}
"""Reasons by module and name; a name that comes into being has to go from here."""


def teach() -> None:
    """Give every module of the table a `__getattr__` that raises AttributeError,
    with the sentence if there is one for the name.

    `from module import name` would hide it behind an ImportError of its own: so one is raised there.
    """
    for module, reasons in ABSENT.items():

        def __getattr__(name: str, module: str = module, reasons: dict[str, str] = reasons) -> object:
            reason = f": {reasons[name]}" if name in reasons else ""
            caller = sys._getframe(1)
            if reason and caller.f_code.co_code[caller.f_lasti] == IMPORT_FROM:
                raise ImportError(f"cannot import name {name!r} from {module!r}{reason}", name=module)
            raise AttributeError(
                f"module {module!r} has no attribute {name!r}{reason}", name=name, obj=sys.modules[module]
            )

        sys.modules[module].__getattr__ = __getattr__  # type: ignore[method-assign]
