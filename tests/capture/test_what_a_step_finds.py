"""A program sees what changes in odd places: odd keys, classes, slots, functions, the user's own kinds of things."""

from __future__ import annotations

import argparse
import array
import collections
import contextvars
import enum
import functools
import itertools
import logging
import operator
import os
import pathlib
import re
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.recorder import CaptureError
from tests.support.captured_steps import programs

Change = tuple[Callable[..., Any], Callable[[], Any]]


class Kind(enum.Enum):
    """Keys that are no text."""

    ONE = 1
    TWO = 2


def changes() -> list[Callable[[], Change]]:
    """Functions, each with what changes around it."""

    def of_one_of_several_keys_that_are_no_text() -> Change:
        table = {Kind.ONE: 2.0, Kind.TWO: 3.0}
        return (lambda x: x * table[Kind.ONE] + table[Kind.TWO]), (lambda: table.update({Kind.ONE: 5.0}))

    def of_a_tensor_under_such_a_key() -> Change:
        table = {(0, 1): torch.ones(4), (1, 0): torch.ones(4)}
        return (lambda x: x * table[0, 1] + table[1, 0]), (lambda: table.update({(0, 1): torch.ones(4) * 5}))

    def of_keys_that_are_spelled_alike() -> Change:
        table: dict[Any, Any] = {1: 2.0, "1": 3.0, "a": {"b": 1.0}, "a.b": 1.0}
        return (lambda x: x * table[1] + table["1"] + table["a"]["b"]), (lambda: table.update({1: 5.0, "a": {"b": 3}}))

    def of_the_order_of_a_dictionary() -> Change:
        table = {"double": lambda x: x * 2, "more": lambda x: x + 1}
        return (lambda x: functools.reduce(lambda x, part: part(x), table.values(), x)), (
            lambda: table.update(double=table.pop("double"))
        )

    def of_what_a_class_had_not() -> Change:
        kind = type("Kind", (), {})
        return (lambda x: x * getattr(kind(), "scale", 2.0)), (lambda: setattr(kind, "scale", 5.0))

    def of_a_subclass_that_hides_the_class_s() -> Change:
        kind = type("Kind", (type("Base", (), {"scale": 2.0}),), {})
        thing = kind()
        return (lambda x: x * thing.scale), (lambda: setattr(kind, "scale", 5.0))

    def of_a_class_of_a_class() -> Change:
        meta = type("Meta", (type,), {"scale": 2.0})
        kind = meta("Kind", (), {})
        return (lambda x: x * kind.scale), (lambda: setattr(meta, "scale", 5.0))

    def of_a_slot_that_was_empty() -> Change:
        thing = type("Thing", (), {"__slots__": ("scale",)})()
        return (lambda x: x * (thing.scale if hasattr(thing, "scale") else 2.0)), lambda: setattr(thing, "scale", 5.0)

    def of_the_only_slot() -> Change:
        thing = type("Thing", (), {"__slots__": "scale"})()
        thing.scale = 2.0
        return (lambda x: x * thing.scale), (lambda: setattr(thing, "scale", 5.0))

    def of_a_private_slot() -> Change:
        class Thing:
            __slots__ = ("__scale",)

            def set(self, scale: float) -> None:
                self.__scale = scale

            def get(self) -> float:
                return self.__scale

        thing = Thing()
        thing.set(2.0)
        return (lambda x: x * thing.get()), (lambda: thing.set(5.0))

    def of_a_dictionary_with_attributes() -> Change:
        table = type("Table", (dict,), {})()
        table.scale = 2.0
        return (lambda x: x * table.scale), (lambda: setattr(table, "scale", 5.0))

    def of_what_a_tuple_s_method_reads() -> Change:
        box = [2.0]

        class Pair(NamedTuple):
            one: float

            def scale(self) -> float:
                return self.one * box[0]

        pair = Pair(1.0)
        return (lambda x: x * pair.scale()), (lambda: box.__setitem__(0, 5.0))

    def of_what_a_number_s_method_reads() -> Change:
        box = [2.0]
        number = type("Number", (float,), {"scale": lambda self: self * box[0]})(1.0)
        return (lambda x: x * number.scale()), (lambda: box.__setitem__(0, 5.0))

    def of_what_an_operator_reads() -> Change:
        box = [2.0]
        thing: Any = type("Thing", (), {"__matmul__": lambda self, x: x * box[0]})()
        return (lambda x: thing @ x), (lambda: box.__setitem__(0, 5.0))

    def of_an_attribute_of_a_member_of_an_enum() -> Change:
        kind = enum.Enum("kind", "ONE")
        kind.ONE.scale = 2.0  # type: ignore[attr-defined]
        return (lambda x: x * kind.ONE.scale), (lambda: setattr(kind.ONE, "scale", 5.0))  # type: ignore[attr-defined]

    def of_an_attribute_of_the_function() -> Change:
        def function(x: Any) -> Any:
            return x * function.scale  # type: ignore[attr-defined]

        function.scale = 2.0  # type: ignore[attr-defined]
        return function, (lambda: setattr(function, "scale", 5.0))

    def of_an_attribute_of_a_cached_function() -> Change:
        function: Any = functools.cache(lambda: 1.0)
        function.scale = 2.0
        return (lambda x: x * function() * function.scale), (lambda: setattr(function, "scale", 5.0))

    def of_an_attribute_of_a_partial() -> Change:
        function: Any = functools.partial(lambda x: x)
        function.scale = 2.0
        return (lambda x: function(x) * function.scale), (lambda: setattr(function, "scale", 5.0))

    def of_the_class_of_a_key() -> Change:
        table: dict[Any, str] = {1: ""}
        return (lambda x: x / sum(table)), (lambda: (table.clear(), table.update({1.5 - 0.5: ""})))

    def of_the_class_of_an_entry_of_a_set() -> Change:
        numbers: set[Any] = {1}
        return (lambda x: x / sum(numbers)), (lambda: (numbers.clear(), numbers.add(True)))

    def of_how_long_a_deque_may_be() -> Change:
        box = [collections.deque([2.0], maxlen=2)]
        return (lambda x: x * box[0].maxlen), (lambda: box.__setitem__(0, collections.deque([2.0], maxlen=5)))

    def of_an_attribute_of_the_library_s_optimizer() -> Change:
        optimizer: Any = torch.optim.Adam([torch.ones(4, requires_grad=True)])
        optimizer.scale = 2.0
        return (lambda x: x * optimizer.scale), (lambda: setattr(optimizer, "scale", 5.0))

    def of_an_attribute_that_an_optimizer_had_not() -> Change:
        optimizer: Any = torch.optim.Adam([torch.ones(4, requires_grad=True)])
        return (lambda x: x * getattr(optimizer, "scale", 2.0)), (lambda: setattr(optimizer, "scale", 5.0))

    def of_an_optimizer_s_defaults() -> Change:
        optimizer = torch.optim.SGD([torch.ones(4, requires_grad=True)], lr=2.0)
        return (lambda x: x * optimizer.defaults["lr"]), (lambda: optimizer.defaults.update(lr=5.0))

    def of_the_code_of_a_function() -> Change:
        def helper(x: Any) -> Any:
            return x * 2.0

        return (lambda x: helper(x)), (lambda: setattr(helper, "__code__", (lambda x: x * 5.0).__code__))

    def of_what_a_cached_function_reads() -> Change:
        box = [2.0]
        helper = functools.cache(lambda: box[0])
        return (lambda x: x * helper()), (lambda: (box.__setitem__(0, 5.0), helper.cache_clear()))

    def of_a_parameter_s_attribute() -> Change:
        weight: Any = type("Weight", (torch.nn.Parameter,), {})(torch.ones(4))
        weight.scale = 2.0
        return (lambda x: (x * weight * weight.scale).detach()), (lambda: setattr(weight, "scale", 5.0))

    def of_the_mode_of_a_helper() -> Change:
        box = [torch.enable_grad()(helper := lambda x: x * (2.0 if torch.is_grad_enabled() else 5.0))]
        return (lambda x: box[0](x)), (lambda: box.__setitem__(0, torch.no_grad()(helper)))

    def of_a_namespace() -> Change:
        args = argparse.Namespace(scale=2.0)
        return (lambda x: x * args.scale), (lambda: setattr(args, "scale", 5.0))

    def of_a_simple_namespace() -> Change:
        args = types.SimpleNamespace(scale=2.0)
        return (lambda x: x * args.scale), (lambda: setattr(args, "scale", 5.0))

    def behind_a_proxy() -> Change:
        table = {"scale": 2.0}
        proxy = types.MappingProxyType(table)
        return (lambda x: x * proxy["scale"]), (lambda: table.update(scale=5.0))

    def of_what_a_module_of_python_had_not() -> Change:
        settings = types.ModuleType("settings")
        return (lambda x: x * getattr(settings, "scale", 2.0)), (lambda: setattr(settings, "scale", 5.0))

    def of_somebody_s_optimizer() -> Change:
        return _with_optimizer(lambda optimizer: setattr(optimizer, "scale", 5.0))

    def of_the_class_of_somebody_s_optimizer() -> Change:
        return _with_optimizer(lambda optimizer: setattr(type(optimizer), "scale", 5.0))

    def of_what_a_getter_reads() -> Change:
        outer = types.SimpleNamespace(inner=types.SimpleNamespace(scale=2.0))
        scale = operator.attrgetter("inner.scale")
        return (lambda x: x * scale(outer)), (lambda: setattr(outer.inner, "scale", 5.0))

    def of_what_a_partial_method_reads() -> Change:
        box = [2.0]
        thing: Any = type("Thing", (), {"scale": functools.partialmethod(lambda self, place: box[place], 0)})()
        return (lambda x: x * thing.scale()), (lambda: box.__setitem__(0, 5.0))

    def of_what_a_method_of_c_reads() -> Change:
        table = {"scale": 2.0}
        get = table.get
        return (lambda x: x * get("scale")), (lambda: table.update(scale=5.0))

    def in_an_array_of_python() -> Change:
        numbers = array.array("d", [2.0])
        return (lambda x: x * numbers[0]), (lambda: numbers.__setitem__(0, 5.0))

    def in_bytes() -> Change:
        numbers = bytearray([2])
        return (lambda x: x * numbers[0]), (lambda: numbers.append(numbers.pop() + 3))

    def of_a_context() -> Change:
        scale = contextvars.ContextVar("scale", default=2.0)
        return (lambda x: x * scale.get()), (lambda: scale.set(5.0))

    def of_the_environment() -> Change:
        os.environ["NANOTORCH_TEST_SCALE"] = "2"
        return (lambda x: x * int(os.environ["NANOTORCH_TEST_SCALE"])), _of_environment

    def of_the_environment_by_a_function() -> Change:
        os.environ["NANOTORCH_TEST_SCALE"] = "2"
        return (lambda x: x * int(os.getenv("NANOTORCH_TEST_SCALE", "1"))), _of_environment

    def past_a_module() -> Change:
        model = type("Model", (torch.nn.Module,), {"forward": lambda self, x: x * self.scale})()
        model.scale = 2.0
        return (lambda x: model(x)), (lambda: model.__dict__.update(scale=5.0))

    def of_the_bases_of_a_class() -> Change:
        bases = [type("Base", (), {"scale": scale}) for scale in (2.0, 5.0)]
        kind = type("Kind", (bases[0],), {})
        thing = kind()
        return (lambda x: x * thing.scale), (lambda: setattr(kind, "__bases__", (bases[1],)))

    def of_their_order() -> Change:
        bases = [type(name, (), {"scale": scale}) for name, scale in (("One", 2.0), ("Two", 5.0))]
        kind = type("Kind", (*bases,), {})
        return (lambda x: x * kind.scale), (lambda: setattr(kind, "__bases__", (*bases[::-1],)))

    def of_the_class_of_a_thing() -> Change:
        kinds = [type("Kind", (), {"scale": scale}) for scale in (2.0, 5.0)]
        thing: Any = kinds[0]()
        return (lambda x: x * thing.scale), (lambda: setattr(thing, "__class__", kinds[1]))

    def of_all_attributes() -> Change:
        thing: Any = type("Thing", (), {})()
        thing.scale = 2.0
        return (lambda x: x * thing.scale), (lambda: setattr(thing, "__dict__", {"scale": 5.0}))

    def of_a_text_that_decides() -> Change:
        box = ["2"]
        thing = type("Thing", (), {"__str__": lambda self: box[0]})()
        return (lambda x: x * (2 if f"{thing}" == "2" else 5)), (lambda: box.__setitem__(0, "5"))

    def of_what_rounding_asks() -> Change:
        box = [2]
        thing: Any = type("Thing", (), {"__round__": lambda self: box[0]})()
        return (lambda x: x * round(thing)), (lambda: box.__setitem__(0, 5))

    def of_a_variable_that_is_assigned_later() -> Change:
        def assign() -> None:
            nonlocal scale
            scale = 5.0

        def function(x: Any) -> Any:
            try:
                return x * scale
            except NameError:
                return x * 2.0

        if False:
            scale = 0.0
        return function, assign

    def of_an_attribute_that_comes_as_another_goes() -> Change:
        thing: Any = type("Thing", (), {"scale": 2.0})()
        thing.other = 1
        return (lambda x: x * thing.scale), (lambda: (delattr(thing, "other"), setattr(thing, "scale", 5.0)))

    def of_what_making_a_thing_reads() -> Change:
        box = [2.0]
        kind: Any = type("Thing", (), {"__init__": lambda self: setattr(self, "scale", box[0])})
        return (lambda x: x * kind().scale), (lambda: box.__setitem__(0, 5.0))

    def of_a_module_that_the_function_imports() -> Change:
        sys.modules["nanotorch_test_settings"] = settings = types.ModuleType("nanotorch_test_settings")
        settings.scale = 2.0  # type: ignore[attr-defined]

        def function(x: Any) -> Any:
            import nanotorch_test_settings  # type: ignore[import-not-found]

            return x * nanotorch_test_settings.scale

        return function, (lambda: setattr(sys.modules["nanotorch_test_settings"], "scale", 5.0))

    def of_what_a_pattern_asks() -> Change:
        kind: Any = type("Thing", (), {})
        thing = kind()
        thing.scale = 2.0

        def function(x: Any) -> Any:
            match thing:
                case kind(scale=2.0):
                    return x * 2.0
            return x * 5.0

        return function, (lambda: setattr(thing, "scale", 5.0))

    def of_what_is_there_for_a_key_that_is_not() -> Change:
        table: Any = collections.defaultdict(lambda: 2.0)
        return (lambda x: x * table.default_factory()), (lambda: setattr(table, "default_factory", lambda: 5.0))

    def of_a_thing_of_the_library() -> Change:
        event = threading.Event()
        return (lambda x: x * (5.0 if event.is_set() else 2.0)), event.set

    return [make for make in locals().values() if callable(make)]


