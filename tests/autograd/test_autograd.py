"""The graph, backward, grad, modes, hooks, errors, and tensors among Python and NumPy."""

from __future__ import annotations

import copy
import re
import threading
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import pytorch


def ones(*shape: int, **options: Any) -> Any:
    return torch.ones(shape, requires_grad=True, **options)


class TestGraph:
    def test_leaves(self) -> None:
        x = ones(2)
        y = x * 2
        assert x.is_leaf and x.grad_fn is None and not y.is_leaf and y.requires_grad
        assert torch.ones(2).is_leaf and (torch.ones(2) * 2).is_leaf
        assert y.detach().is_leaf and y.detach().requires_grad_().is_leaf

    OPERATIONS = (
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: x * x,
        lambda x: x / 2,
        lambda x: x**2,
        lambda x: -x,
        lambda x: x @ x,
        lambda x: x.mm(x),
        lambda x: x.exp(),
        lambda x: x.relu(),
        lambda x: x.sum(),
        lambda x: x.mean(),
        lambda x: x.t(),
        lambda x: x.transpose(0, 1),
        lambda x: x[0],
        lambda x: x[:1],
        lambda x: x.view(4),
        lambda x: x.reshape(4),
        lambda x: x.clone(),
        lambda x: x.tanh(),
        lambda x: x.sigmoid(),
        lambda x: x.unsqueeze(0),
        lambda x: x.expand(1, 2, 2),
        lambda x: x.softmax(0),
        lambda x: x.log_softmax(0),
        lambda x: x.max(),
        lambda x: x.double(),
        lambda x: x.abs(),
        lambda x: x.unbind(0)[1],
        lambda x: x.permute(1, 0),
        lambda x: x[[0]],
        lambda x: x.addmm(x, x),
        lambda x: x.diagonal(),
    )

    @pytest.mark.parity
    @pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
    def test_nodes_are_named_and_linked_as_in_pytorch(self, operation: Any) -> None:
        shown = []
        for library in (pytorch, torch):
            node = operation(library.ones(2, 2, requires_grad=True)).grad_fn
            following = [(n and n.name().split("::")[-1], k) for n, k in node.next_functions if n is not None]
            shown.append((node.name(), following))
        assert shown[0] == shown[1]

    def test_inputs_without_history_have_no_edge(self) -> None:
        x, constant = ones(2), torch.ones(2)
        assert (constant * x).grad_fn.next_functions == (
            (None, 0),
            (x.grad_fn or (x + 1).grad_fn.next_functions[0][0], 0),
        )

    def test_one_accumulator_per_leaf(self) -> None:
        x = ones(2)
        y, z = x * 2, x.exp()
        accumulator = y.grad_fn.next_functions[0][0]
        assert accumulator is z.grad_fn.next_functions[0][0] and accumulator.variable is x
        assert accumulator.name() == "AccumulateGrad" and accumulator.next_functions == ()

    def test_output_numbers(self) -> None:
        first, second = ones(2, 2).unbind(0)
        assert (first.output_nr, second.output_nr) == (0, 1) and first.grad_fn is second.grad_fn
        assert (first + second).grad_fn.next_functions == ((first.grad_fn, 0), (first.grad_fn, 1))

    def test_calling_nodes(self) -> None:
        x = ones(2)
        y = x * x
        first, second = y.grad_fn(torch.ones(2))
        assert first.tolist() == second.tolist() == [1.0, 1.0] and first.requires_grad
        seed = torch.ones(2)
        assert y.grad_fn.next_functions[0][0](seed) == ()
        seed.zero_()
        assert x.grad.tolist() == [1.0, 1.0]

    def test_repr(self) -> None:
        x = ones(1)
        assert re.fullmatch(r"<MulBackward0 object at 0x[0-9a-f]+>", repr((x * 2).grad_fn))
        assert repr(x * 2) == "tensor([2.], grad_fn=<MulBackward0>)"


