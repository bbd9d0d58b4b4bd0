"""Grad mode in generators, coroutines and threads, and backward passes side by side."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.autograd.graph.grad_mode import recording
from oracle import ones, programs


@programs
class TestContexts:
    def bare_decorators(self, lib: Any) -> Any:
        @lib.no_grad
        def off() -> Any:
            return lib.is_grad_enabled()

        @lib.enable_grad
        def on() -> Any:
            return lib.is_grad_enabled()

        with lib.no_grad():
            inside = on(), off()
        return inside, on(), off()

    def set_grad_enabled_in_its_three_forms(self, lib: Any) -> Any:
        log = []
        lib.set_grad_enabled(False)
        log.append(lib.is_grad_enabled())
        lib.set_grad_enabled(mode=True)
        with lib.set_grad_enabled(False):
            log.append(lib.is_grad_enabled())
        log.append(lib.is_grad_enabled())

        @lib.set_grad_enabled(False)
        def function() -> Any:
            return lib.is_grad_enabled()

        return log, function(), lib.is_grad_enabled()

    def a_with_inside_a_generator_leaks(self, lib: Any) -> Any:
        def values() -> Any:
            with lib.no_grad():
                yield lib.is_grad_enabled()

        generator = values()
        inside = next(generator)
        between = lib.is_grad_enabled()
        generator.close()
        return inside, between, lib.is_grad_enabled()

    def a_decorated_generator_does_not(self, lib: Any) -> Any:
        log = []

        @lib.no_grad()
        def values() -> Any:
            try:
                log.append((yield lib.is_grad_enabled()))
            except ValueError:
                log.append(("caught", lib.is_grad_enabled()))
            try:
                yield "next"
            finally:
                log.append(("closed", lib.is_grad_enabled()))
            return "unused"

        sent, thrown = values(), values()
        log.append((next(sent), lib.is_grad_enabled(), sent.send("sent"), lib.is_grad_enabled()))
        log.append((next(thrown), thrown.throw(ValueError()), lib.is_grad_enabled()))
        sent.close()
        for generator in (sent, thrown):
            log.append(list(generator))
        return log, lib.is_grad_enabled()

    def the_return_value_of_a_generator(self, lib: Any) -> Any:
        @lib.no_grad()
        def inner() -> Any:
            yield 1
            return lib.is_grad_enabled()

        def outer() -> Any:
            yield (yield from inner())

        return list(outer())

    def errors_in_a_decorated_generator(self, lib: Any) -> Any:
        @lib.no_grad()
        def values() -> Any:
            yield 1
            raise ValueError

        generator = values()
        next(generator)
        try:
            next(generator)
        except ValueError:
            return lib.is_grad_enabled(), list(generator)


class TestAsync:
    def test_decorated_coroutines_run_in_the_mode(self) -> None:
        log: list[Any] = []

        @torch.no_grad()
        async def inside() -> str:
            log.append(torch.is_grad_enabled())
            await asyncio.sleep(0)
            log.append(torch.is_grad_enabled())
            return "done"

        async def main() -> None:
            result, _ = await asyncio.gather(inside(), outside())
            log.append((result, torch.is_grad_enabled()))

        async def outside() -> None:
            for _ in range(3):
                assert torch.is_grad_enabled()
                await asyncio.sleep(0)

        asyncio.run(main())
        assert log == [False, False, ("done", True)]

    def test_they_do_not_leak_to_whoever_drives_them(self) -> None:
        class Pause:
            def __await__(self) -> Any:
                yield

        @torch.no_grad()
        async def inside() -> bool:
            await Pause()
            return torch.is_grad_enabled()

        coroutine = inside()
        coroutine.send(None)
        assert torch.is_grad_enabled()
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        assert stop.value.value is False

    def test_asynchronous_generators(self) -> None:
        log: list[Any] = []

        @torch.no_grad()
        async def values() -> Any:
            try:
                got = yield torch.is_grad_enabled()
                await asyncio.sleep(0)
                try:
                    yield got
                except ValueError:
                    yield torch.is_grad_enabled()
            finally:
                log.append(("closed", torch.is_grad_enabled()))

        async def main() -> None:
            generator = values()
            log.append((await generator.__anext__(), torch.is_grad_enabled()))
            log.append((await generator.asend("sent"), torch.is_grad_enabled()))
            log.append((await generator.athrow(ValueError()), torch.is_grad_enabled()))
            await generator.aclose()
            log.append([value async for value in values()])

        asyncio.run(main())
        assert log == [
            (False, True),
            ("sent", True),
            (False, True),
            ("closed", False),
            ("closed", False),
            [False, None],
        ]

    def test_tasks_have_their_own_mode(self) -> None:
        async def work(mode: bool) -> list[bool]:
            seen = []
            with torch.set_grad_enabled(mode):
                for _ in range(3):
                    seen.append(torch.is_grad_enabled())
                    await asyncio.sleep(0)
            return seen

        async def main() -> Any:
            return await asyncio.gather(work(False), work(True))

        assert asyncio.run(main()) == [[False] * 3, [True] * 3]

    def test_a_task_starts_with_the_mode_in_which_it_was_made_and_a_thread_without(self) -> None:
        async def main() -> Any:
            with torch.no_grad():
                task = asyncio.create_task(asyncio.sleep(0, torch.is_grad_enabled()))
                inherited = asyncio.to_thread(torch.is_grad_enabled)
                bare = asyncio.get_running_loop().run_in_executor(None, torch.is_grad_enabled)
                return await task, await inherited, await bare

        assert asyncio.run(main()) == (False, False, True)


class TestThreads:
    def test_one_context_object_in_several_threads(self) -> None:
        mode, barrier, seen = torch.no_grad(), threading.Barrier(2), []

        def work(first: bool) -> None:
            with mode:
                barrier.wait()
                seen.append(torch.is_grad_enabled())
                if not first:
                    barrier.wait()
            if first:
                barrier.wait()
            seen.append(torch.is_grad_enabled())

        threads = [threading.Thread(target=work, args=(first,)) for first in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == [False, False, True, True]
        with mode:
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()

    def test_a_generator_that_another_thread_closes(self) -> None:
        """Whoever closes it keeps its own mode."""

        def values() -> Any:
            with torch.no_grad():
                yield 1

        generator, seen = values(), []
        started = threading.Thread(target=lambda: next(generator))
        started.start()
        started.join()
        thread = threading.Thread(target=lambda: (generator.close(), seen.append(torch.is_grad_enabled())))
        thread.start()
        thread.join()
        assert seen == [True]

    def test_executors(self) -> None:
        x = ones(torch, 3)
        with torch.no_grad(), concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(lambda: torch.autograd.grad((x * x).sum(), x)[0]) for _ in range(4)]
            assert [future.result().tolist() for future in futures] == [[2.0] * 3] * 4
            assert not torch.is_grad_enabled()

    def test_no_gradient_of_a_shared_leaf_is_lost(self) -> None:
        """Several threads run backward passes into one parameter:
        graphs of their own, and one graph that they share.
        """
        x = torch.zeros(1000, dtype=torch.float64, requires_grad=True)
        shared = (x * 3.0).sum()
        rounds, count = 100, 8
        barrier = threading.Barrier(count)

        def work() -> None:
            barrier.wait()
            for _ in range(rounds):
                (x * 2.0).sum().backward()
                shared.backward(retain_graph=True)

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(x.grad.numpy(), 5.0 * rounds * count)

    def test_threads_that_meet_at_a_new_leaf_find_one_node(self) -> None:
        for _ in range(20):
            x, found = ones(torch, 1), []
            barrier = threading.Barrier(4)

            def work(x: Any = x, found: Any = found, barrier: Any = barrier) -> None:
                barrier.wait()
                found.append((x + 1).grad_fn.next_functions[0][0])

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(set(found)) == 1

    def test_a_graph_made_in_one_thread_and_differentiated_in_another(self) -> None:
        x, made = ones(torch, 3), []
        thread = threading.Thread(target=lambda: made.append((x.tanh() * x).sum()))
        thread.start()
        thread.join()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(made[0].backward).result()
        expected = torch.autograd.grad((x.tanh() * x).sum(), x)[0]
        assert torch.equal(x.grad, expected)

    def test_an_error_in_a_thread_leaves_the_mode_of_all(self) -> None:
        def fail() -> Any:
            y = ones(torch, 2) * 2
            y.register_hook(lambda grad: 1 / 0)
            try:
                y.sum().backward()
            except ZeroDivisionError:
                return torch.is_grad_enabled()

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert [future.result() for future in [pool.submit(fail) for _ in range(4)]] == [True] * 4
        assert recording() is True

    def test_observers_of_one_thread_hear_nothing_of_others(self) -> None:
        packed = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (packed.append(1), t)[1], lambda t: t):
            thread = threading.Thread(target=lambda: ones(torch, 2) * ones(torch, 2))
            thread.start()
            thread.join()
        assert packed == []


def test_an_unfinished_generator_is_collected_quietly() -> None:
    @torch.no_grad()
    def values() -> Any:
        yield 1
        yield 2

    next(values())
    gc.collect()
    assert torch.is_grad_enabled()
