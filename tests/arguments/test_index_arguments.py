"""Indices, class numbers and positions: in range and out of it, of every dtype and shape,
beside PyTorch's values and errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

PROGRAMS = """
torch.ones(2, 3).take_along_dim([[0]], 1)
torch.ones(2, 3).masked_select(True)
torch.ones(2, 3).index_reduce(0, 1, torch.ones(1, 3), "amax")
torch.ones(2, 3).index_reduce(0, torch.tensor([0]), 1.0, "amax")
torch.ones(2,3).gather(1, torch.tensor([[3]]))
torch.ones(2,3).gather(1, torch.tensor([[-1]]))
torch.ones(2,3).gather(1, torch.tensor([0]))
torch.ones(2,3).gather(1, torch.tensor([[0.]]))
torch.ones(2,3).gather(1, torch.tensor([[0]]).int())
torch.ones(2,3).gather(1, torch.tensor([[True]]))
torch.ones(2,3).gather(1, torch.tensor([[0],[0],[0]]))
torch.ones(2,3).gather(1, [[0]])
torch.ones(2,3).scatter(1, torch.tensor([[3]]), 1.)
torch.ones(2,3).scatter(1, torch.tensor([[-1]]), 1.)
torch.ones(2,3).scatter(1, torch.tensor([[0.]]), 1.)
torch.ones(2,3).scatter(1, torch.tensor([[0]]).int(), 1.)
torch.ones(2,3).scatter(1, torch.tensor([[0]]), torch.ones(1,1,dtype=torch.float64))
torch.ones(2,3).scatter(1, torch.tensor([[3]]), torch.ones(1,1))
torch.ones(2,3).scatter_add(1, torch.tensor([[3]]), torch.ones(1,1))
torch.ones(2,3).scatter_add(1, torch.tensor([[0]]), torch.ones(1,1).double())
torch.ones(2,3).scatter_reduce(1, torch.tensor([[3]]), torch.ones(1,1), "amax")
torch.ones(2,3).scatter(1, torch.tensor([[3]]), torch.ones(1,1), reduce="add")
torch.ones(2,3).take_along_dim(torch.tensor([[-1],[-3]]), 1)
torch.ones(2,3).take_along_dim(torch.tensor([-1, -6]))
torch.ones(2,3).take_along_dim(torch.tensor([-7]))
torch.ones(2,3).take_along_dim(torch.tensor([0]), 1)
torch.ones(2,3).take_along_dim(torch.tensor([[0.],[0.]]), 1)
torch.ones(2,3).take_along_dim(torch.tensor([[0],[0],[0]]), 1)
torch.ones(2,3).index_select(1, torch.tensor([3]))
torch.ones(2,3).index_select(1, torch.tensor([-1]))
torch.ones(2,3).index_select(0, torch.tensor([2]))
torch.ones(2,3).index_select(0, torch.tensor([0.]))
torch.ones(2,3).index_select(0, torch.tensor([0]).int())
torch.ones(2,3).index_select(0, torch.tensor([True]))
torch.ones(2,3).index_select(0, torch.tensor([[0]]))
torch.ones(2,3).index_add(0, torch.tensor([2]), torch.ones(1,3))
torch.ones(2,3).index_add(0, torch.tensor([-1]), torch.ones(1,3))
torch.ones(2,3).index_add(0, torch.tensor([0.]), torch.ones(1,3))
torch.ones(2,3).index_add(0, torch.tensor([0]), torch.ones(2,3))
torch.ones(2,3).index_add(0, torch.tensor([0]), torch.ones(1,3).double())
torch.ones(2,3).index_copy(0, torch.tensor([2]), torch.ones(1,3))
torch.ones(2,3).index_copy(0, torch.tensor([-1]), torch.ones(1,3))
torch.ones(2,3).index_copy(0, torch.tensor([0.]), torch.ones(1,3))
torch.ones(2,3).index_copy(0, torch.tensor([0]), torch.ones(1,3).double())
torch.ones(2,3).index_fill(0, torch.tensor([2]), 1.)
torch.ones(2,3).index_fill(0, torch.tensor([-1]), 0.)
torch.ones(2,3).index_fill(0, torch.tensor([-3]), 0.)
torch.ones(2,3).take(torch.tensor([6]))
torch.ones(2,3).take(torch.tensor([-6]))
torch.ones(2,3).take(torch.tensor([-7]))
torch.ones(2,3).take(torch.tensor([0.]))
torch.ones(2,3).put(torch.tensor([6]), torch.ones(1))
torch.ones(2,3).put(torch.tensor([-6]), torch.ones(1))
torch.ones(2,3).put(torch.tensor([-7]), torch.ones(1))
torch.ones(2,3).put(torch.tensor([0.]), torch.ones(1))
torch.ones(2,3).put(torch.tensor([0]), torch.ones(1).double())
torch.ones(0).take(torch.tensor([0]))
torch.ones(0,3).take(torch.tensor([], dtype=torch.int64))
torch.ones(0,3).index_select(0, torch.tensor([0]))
torch.ones(0,3).gather(0, torch.tensor([[0]]))
F.embedding(torch.tensor([3]), torch.ones(3,2))
F.embedding(torch.tensor([-1]), torch.ones(3,2))
F.embedding(torch.tensor([0.]), torch.ones(3,2))
F.embedding(torch.tensor([0]).int(), torch.ones(3,2))
F.embedding(torch.tensor([True]), torch.ones(3,2))
F.embedding(torch.tensor([0]), torch.ones(3))
F.one_hot(torch.tensor([3]), 3)
F.one_hot(torch.tensor([-1]), 3)
F.one_hot(torch.tensor([-1]))
F.one_hot(torch.tensor([0.]), 3)
F.one_hot(torch.tensor([0]).int(), 3)
F.one_hot(torch.tensor([], dtype=torch.int64))
F.one_hot(torch.tensor([], dtype=torch.int64), 3)
F.one_hot(torch.tensor([0]), 0)
F.one_hot(torch.tensor([0]), -2)
F.nll_loss(torch.ones(2,3), torch.tensor([3,0]))
F.nll_loss(torch.ones(2,3), torch.tensor([-1,0]))
F.nll_loss(torch.ones(2,3), torch.tensor([-100,0]))
F.nll_loss(torch.ones(2,3), torch.tensor([0.,0.]))
F.nll_loss(torch.ones(2,3), torch.tensor([0,0]).to(torch.uint8))
F.nll_loss(torch.ones(2,3), torch.tensor([0]))
F.nll_loss(torch.ones(3), torch.tensor(3))
F.cross_entropy(torch.ones(2,3), torch.tensor([3,0]))
F.cross_entropy(torch.ones(2,3), torch.tensor([-1,0]))
F.cross_entropy(torch.ones(2,3), torch.tensor([0,0]).to(torch.uint8))
F.cross_entropy(torch.ones(2,3), torch.tensor([True, False]))
F.cross_entropy(torch.ones(2,3), torch.tensor([0.,0.]))
F.cross_entropy(torch.ones(2,3), torch.tensor([0,0]), label_smoothing=1.1)
F.cross_entropy(torch.ones(2,3), torch.tensor([0,0]), label_smoothing=1.0)
F.cross_entropy(torch.ones(2,3), torch.tensor([[0,0]]))
F.cross_entropy(torch.ones(2,3), torch.tensor([0,0,0]))
F.cross_entropy(torch.ones(3), torch.tensor(3))
F.multi_margin_loss(torch.ones(2,3), torch.tensor([3,0]))
F.multi_margin_loss(torch.ones(2,3), torch.tensor([-1,0]))
F.multilabel_margin_loss(torch.ones(2,3), torch.tensor([[3,0,-1],[0,-1,0]]))
F.multilabel_margin_loss(torch.ones(2,3), torch.tensor([[-2,0,-1],[0,-1,0]]))
torch.bincount(torch.tensor([-1]))
torch.bincount(torch.tensor([1.]))
torch.multinomial(torch.tensor([0.,0.,0.]), 1, True)
torch.multinomial(torch.tensor([[0.,1.],[0.,0.]]), 1, True)
torch.multinomial(torch.tensor([-1.,1.]), 1)
torch.multinomial(torch.tensor([nan,1.]), 1)
torch.multinomial(torch.tensor([inf,1.]), 1)
torch.multinomial(torch.tensor([1,1]), 1)
torch.multinomial(torch.ones(1,1,2), 1)
torch.multinomial(torch.ones(0), 1)
torch.multinomial(torch.ones(0,2), 1)
torch.multinomial(torch.ones(2,0), 1)
torch.multinomial(torch.tensor(1.), 1)
torch.arange(6.).reshape(2,3).take_along_dim(torch.tensor([[-1],[-3]]), 1)
torch.arange(6.).reshape(2,3).take_along_dim(torch.tensor([[-1,-2,-1]]), 0)
torch.arange(6.).reshape(2,3).take_along_dim(torch.tensor(1), 0)
torch.tensor(5.).take_along_dim(torch.tensor(0), 0)
torch.tensor(5.).take_along_dim(torch.tensor([0]))
torch.tensor(5.).take_along_dim(torch.tensor(0))
torch.arange(6.).take_along_dim(torch.tensor([[1,2],[0,0]]))
torch.arange(6.).reshape(2,3)[1.5]
torch.arange(6.).reshape(2,3)["a"]
torch.arange(6.).reshape(2,3)[None,...,None].shape
torch.arange(6.).reshape(2,3)[...,...]
torch.arange(6.).reshape(2,3)[None]
torch.arange(6.).reshape(2,3)[()]
torch.arange(6.).reshape(2,3)[True]
torch.arange(6.).reshape(2,3)[False]
torch.arange(6.).reshape(2,3)[True, 0]
torch.arange(6.).reshape(2,3)[[True, False]]
torch.arange(6.).reshape(2,3)[[]]
torch.arange(6.).reshape(2,3)[0,0,0]
torch.arange(6.).reshape(2,3)[2]
torch.arange(6.).reshape(2,3)[-3]
torch.arange(6.).reshape(2,3)[0:2:-1]
torch.arange(6.).reshape(2,3)[::0]
torch.arange(6.).reshape(2,3)[1.0:]
torch.arange(6.).reshape(2,3)["a":]
torch.arange(6.).reshape(2,3)[torch.tensor(1)]
torch.arange(6.).reshape(2,3)[torch.tensor(1.)]
torch.arange(6.).reshape(2,3)[torch.tensor([0.,1.])]
torch.arange(6.).reshape(2,3)[torch.tensor([0,2])]
torch.arange(6.).reshape(2,3)[torch.tensor([-1,-3])]
torch.arange(6.).reshape(2,3)[torch.tensor([0,1]), torch.tensor([0,1,2])]
torch.arange(6.).reshape(2,3)[torch.tensor([0,1]), torch.tensor([3,1])]
torch.arange(6.).reshape(2,3)[torch.tensor([True,False,True])]
torch.arange(6.).reshape(2,3)[torch.tensor([True,False])]
torch.arange(6.).reshape(2,3)[torch.tensor(True)]
torch.arange(6.).reshape(2,3)[torch.tensor(False)]
torch.arange(6.).reshape(2,3)[torch.tensor([1,0],dtype=torch.uint8)]
torch.arange(6.).reshape(2,3)[torch.tensor([1,0],dtype=torch.int32)]
torch.arange(6.).reshape(2,3)[:, torch.tensor([[0,1],[2,0]])]
torch.arange(6.).reshape(2,3)[None, torch.tensor([0,1]), None].shape
torch.arange(6.).reshape(2,3)[np.array([0,1])]
torch.arange(6.).reshape(2,3)[np.int64(1)]
torch.arange(6.).reshape(2,3)[np.float64(1)]
torch.arange(6.).reshape(2,3)[{}]
torch.arange(6.).reshape(2,3)[{1}]
torch.arange(6.).reshape(2,3)[1j]
torch.arange(6.).reshape(2,3)[object()]
torch.arange(6.).reshape(2,3)[range(2)]
torch.arange(6.).reshape(2,3)[(0,"a")]
torch.arange(6.).reshape(2,3)[0, 1.5]
torch.arange(6.).reshape(2,3)[0, None, 1]
torch.arange(6.).reshape(2,3)[[0,1],[1,2]]
torch.arange(6.).reshape(2,3)[([0,1],[1,2])]
torch.arange(6.).reshape(2,3)[[[0,1],[1,2]]]
torch.arange(6.).reshape(2,3)[[slice(0,1)]]
torch.arange(6.).reshape(2,3)[[None]]
torch.arange(6.).reshape(2,3)[["a"]]
torch.arange(6.).reshape(2,3)[b"a"]
torch.tensor(1.)[0]
torch.tensor(1.)[...]
torch.tensor(1.)[None]
torch.tensor(1.)[()]
torch.tensor(1.)[True]
torch.tensor(1.)[:]
torch.tensor(1.)["a"]
torch.tensor(1.)[1.5]
torch.arange(6.).reshape(2,3)[:10**30]
torch.arange(6.).reshape(2,3)[-10**30:]
torch.arange(6.).__setitem__(1.5, 0)
torch.arange(6.).__setitem__("a", 0)
torch.arange(6.).__setitem__(6, 0)
torch.arange(6.).__setitem__(torch.tensor([6]), 0)
torch.arange(6.).__setitem__(torch.tensor([-7]), 0)
torch.arange(6.).__setitem__(torch.tensor([1.]), 0)
torch.arange(6.).__setitem__(0, "a")
torch.arange(6.).__setitem__(0, None)
torch.arange(6.).__setitem__(slice(0,2), torch.ones(3))
torch.arange(6.).__setitem__(torch.tensor([0,1]), torch.ones(3))
torch.arange(6.).__setitem__(torch.tensor([True,False]), 1)
torch.arange(6.).index_put((torch.tensor([6]),), torch.tensor(1.))
torch.arange(6.).index_put((torch.tensor([0]),torch.tensor([0])), torch.tensor(1.))
torch.arange(6.).index_put((torch.tensor([0.]),), torch.tensor(1.))
torch.arange(6.).index_put((torch.tensor([0]),), torch.tensor(1.).double())
torch.arange(6.).select(0, 6)
torch.arange(6.).select(0, -7)
torch.arange(6.).narrow(0, 7, 0)
torch.arange(6.).narrow(0, 0, 7)
torch.arange(6.).narrow(0, -7, 1)
torch.arange(6.).narrow(0, 0, -1)
torch.arange(6.).masked_select(torch.tensor([True]))
torch.arange(6.).masked_select(torch.tensor([True, False]))
torch.arange(6.).masked_select(torch.tensor([1, 0, 1, 0, 1, 0]))
torch.arange(6.).masked_fill(torch.tensor([1, 0, 1, 0, 1, 0]), 0.)
torch.arange(6.).masked_fill(torch.tensor([True, False]), 0.)
torch.arange(6.).masked_scatter(torch.tensor([True]*6), torch.ones(2))
torch.where(torch.tensor([1,0]), torch.ones(2), torch.zeros(2))
torch.cat([torch.ones(0), torch.ones(2,3)])
torch.cat([torch.ones(0), torch.ones(2,3)], 1)
torch.cat([torch.ones(2,3), torch.ones(0)], -1)
torch.cat([torch.ones(0), torch.ones(0)], 0)
torch.cat([torch.ones(0,3), torch.ones(2,2)], 0)
torch.cat([torch.ones(0,0), torch.ones(2,2)], 0)
torch.cat([torch.ones(0), torch.ones(2,2,2)], 2)
torch.cat([torch.ones(0), torch.ones(2,2,2)], -3)
torch.cat([torch.ones(0), torch.ones(2,2,2)], -4)
torch.cat([torch.ones(0).long(), torch.ones(2,2)], 0)
torch.cat([torch.ones(0).double(), torch.ones(2,2)], 0)
torch.cat([torch.ones(0), torch.ones(2,2).long()], 0)
torch.cat([torch.ones(0), torch.ones(2,2), torch.ones(0)], 1)
torch.cat([torch.ones(1), torch.ones(2,2)], 0)
torch.cat([torch.ones(0), torch.tensor(1.)], 0)
torch.cat([torch.tensor(1.), torch.ones(2)], 0)
torch.cat([torch.ones(2), torch.tensor(1.)], 0)
torch.cat([], 0)
torch.cat([torch.ones(2), 1.], 0)
torch.cat((torch.ones(2,2),), 0)
torch.cat([torch.ones(2,2), torch.ones(3,3)], 0)
torch.stack([torch.ones(0), torch.ones(2,2)])
torch.stack([torch.ones(0), torch.ones(0)])
torch.hstack([torch.ones(0), torch.ones(2,2)])
torch.hstack([torch.ones(2,2), torch.ones(0)])
torch.hstack([torch.ones(0), torch.ones(2)])
torch.hstack([torch.ones(0), torch.tensor(2.)])
torch.vstack([torch.ones(0), torch.ones(2,2)])
torch.vstack([torch.ones(0), torch.ones(0)])
torch.dstack([torch.ones(0), torch.ones(2,2)])
torch.column_stack([torch.ones(0), torch.ones(2,2)])
torch.column_stack([torch.ones(2,2), torch.ones(0)])
torch.concat([torch.ones(0), torch.ones(2,2)], 1)
torch.row_stack([torch.ones(0), torch.ones(2,2)])
torch.stack([], 0)
torch.hstack([])
torch.vstack([])
torch.block_diag(torch.ones(0), torch.ones(2,2))
torch.split(torch.ones(2,3), 0)
torch.split(torch.ones(2,3), -1)
torch.split(torch.ones(2,3), [1,2])
torch.chunk(torch.ones(2,3), 0)
torch.repeat_interleave(torch.ones(2,3), torch.tensor([1,-1]), 0)
torch.repeat_interleave(torch.ones(2,3), torch.tensor([1,1,1]), 0)
torch.bincount(torch.tensor([3]), minlength=-1)
torch.bincount(torch.tensor([[3]]))
torch.bincount(torch.tensor([3]), torch.ones(2))
torch.searchsorted(torch.tensor([1.,2.]), torch.tensor([[1.]]))
torch.topk(torch.ones(3), 4)
torch.topk(torch.ones(3), -1)
torch.kthvalue(torch.ones(3), 0)
torch.kthvalue(torch.ones(3), 4)
torch.ones(3).unfold(0, 4, 1)
torch.ones(3).unfold(0, 2, 0)
torch.ones(3).unfold(0, -1, 1)
torch.gradient(torch.tensor([1,4,9,16]))
torch.gradient(torch.tensor([1.,4.,9.]), spacing=torch.tensor(2.))
torch.gradient(torch.tensor([1.,4.]), edge_order=1)
torch.gradient(torch.tensor([1.,4.]), edge_order=2)
torch.gradient(torch.tensor([1.]))
torch.gradient(torch.tensor(1.))
torch.gradient(torch.ones(2,3), dim=2)
torch.gradient(torch.ones(2,3), dim=(0,0))
torch.gradient(torch.ones(2,3), spacing=[1.,2.,3.])
torch.gradient(torch.ones(2,3), edge_order=3)
torch.gradient(torch.arange(6.).reshape(2,3), spacing=[torch.tensor([0.,2.]), torch.tensor([0.,1.,5.])])
torch.gradient(torch.arange(6.).reshape(2,3), spacing=2, dim=0)
torch.gradient(torch.arange(6.).reshape(2,3), spacing=(2,3), dim=(1,0))
torch.histogram(torch.tensor([1.,2.,1.]), 0)
torch.histogram(torch.tensor([1.,2.,1.]), 2, range=(3.,1.))
torch.histogram(torch.tensor([]), 2)
torch.histogram(torch.tensor([1.,nan]), 2)
torch.histogram(torch.tensor([1,2]), 2)
torch.histogram(torch.tensor([1.,2.,1.]), 2, weight=torch.ones(2))
torch.histogram(torch.rand(50)*0+torch.arange(50.)/7, 11)
torch.histogram(torch.tensor([1.,2.,1.]), torch.tensor([2.,1.,3.]))
torch.histogram(torch.tensor([1.,2.,1.]), torch.tensor([[2.,1.,3.]]))
torch.histogram(torch.tensor([1.,2.,1.]), torch.tensor([2.]))
torch.cholesky_solve(torch.ones(2), torch.eye(2))
torch.cholesky_inverse(torch.ones(2,3))
torch.cholesky_inverse(torch.ones(3))
torch.special.xlog1py(torch.tensor([1,2]), 2)
torch.special.xlog1py(2, torch.tensor([1.,2.]))
torch.special.xlog1py(torch.tensor([1,2]), torch.tensor(1., dtype=torch.float64))
torch.arange(6.).index_reduce_(0, torch.tensor([0,0]), torch.tensor([2.,3.]), "mean")
torch.arange(6.).index_reduce(0, torch.tensor([0,0]), torch.tensor([2.,3.]), "sum")
torch.arange(6.).index_reduce(0, torch.tensor([0.,0]), torch.tensor([2.,3.]), "mean")
torch.arange(6.).index_reduce(0, torch.tensor([0]), torch.tensor([2.,3.]), "mean")
torch.arange(6.).index_reduce(0, torch.tensor([7]), torch.tensor([2.]), "mean")
torch.tensor(3.).index_reduce(0, torch.tensor([0]), torch.tensor(2.), "prod")
torch.arange(6).index_reduce(0, torch.tensor([0,0]), torch.tensor([2,4]), "mean")
torch.arange(6.).index_reduce(3, torch.tensor([0]), torch.tensor([2.]), "mean")
""".strip().splitlines()


def run(library: Any, program: str) -> Any:
    names = {
        "torch": library,
        "F": library.nn.functional,
        "nn": library.nn,
        "np": np,
        "inf": float("inf"),
        "nan": float("nan"),
    }
    try:
        return eval(program, names)
    except Exception as error:
        return error


def agree(mine: Any, other: Any) -> bool:
    """Whether values, shapes and dtypes are equal, or both raise, and ours can be caught as PyTorch's."""
    if isinstance(other, Exception):
        return isinstance(mine, Exception) and type(other).__name__ in [kind.__name__ for kind in type(mine).__mro__]
    if isinstance(other, tuple | list):
        return len(mine) == len(other) and all(agree(a, e) for a, e in zip(mine, other, strict=True))
    if not hasattr(other, "numpy"):
        return bool(mine == other)
    if (
        not isinstance(mine, nanotorch.Tensor)
        or tuple(mine.shape) != tuple(other.shape)
        or str(mine.dtype) != str(other.dtype)
    ):
        return False
    return np.allclose(mine.numpy().astype(float), other.numpy().astype(float), 1e-6, 1e-6, equal_nan=True)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_as_in_pytorch() -> None:
    found = [
        f"{p}: {mine!r}, PyTorch {other!r}"
        for p in PROGRAMS
        if not agree(mine := run(nanotorch, p), other := run(pytorch, p))
    ]
    assert not found, "\n".join(found)