class TestBackward:
    def test_a_vector_jacobian_product(self) -> None:
        x = ones(3)
        y = x * torch.tensor([1.0, 2.0, 3.0])
        y.backward(torch.tensor([1.0, 10.0, 100.0]))
        assert x.grad.tolist() == [1.0, 20.0, 300.0]

    def test_on_a_leaf(self) -> None:
        x, seed = ones(2), torch.tensor([3.0, 4.0])
        x.backward(seed)
        seed.zero_()
        assert x.grad.tolist() == [3.0, 4.0]

    def test_retain_graph(self) -> None:
        x = ones(2)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [4.0, 4.0]
        with pytest.raises(RuntimeError, match="a second time"):
            y.backward()
        linear = (x + 1).sum()  # nothing is saved
        linear.backward()
        linear.backward()

    def test_create_graph(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        (x**3).backward(create_graph=True)
        (x**3).backward(create_graph=True)
        assert x.grad.item() == 24.0
        assert torch.autograd.grad(x.grad, x)[0].item() == 24.0

    def test_inputs(self) -> None:
        x, w = ones(2), ones(2)
        y = x * w
        (y * 3).sum().backward(inputs=[y, x, x], retain_graph=True)
        assert w.grad is None and x.grad.tolist() == [3.0, 3.0] and y.grad.tolist() == [3.0, 3.0]
        with pytest.raises(RuntimeError, match="empty"):
            y.sum().backward(inputs=[])

    def test_several_roots(self) -> None:
        x = ones(2)
        scalar, vector = (x * 2).sum(), x * 3
        torch.autograd.backward([scalar, vector, scalar], [None, torch.ones(2), torch.tensor(10.0)])
        assert x.grad.tolist() == [25.0, 25.0]
        with pytest.raises(RuntimeError, match="got 1 tensors and 2 gradients"):
            torch.autograd.backward([vector], [torch.ones(2), torch.ones(2)])

    def test_a_leaf_used_by_operations_old_and_new(self) -> None:
        """The leaf's gradient is complete when it is handed out, hooked or captured, whichever use came first."""
        x = ones(1)
        old = x * 2.0
        seen = []
        x.register_hook(lambda grad: seen.append(grad.tolist()))
        loss = (x * 3.0).sum() + (old * x).sum() + (x * 5.0).sum()
        assert torch.autograd.grad(loss, x, retain_graph=True)[0].tolist() == [12.0]
        assert torch.autograd.grad(loss, x, create_graph=True)[0].tolist() == [12.0]
        loss.backward()
        assert x.grad.tolist() == [12.0] and seen == [[12.0]] * 3

    def test_broadcasting_is_undone(self) -> None:
        x, y, s = ones(3, 1), ones(1, 4), torch.tensor(2.0, requires_grad=True)
        (x * y * s).sum().backward()
        assert x.grad.tolist() == [[8.0]] * 3 and y.grad.tolist() == [[6.0] * 4] and s.grad.item() == 12.0

    def test_dtypes_of_gradients_are_those_of_the_leaves(self) -> None:
        x, y = ones(2), ones(2, dtype=torch.float64)
        (x * y).sum().backward()
        assert x.grad.dtype is torch.float32 and y.grad.dtype is torch.float64

    def test_inside_no_grad(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        y = x**3
        with torch.no_grad():
            (first,) = torch.autograd.grad(y, x, create_graph=True)
        assert torch.autograd.grad(first, x)[0].item() == 12.0

    def test_a_gradient_that_the_graph_saved(self) -> None:
        """x.grad is a value of the graph and the place of the result: it is written when nobody needs the old one."""
        x = ones(2)
        x.grad = torch.ones(2)
        ((x * x.grad).sum() + (x * 2 * x.grad).sum()).backward()
        assert x.grad.tolist() == [4.0, 4.0]


class TestAccumulation:
    def test_memory_is_kept(self) -> None:
        x = ones(2)
        (x * 2).sum().backward()
        before = x.grad
        (x * 3).sum().backward()
        assert x.grad is before and before.tolist() == [5.0, 5.0] and before._version == 1

    @pytest.mark.parametrize("create_graph", [False, True])
    @pytest.mark.parametrize(
        "combine",
        [
            lambda a, b: a + b,
            lambda a, b: torch.cat([a, b]),
            lambda a, b: torch.stack([a, b]),
            lambda a, b: a.view(2) + b[:],
            lambda a, b: a + b + a + b,
            lambda a, b: torch.where(torch.ones(2) > 0, a, b) + b,
        ],
    )
    def test_no_two_gradients_share_memory(self, combine: Any, create_graph: bool) -> None:
        a, b = ones(2), ones(2)
        z = combine(a, b)
        z.retain_grad()
        seed = torch.ones_like(z)
        z.backward(seed, create_graph=create_graph)
        arrays = [t.detach().numpy() for t in (a.grad, b.grad, z.grad, seed)]
        for k, first in enumerate(arrays):
            assert not any(np.shares_memory(first, second) for second in arrays[k + 1 :])
        with torch.no_grad():
            a.grad.zero_()
        assert b.grad.tolist() != [0.0, 0.0] and seed.sum().item() == seed.numel()

    def test_results_of_grad_share_no_memory(self) -> None:
        a, b, seed = ones(2), ones(2), torch.ones(2)
        z = a + b
        first, second, whole = torch.autograd.grad(z, (a, b, z), seed)
        first.zero_()
        whole.zero_()
        assert second.tolist() == seed.tolist() == [1.0, 1.0]

    def test_what_hooks_keep_is_not_written(self) -> None:
        x, kept = ones(2), []
        y = x * 2
        y.grad_fn.register_hook(lambda inputs, outputs: kept.append(inputs[0]))
        x.register_hook(kept.append)
        y.sum().backward()
        x.grad.zero_()
        assert [t.tolist() for t in kept] == [[2.0, 2.0]] * 2

    def test_numbers_of_no_dimension(self) -> None:
        x, seed = torch.tensor(1.0, requires_grad=True), torch.tensor(1.0)
        values, _ = x.sort()
        values.backward(seed)
        x.grad.zero_()
        assert seed.item() == 1.0


class TestRetainGrad:
    def test_accumulates_after_hooks(self) -> None:
        x = ones(2)
        y = x * 2
        y.retain_grad()
        y.retain_grad()
        y.register_hook(lambda grad: grad * 10)
        for _ in range(2):
            (y * 3).sum().backward(retain_graph=True)
        assert y.grad.tolist() == [60.0, 60.0] and y.retains_grad and x.grad.tolist() == [120.0, 120.0]

    def test_on_leaves_and_constants(self) -> None:
        x = ones(2)
        x.retain_grad()
        assert not x.retains_grad
        with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
            torch.ones(2).retain_grad()


class TestRequiresGrad:
    def test_switching(self) -> None:
        x = torch.ones(2)
        assert x.requires_grad_() is x and x.requires_grad
        x.requires_grad = False
        assert not (x * 2).requires_grad
        y = x.requires_grad_() * 2
        y.requires_grad = True
        with pytest.raises(RuntimeError, match="only change requires_grad flags of leaf variables"):
            y.requires_grad_(False)
        with pytest.raises(RuntimeError, match=r"only Tensors of floating point dtype.*torch.int64.*float\(\)"):
            torch.ones(2, dtype=torch.int64).requires_grad_()

    def test_detach(self) -> None:
        x = ones(2)
        y = x * 2
        d = y.detach()
        assert not d.requires_grad and d.data_ptr() == y.data_ptr() and d._base is None
        assert y.detach_() is y and y.is_leaf and not y.requires_grad


class TestGradMode:
    def test_context_and_nesting(self) -> None:
        x = ones(1)
        with torch.no_grad():
            assert not (x * 2).requires_grad
            with torch.enable_grad():
                assert (x * 2).requires_grad
                with torch.no_grad():
                    assert not torch.is_grad_enabled()
                assert torch.is_grad_enabled()
            assert not torch.is_grad_enabled()
            assert torch.ones(1, requires_grad=True).requires_grad
        assert torch.is_grad_enabled()

    def test_exceptions_restore_the_mode(self) -> None:
        for make in (torch.no_grad, lambda: torch.set_grad_enabled(False)):
            with pytest.raises(KeyError), make():
                raise KeyError
            assert torch.is_grad_enabled()

    def test_one_object_nested_and_again(self) -> None:
        mode = torch.no_grad()
        with mode, mode:
            pass
        with mode:
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()

    def test_decorators(self) -> None:
        x = ones(1)

        @torch.no_grad()
        def first(x: Any) -> Any:
            """Documentation."""
            return x * 2

        @torch.no_grad
        def bare(x: Any) -> Any:
            return x * 2

        @torch.enable_grad()
        def enabled(x: Any) -> Any:
            return x * 2

        @torch.set_grad_enabled(False)
        def switched(x: Any) -> Any:
            return x * 2

        assert first.__name__ == "first" and first.__doc__ == "Documentation."
        assert not first(x).requires_grad and not bare(x).requires_grad and not switched(x).requires_grad
        with torch.no_grad():
            assert enabled(x).requires_grad
        assert torch.is_grad_enabled()

    def test_generators_run_in_the_mode_their_consumers_do_not(self) -> None:
        closed = []

        @torch.no_grad()
        def steps(x: Any) -> Any:
            try:
                got = yield (x * 1).requires_grad
                yield got, (x * 1).requires_grad
            finally:
                closed.append(torch.is_grad_enabled())

        generator = steps(ones(1))
        assert next(generator) is False and torch.is_grad_enabled()
        assert generator.send("sent") == ("sent", False) and torch.is_grad_enabled()
        generator.close()
        assert closed == [False] and next(steps(ones(1))) is False

    def test_set_grad_enabled(self) -> None:
        mode = torch.set_grad_enabled(False)
        assert not torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        with mode:
            assert not torch.is_grad_enabled()
        with torch.set_grad_enabled(False), torch.set_grad_enabled(True):
            assert torch.is_grad_enabled()
        assert torch.is_grad_enabled()

    def test_threads_have_their_own(self) -> None:
        seen = []
        with torch.no_grad():
            thread = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
            thread.start()
            thread.join()
        assert seen == [True]

    def test_threads_run_backward_side_by_side(self) -> None:
        leaves = [ones(20) for _ in range(4)]

        def work(x: Any) -> None:
            for _ in range(50):
                (x.tanh() * x).sum().backward()

        threads = [threading.Thread(target=work, args=(x,)) for x in leaves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({tuple(x.grad.tolist()) for x in leaves}) == 1


class TestGrad:
    def test_leaves_the_grads_alone(self) -> None:
        x = ones(2)
        y = x * 2
        z = y * 3
        by_y, by_x, by_z = torch.autograd.grad(z.sum(), [y, x, z])
        assert (by_y.tolist(), by_x.tolist(), by_z.tolist()) == ([3.0, 3.0], [6.0, 6.0], [1.0, 1.0])
        assert x.grad is None and not by_x.requires_grad

    def test_grad_outputs(self) -> None:
        x = ones(2)
        (g,) = torch.autograd.grad([x * 2, (x * 3).sum()], x, [torch.tensor([1.0, 10.0]), None])
        assert g.tolist() == [5.0, 23.0]

    def test_unused_inputs(self) -> None:
        x, unused = ones(2), ones(3)

        def run(**options: Any) -> Any:
            return torch.autograd.grad((x * 2).sum(), [x, unused], **options)

        with pytest.raises(
            RuntimeError, match=r"index 1 \(shape \(3,\)\) appears to not have been used.*allow_unused=True"
        ):
            run()
        assert run(allow_unused=True)[1] is None
        assert run(materialize_grads=True)[1].tolist() == [0.0, 0.0, 0.0]
        with pytest.raises(ValueError, match="allow_unused"):
            run(allow_unused=False, materialize_grads=True)
        with pytest.raises(RuntimeError, match="One of the differentiated Tensors does not require grad"):
            torch.autograd.grad((x * 2).sum(), torch.ones(2))

    def test_only_what_lies_on_the_way_runs(self) -> None:
        x, w = ones(2), ones(2)
        y = x.exp()
        z = (y * w).sum()
        ran = []
        y.grad_fn.register_hook(lambda *gradients: ran.append("exp"))
        torch.autograd.grad(z, w, retain_graph=True)
        assert ran == []
        torch.autograd.grad(z, [w, x])
        assert ran == ["exp"]


class TestTensorHooks:
    def test_replacing_and_removing(self) -> None:
        for make in (lambda: ones(2), lambda: ones(2) * 1):
            x, seen = make(), []
            first = x.register_hook(lambda grad: seen.append(grad.tolist()))  # noqa: B023
            second = x.register_hook(lambda grad: grad * 2)
            third = x.register_hook(lambda grad: seen.append(grad.tolist()))  # noqa: B023
            (g,) = torch.autograd.grad((x * 3).sum(), x)
            assert seen == [[3.0, 3.0], [6.0, 6.0]] and g.tolist() == [6.0, 6.0]
            for handle in (first, second, third, third):
                handle.remove()
            assert torch.autograd.grad((x * 3).sum(), x)[0].tolist() == [3.0, 3.0] and len(seen) == 2
            with x.register_hook(lambda grad: grad * 0):
                pass
            assert torch.autograd.grad((x * 3).sum(), x)[0].tolist() == [3.0, 3.0]

    def test_a_hook_that_removes_itself(self) -> None:
        x, seen = ones(1), []
        handle = x.register_hook(lambda grad: (seen.append(1), handle.remove())[0])
        (x * 1).sum().backward()
        (x * 1).sum().backward()
        assert seen == [1]

    def test_under_create_graph_they_are_differentiated(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        y = x * x
        y.register_hook(lambda grad: grad * x)
        (first,) = torch.autograd.grad(y * 1, x, create_graph=True)
        assert first.item() == 8.0 and torch.autograd.grad(first, x)[0].item() == 8.0

    def test_errors(self) -> None:
        with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
            torch.ones(2).register_hook(lambda grad: grad)
        for result, error, message in (
            (torch.ones(3), RuntimeError, r"expected shape \(2,\), torch.float32 on cpu, got shape \(3,\)"),
            (torch.ones(2, dtype=torch.float64), RuntimeError, "got shape .*float64"),
            (3, TypeError, "must return None or a Tensor, got int"),
        ):
            y = ones(2) * 2
            y.register_hook(lambda grad, result=result: result)
            with pytest.raises(error, match=message):
                y.sum().backward()
            assert torch.is_grad_enabled()


class TestNodeHooks:
    @pytest.mark.parity
    def test_order_equals_pytorch(self) -> None:
        logs = []
        for library in (pytorch, torch):
            log: list[Any] = []
            x = library.ones(2, requires_grad=True)
            y = x * 2
            y.grad_fn.register_prehook(lambda grads, log=log: log.append(("pre", grads[0].tolist())))
            y.grad_fn.register_prehook(lambda grads: (grads[0] * 7,))
            y.grad_fn.register_hook(
                lambda inputs, outputs, log=log: log.append(
                    ("post", inputs[0].tolist(), inputs[1], outputs[0].tolist())
                )
            )
            y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 3, inputs[1]))
            y.retain_grad()
            y.register_hook(lambda grad: grad * 5)
            accumulator = y.grad_fn.next_functions[0][0]
            accumulator.register_prehook(lambda grads: (grads[0] + 1,))
            accumulator.register_hook(lambda inputs, outputs, log=log: log.append((inputs, outputs[0].tolist())))
            captured = library.autograd.grad(y.sum(), (x,), retain_graph=True)
            log.append([g.tolist() for g in captured])
            y.sum().backward()
            log += [y.grad.tolist(), x.grad.tolist()]
            logs.append(log)
        assert logs[0] == logs[1]

    def test_a_captured_gradient_is_that_of_the_tensor(self) -> None:
        """Its hooks have seen it, the node's prehooks have not."""
        y = ones(2) * 2
        y.register_hook(lambda grad: grad * 5)
        y.grad_fn.register_prehook(lambda grads: (grads[0] * 7,))
        assert torch.autograd.grad(y.sum(), y)[0].tolist() == [5.0, 5.0]

    def test_wrong_number_of_gradients(self) -> None:
        y = ones(2) * 2
        y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0],))
        with pytest.raises(RuntimeError, match=r"expected 2 \(or None\), got 1"):
            y.sum().backward()