def _of_environment() -> None:
    os.environ["NANOTORCH_TEST_SCALE"] = "5"


def _with_optimizer(change: Callable[[Any], Any]) -> Change:
    weight = torch.ones(4, requires_grad=True)

    class Scaled(torch.optim.SGD):
        scale = 2.0

        def step(self, closure: Any = None) -> Any:
            weight.grad.mul_(self.scale)
            return super().step(closure)

    optimizer = Scaled([weight], lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        return weight.detach().clone()

    return step, lambda: change(optimizer)


@pytest.mark.parametrize("make", changes(), ids=lambda make: make.__name__)
def test_a_value_in_an_odd_place_changes(make: Callable[[], Change]) -> None:
    (expected, change), (function, change_too) = make(), make()
    compiled = torch.compile(function, backend="numpy")
    for number in range(8):
        if number == 4:
            change(), change_too()
        x = torch.arange(4.0) + number
        assert compiled(x).tolist() == expected(x).tolist()
    assert programs(compiled) >= 2


class Holder:
    """What may be referred to weakly."""

    scale = 2.0


HOLDER = Holder()


@pytest.mark.parametrize(
    ("thing", "read"),
    [
        (iter([2.0] * 20), next),
        ((2.0 for _ in range(20)), next),
        (itertools.repeat(2.0), next),
        (weakref.ref(HOLDER), lambda thing: thing().scale),
        (weakref.proxy(HOLDER), lambda thing: thing.scale),
        (weakref.WeakValueDictionary(one=HOLDER), lambda thing: thing["one"].scale),
        (threading.local(), lambda thing: getattr(thing, "scale", 2.0)),
        (memoryview(bytearray(2)), lambda thing: thing[0]),
        ({"one": 2.0}.values(), sum),
        (np.array([2.0], dtype=object), lambda thing: thing[0]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_cannot_be_read_is_refused(thing: Any, read: Callable[[Any], float]) -> None:
    step = lambda x: x * read(thing)  # noqa: E731
    compiled = torch.compile(step, backend="numpy")
    compiled(torch.ones(3))
    with pytest.raises(CaptureError, match=r"test_what_a_step_finds.py:\d+ reads thing.*, of type \w+"):
        compiled(torch.ones(3))
    with pytest.warns(UserWarning, match="runs as ever"):
        eager = torch.compile(step, backend="numpy", fallback="eager")
        assert [eager(torch.ones(3)).tolist() for _ in range(4)]


@pytest.mark.parametrize("key", [0, "thing", "a name that only a variable has"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: [2.0] * 10_001,
        lambda: (2.0,) * 10_001,
        lambda: collections.deque([2.0] * 10_001),
        lambda: bytearray(10_001),
        lambda: array.array("d", [2.0]) * 10_001,
        lambda: dict.fromkeys(range(10_001), 2.0),
        lambda: weakref.WeakValueDictionary(one=HOLDER),
    ],
    ids=lambda make: type(make()).__name__,
)
def test_what_is_too_large_to_be_looked_at_in_each_call_is_refused(make: Callable[[], Any], key: Any) -> None:
    table = {key: make()}
    compiled = torch.compile(lambda x: x * len(table[key]), backend="numpy")
    compiled(torch.ones(3))
    entries = " with 10,001 entries" if len(table[key]) > 1 else ""
    with pytest.raises(CaptureError, match=rf"test_what_a_step_finds.py:\d+ reads table.*, of type \w+{entries}, and"):
        compiled(torch.ones(3))


def test_what_is_too_large_and_not_mentioned_is_no_matter() -> None:
    model = type("Model", (torch.nn.Module,), {"forward": lambda self, x: self.linear(x)})()
    model.linear, model.rows, model.names = torch.nn.Linear(3, 3), [2.0] * 10_001, {"one": bytearray(10_001)}
    compiled = torch.compile(lambda x: model(x).detach(), backend="numpy")
    for _ in range(4):
        compiled(torch.ones(2, 3))
    assert programs(compiled) == 1


def test_a_class_of_the_library_may_get_another_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    compiled = torch.compile(lambda x: model(x).detach(), backend="numpy")
    for _ in range(4):
        compiled(torch.ones(2, 3))
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda self, x: x * 3.0)
    for _ in range(4):
        assert torch.equal(compiled(torch.ones(2, 3)), model(torch.ones(2, 3)))
    assert programs(compiled) == 2


def test_variables_that_are_read_by_a_text_are_refused() -> None:
    compiled = torch.compile(lambda x: x * eval("1 + 1"), backend="numpy")
    compiled(torch.ones(3))
    with pytest.raises(CaptureError, match="reads eval"):
        compiled(torch.ones(3))


def test_what_only_acts_on_the_world_is_not_refused(tmp_path: pathlib.Path) -> None:
    model = type("Model", (torch.nn.Module,), {"forward": lambda self, x: self.linear(x)})()
    model.linear, model.lock, model.names = torch.nn.Linear(3, 3), threading.Lock(), iter("not read")
    lock, log, pattern = threading.RLock(), logging.getLogger("a step"), re.compile("x")
    with open(tmp_path / "log", "w", encoding="utf-8") as file:

        def step(x: Any) -> Any:
            with lock, model.lock:
                log.debug("one more %s", file.write("x"))
                return model(x).detach() if pattern.match("x") and tmp_path.is_dir() else x

        compiled = torch.compile(step, backend="numpy")
        for _ in range(4):
            assert torch.equal(compiled(torch.ones(2, 3)), step(torch.ones(2, 3)))
    assert programs(compiled) == 1


def test_a_slot_that_the_code_does_not_mention_may_change() -> None:
    thing = type("Thing", (), {"__slots__": ("scale", "count")})()
    thing.scale = 2.0
    compiled = torch.compile(lambda x: x * thing.scale, backend="numpy")
    for thing.count in range(6):
        compiled(torch.ones(3))
    assert programs(compiled) == 1


def test_an_op_is_the_same_once_it_has_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    function = {"": lambda x: torch.sinc(x)}
    before = Reachable(function)
    monkeypatch.setattr(torch.sinc, "__code__", torch.sinc.__code__.replace(co_firstlineno=1))
    assert before.difference(Reachable(function)) is None


@pytest.mark.parametrize("make", changes(), ids=lambda make: make.__name__)
def test_it_is_seen_of_each_model_of_a_sweep(make: Callable[[], Change]) -> None:
    (expected, change), *others = [make() for _ in range(3)]
    sweep = torch.compile.sweep([function for function, _ in others], backend="numpy")
    for number in range(8):
        if number == 4:
            change(), others[1][1]()
        x = torch.arange(4.0) + number
        assert sweep(x)[1].tolist() == expected(x).tolist()


class Slotted:
    __slots__ = ("number",)


class Hidden(Slotted):
    __slots__ = ()

    @property
    def number(self) -> int:  # type: ignore[override]
        raise RuntimeError("nobody may ask")


def test_a_slot_that_a_property_hides_is_not_asked_for() -> None:
    held = Hidden()

    def step(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if type(held) is Hidden else x * held.number

    assert torch.compile(step)(torch.ones(3)).tolist() == [2, 2, 2]


def test_an_assert_and_the_environment_lead_to_few_objects() -> None:
    """pytest puts its own code behind an assert, and from there all of it could be reached, and Python's builtins."""

    def step(x: torch.Tensor) -> torch.Tensor:
        assert x.shape == (3,)
        return x * len(os.environ["PATH"])

    found = Reachable({"": step})
    assert "@pytest_ar" in step.__code__.co_names
    assert len(found.fingerprint) < 1000
