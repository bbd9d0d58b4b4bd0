"""Names of PyTorch's that are not here say what to do instead, and are neither here nor made up."""

from __future__ import annotations

import importlib

import pytest

import nanotorch as torch
from nanotorch.absent import ABSENT
from oracle import require


def test_what_is_absent_is_absent_and_says_so() -> None:
    for module, reasons in ABSENT.items():
        place = importlib.import_module(module)
        assert not (here := set(reasons) & set(dir(place))), f"{module}: {here} are here now"
        for name, reason in reasons.items():
            with pytest.raises(AttributeError) as caught:
                getattr(place, name)
            assert str(caught.value) == f"module {module!r} has no attribute {name!r}: {reason}"
    with pytest.raises(AttributeError, match=r"^module 'nanotorch\.nn' has no attribute 'Linaer'$"):
        _ = torch.nn.Linaer
    assert not hasattr(torch.optim, "Lion")


def test_an_import_of_the_name_says_so_too() -> None:
    with pytest.raises(
        ImportError, match=r"^cannot import name 'orthogonal' from '.*\.parametrizations': register a param"
    ):
        from nanotorch.nn.utils.parametrizations import orthogonal  # noqa: F401
    with pytest.raises(ImportError, match=r"^cannot import name 'vmap' from 'nanotorch': it needs a batching rule"):
        from nanotorch import matmul, vmap  # noqa: F401
    with pytest.raises(ImportError, match=r"^cannot import name 'Linaer' from 'nanotorch\.nn' \("):
        from nanotorch.nn import Linaer  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import nanotorch.vmap  # noqa: F401
    assert not hasattr(torch, "vmap")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_it_is_pytorchs_name() -> None:
    # of older versions, or a module by itself
    renamed = {"symeig", "eig", "solve", "sparse_tensor", "stateless", "prune"}
    for module, reasons in ABSENT.items():
        place = require(module.replace("nanotorch", "torch", 1))
        unknown = {name for name in reasons if not hasattr(place, name)} - renamed
        assert not unknown, f"{module}: {unknown}"