class TestErrors:
    """Each says what happened, where in the forward code, and what to do."""

    def test_a_second_backward(self) -> None:
        x = ones(2)
        y = x.exp()
        y.sum().backward()
        with pytest.raises(
            RuntimeError, match=r"a second time.*ExpBackward0.*test_autograd\.py\", line \d+.*retain_graph=True"
        ):
            y.sum().backward()

    def test_the_line_is_the_users_even_through_composites_and_layers(self) -> None:
        x = ones(2, 2)
        layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
        for compute in (
            lambda: torch.nn.functional.softmax(x, 0),
            lambda: layer(x),
            lambda: torch.nn.functional.mse_loss(x, x + 1),
        ):
            y = compute()
            assert "test_autograd.py" in y.grad_fn.forward_line

    def test_no_scalar(self) -> None:
        with pytest.raises(RuntimeError, match=r"only for scalar outputs.*shape \(2,\).*\.sum\(\).*gradient="):
            (ones(2) * 2).backward()

    def test_a_gradient_of_another_shape(self) -> None:
        with pytest.raises(RuntimeError, match=r"Mismatch in shape.*\(3,\).*\(2,\)"):
            (ones(2) * 2).backward(torch.ones(3))
        with pytest.raises(TypeError, match="Tensors or None, but got float"):
            torch.autograd.backward([ones(2) * 2], [1.0])

    def test_no_path(self) -> None:
        with pytest.raises(
            RuntimeError, match=r"does not require grad and does not have a grad_fn.*requires_grad=True.*no_grad"
        ):
            torch.ones(2).sum().backward()

    def test_reading_values(self) -> None:
        x = ones(2)
        for read, error, message in (
            (lambda: x.numpy(), RuntimeError, r"requires grad. Use tensor.detach\(\).numpy\(\)"),
            (lambda: np.asarray(x), RuntimeError, "requires grad"),
            (lambda: x.item(), RuntimeError, "2 elements cannot be converted to Scalar"),
            (lambda: bool(x), RuntimeError, "ambiguous"),
            (lambda: len(x.sum()), TypeError, "0-d"),
            (lambda: iter(x.sum()), TypeError, "0-d"),
            (lambda: [1][torch.tensor(0.0)], TypeError, "only integer tensors"),
            (lambda: copy.deepcopy(x * 2), RuntimeError, "graph leaves"),
        ):
            with pytest.raises(error, match=message):
                read()


