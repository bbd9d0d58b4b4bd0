"""inference_mode: tensors that recording can never need; each program agrees with PyTorch."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd.graph.interpreter import at_rest
from nanotorch.autograd.graph.tensor import Tensor
from oracle import ones, programs


def made(lib: Any, *shape: int) -> Any:
    with lib.inference_mode():
        return lib.ones(shape)


@programs
class TestInside:
    def what_is_made(self, lib: Any) -> Any:
        with lib.inference_mode():
            a, b = lib.ones(2), lib.ones(2, requires_grad=True)
            values, _ = lib.tensor([2.0, 1.0]).sort()
            found = [a, a * 2, a[0], a.view(1, 2), a.detach(), a.clone(), b, values, a.unbind(0)[1], lib.cat([a, a])]
            return [t.is_inference() for t in found], b.requires_grad, (b * 2).requires_grad, lib.is_grad_enabled()

    def what_ordinary_tensors_become(self, lib: Any) -> Any:
        plain, leaf = lib.ones(2), ones(lib, 2)
        with lib.inference_mode():
            plain.add_(1)
            plain.mul_(lib.ones(2))
            leaf.mul_(3)
            found = [
                plain,
                plain[0],
                plain.detach(),
                plain.view(2, 1),
                plain * 2,
                leaf[:1],
                leaf * 2,
                plain.unbind(0)[0],
            ]
            flags = [(t.is_inference(), t.requires_grad) for t in found]
        return flags, plain, leaf, plain._version

    def nesting(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []

        def note() -> None:
            log.append(
                (
                    lib.is_inference_mode_enabled(),
                    lib.is_grad_enabled(),
                    lib.ones(1).is_inference(),
                    (x * 2).requires_grad,
                )
            )

        with lib.inference_mode():
            note()
            with lib.inference_mode(False):
                note()
                with lib.no_grad():
                    note()
                    with lib.inference_mode(False):
                        note()
            with lib.inference_mode(), lib.no_grad():
                note()
            note()
        note()
        return log

    def nothing_is_recorded_even_with_enable_grad(self, lib: Any) -> Any:
        x = ones(lib, 2)
        with lib.inference_mode(), lib.enable_grad():
            return (x * 2).requires_grad, lib.is_inference_mode_enabled()

    def decorators(self, lib: Any) -> Any:
        @lib.inference_mode()
        def called() -> Any:
            return lib.ones(1).is_inference()

        @lib.inference_mode
        def bare() -> Any:
            return lib.ones(1).is_inference()

        @lib.inference_mode(mode=False)
        def off() -> Any:
            return lib.ones(1).is_inference()

        @lib.inference_mode()
        def generator() -> Any:
            yield lib.is_inference_mode_enabled()
            yield lib.ones(1).is_inference()

        values = [(value, lib.is_inference_mode_enabled()) for value in generator()]
        return called(), bare(), off(), values

    def backward(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = (x * x).sum()
        with lib.inference_mode():
            y.backward()
        return x.grad, x.grad.is_inference()

    def writes_through_views(self, lib: Any) -> Any:
        with lib.inference_mode():
            a = lib.zeros(2)
            a[0].add_(1)
            a[1] = 5.0
            return a


@programs
class TestOutside:
    def version(self, lib: Any) -> Any:
        return made(lib, 2)._version

    def add_(self, lib: Any) -> Any:
        made(lib, 2).add_(1)

    def add_in_no_grad(self, lib: Any) -> Any:
        with lib.no_grad():
            made(lib, 2).add_(1)

    def copy_(self, lib: Any) -> Any:
        made(lib, 2).copy_(lib.zeros(2))

    def zero_(self, lib: Any) -> Any:
        made(lib, 2).zero_()

    def setitem(self, lib: Any) -> Any:
        made(lib, 2)[0] = 1

    def setitem_by_indices(self, lib: Any) -> Any:
        made(lib, 2)[lib.tensor([0])] = 1.0

    def fill_of_a_view(self, lib: Any) -> Any:
        made(lib, 2).view(2, 1)[0].fill_(3.0)

    def random_fill(self, lib: Any) -> Any:
        made(lib, 2).uniform_()

    def transpose_(self, lib: Any) -> Any:
        made(lib, 2, 3).t_()

    def requires_grad_(self, lib: Any) -> Any:
        made(lib, 2).requires_grad_()

    def saved_by_mul(self, lib: Any) -> Any:
        return ones(lib, 2) * made(lib, 2)

    def saved_by_a_matrix_product(self, lib: Any) -> Any:
        return ones(lib, 2, 2) @ made(lib, 2, 2)

    def saved_by_linear(self, lib: Any) -> Any:
        return lib.nn.functional.linear(made(lib, 2, 2), ones(lib, 2, 2))

    def a_view_of_it_saved(self, lib: Any) -> Any:
        return ones(lib, 2) * made(lib, 2, 2)[0]

    def saved_by_a_function(self, lib: Any) -> Any:
        class Keep(lib.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any, other: Any) -> Any:
                ctx.save_for_backward(other)
                return x * 1

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                return grad, None

        return Keep.apply(ones(lib, 2), made(lib, 2))

    def not_saved(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x + made(lib, 2)
        y.sum().backward()
        x.add_(made(lib, 2)) if not x.requires_grad else None
        return y.is_inference(), y.requires_grad, x.grad

    def results_and_views(self, lib: Any) -> Any:
        a = made(lib, 2)
        return [t.is_inference() for t in (a * 2, a.clone(), a[0], a.view(1, 2), a.detach(), a.sum(), a.unbind(0)[0])]

    def written_into_ordinary_tensors(self, lib: Any) -> Any:
        x = lib.zeros(2)
        x.add_(made(lib, 2))
        x[0] = made(lib)
        return x, x.is_inference()

    def a_leaf_that_saves_nothing(self, lib: Any) -> Any:
        with lib.inference_mode():
            a = lib.ones(2).requires_grad_()
        (a + 1).sum().backward()
        return a.requires_grad, a.is_inference(), a.grad

    def reading(self, lib: Any) -> Any:
        a = made(lib, 2)
        return a.numpy().tolist(), a.tolist(), repr(a), bool((a == 1).all())

    def a_view_made_inside_is_not_written_to_while_recording(self, lib: Any) -> Any:
        base = ones(lib, 2) * 1
        with lib.inference_mode():
            view = base[0]
        assert view.requires_grad and not view.is_inference()
        view.add_(1)


def test_nothing_is_written_before_the_refusal() -> None:
    a = made(torch, 2)
    for write in (lambda: a.add_(1), lambda: a.uniform_(), lambda: torch.nn.init.zeros_(a), lambda: a.zero_()):
        with pytest.raises(
            RuntimeError, match=r"Inplace update to inference tensor outside InferenceMode is not allowed.*clone"
        ):
            write()
    assert a.tolist() == [1.0, 1.0]


def test_error_of_saving() -> None:
    with pytest.raises(RuntimeError, match=r"Inference tensors cannot be saved for backward.*make a clone"):
        ones(torch, 2) * made(torch, 2)


def test_outside_everything_is_as_it_was() -> None:
    torch.ones(2) * 2
    assert at_rest()
    with torch.inference_mode(), pytest.raises(KeyError), torch.inference_mode():
        raise KeyError
    assert at_rest()
    assert type(torch.ones(2) * 2) is Tensor


def test_rows_that_are_compiled_inside() -> None:
    """A row's first call may come while the mode is on, and its second after it."""
    code = (
        "import nanotorch as torch\n"
        "with torch.inference_mode():\n    assert torch.ones(2).tanh().is_inference()\n"
        "assert not torch.ones(2).tanh().is_inference()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_threads_are_not_inside() -> None:
    x, found = ones(torch, 2), []

    def work() -> None:
        y = x * torch.ones(2)
        y.sum().backward()
        found.append((y.is_inference(), y.requires_grad, torch.is_inference_mode_enabled()))

    with torch.inference_mode():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [(False, True, False)] and x.grad.tolist() == [1.0, 1.0]


def test_copies() -> None:
    a = made(torch, 2)
    assert copy.deepcopy(a).tolist() == pickle.loads(pickle.dumps(a)).tolist() == [1.0, 1.0]


def test_modules_predict_and_train_again() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    with torch.inference_mode():
        inside = model.eval()(inputs)
    assert inside.is_inference() and not inside.requires_grad
    assert torch.equal(inside, model(inputs))
    model.train()(inputs).sum().backward()
    assert all(p.grad is not None and not p.grad.is_inference() for p in model.parameters())