OUTSIDE = {
    "x.gather(1, torch.tensor([[3]]))": "gather: index 3 is out of bounds for dimension 1 with size 3",
    "x.scatter(1, torch.tensor([[-1]]), 1.0)": "scatter: index -1 is out of bounds for dimension 1 with size 3",
    "x.scatter_(1, torch.tensor([[4]]), torch.ones(1, 1))": (
        "scatter: index 4 is out of bounds for dimension 1 with size 3"
    ),
    "x.scatter_add(0, torch.tensor([[2]]), torch.ones(1, 1))": (
        "scatter_add: index 2 is out of bounds for dimension 0 with size 2"
    ),
    "x.scatter_reduce(0, torch.tensor([[2]]), torch.ones(1, 1), 'sum')": (
        "scatter_reduce: index 2 is out of bounds for dimension 0 with size 2"
    ),
    "x.take_along_dim(torch.tensor([[-4]]), 1)": (
        "take_along_dim: index -4 is out of bounds for dimension 1 with size 3"
    ),
    "x.take_along_dim(torch.tensor([6]))": "take_along_dim: index 6 is out of bounds for dimension 0 with size 6",
    "x.index_select(1, torch.tensor([3]))": "index_select: index 3 is out of bounds for dimension 1 with size 3",
    "x.index_add(0, torch.tensor([2]), torch.ones(1, 3))": (
        "index_add: index 2 is out of bounds for dimension 0 with size 2"
    ),
    "x.index_copy(0, torch.tensor([2]), torch.ones(1, 3))": (
        "index_copy: index 2 is out of bounds for dimension 0 with size 2"
    ),
    "x.index_fill(0, torch.tensor([-3]), 1.0)": "index_fill: index -3 is out of bounds for dimension 0 with size 2",
    "x.take(torch.tensor([6]))": "take: index 6 is out of bounds for dimension 0 with size 6",
    "x.put(torch.tensor([-7]), torch.ones(1))": "put: index -7 is out of bounds for dimension 0 with size 6",
    "F.embedding(torch.tensor([2]), x)": "embedding: index 2 is out of bounds for dimension 0 with size 2",
    "F.nll_loss(x, torch.tensor([0, 3]))": "nll_loss: Target 3 is out of bounds: classes are numbered 0 to 2",
    "F.cross_entropy(x, torch.tensor([0, -1]))": (
        "cross_entropy: Target -1 is out of bounds: classes are numbered 0 to 2"
    ),
    "F.multi_margin_loss(x, torch.tensor([0, 3]))": (
        "multi_margin_loss: target out of range: classes are numbered 0 to 2"
    ),
}


def test_the_sentence_names_op_index_and_size() -> None:
    for program, sentence in OUTSIDE.items():
        names = {"torch": nanotorch, "F": nanotorch.nn.functional, "x": nanotorch.arange(6.0).reshape(2, 3)}
        with pytest.raises(IndexError) as error:
            eval(program, names)
        assert str(error.value).startswith(sentence) and isinstance(error.value, RuntimeError), program


def test_no_index_becomes_a_value_in_silence() -> None:
    x = nanotorch.zeros(3)
    for value in (None, "1", b"1", object(), {}):
        with pytest.raises(TypeError, match="can't assign a"):
            x[0] = value
    assert x.tolist() == [0.0, 0.0, 0.0]