class TestPythonAndNumPy:
    def test_an_array_on_the_left_keeps_the_graph(self) -> None:
        x = ones(2, dtype=torch.float64)
        array = np.array([2.0, 3.0])
        for result, slope in (
            (array * x, [2.0, 3.0]),
            (array + x, [1.0, 1.0]),
            (array - x, [-1.0, -1.0]),
            (np.float64(4.0) * x, [4.0, 4.0]),
            (array / x, [-2.0, -3.0]),
            (x * array, [2.0, 3.0]),
        ):
            assert isinstance(result, torch.Tensor)
            assert torch.autograd.grad(result.sum(), x)[0].tolist() == slope
        assert (array @ x).item() == 5.0

    def test_memory_is_shared(self) -> None:
        x = torch.zeros(3)
        x.numpy()[0] = 1.0
        np.asarray(x)[1] = 2.0
        np.array(x)[2] = 3.0
        assert x.tolist() == [1.0, 2.0, 0.0]
        array = np.zeros(2)
        torch.from_numpy(array).add_(1)
        assert array.tolist() == [1.0, 1.0]
        assert np.asarray(x, dtype=np.float64).dtype == np.float64

    def test_deepcopy(self) -> None:
        x = ones(2)
        (x * 2).sum().backward()
        first, second = copy.deepcopy([x, x])
        assert first is second and first.requires_grad and first.is_leaf and first.grad.tolist() == [2.0, 2.0]
        first.grad.zero_()
        assert x.grad.tolist() == [2.0, 2.0] and first.data_ptr() != x.data_ptr()

    def test_numbers(self) -> None:
        assert torch.tensor(2.5).item() == 2.5 and isinstance(torch.tensor(3).item(), int)
        assert torch.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]] and torch.tensor(1.5).tolist() == 1.5
        assert int(torch.tensor(3.7)) == 3 and float(torch.tensor(3)) == 3.0 and [10, 20][torch.tensor(1)] == 20
        assert bool(torch.tensor([2.0])) and not torch.tensor(0)
        assert 2.5 in torch.tensor([1.0, 2.5]) and 3.0 not in torch.tensor([1.0, 2.5])
        assert list(range(5))[torch.tensor(2) :] == [2, 3, 4]

    def test_sequences(self) -> None:
        x = ones(2, 3)
        assert len(x) == 2
        rows = list(x)
        assert [row.shape for row in rows] == [(3,), (3,)]
        (rows[0] * 2 + rows[1] * 3).sum().backward()
        assert x.grad.tolist() == [[2.0] * 3, [3.0] * 3]
        assert len({x, x, rows[0]}) == 2
