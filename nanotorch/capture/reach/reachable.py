"""What a function can reach: tensors and arrays that live on when a call is over, and the plain values beside them.

Note [What a function can reach]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A program holds for what the function found when it was recorded: the same tensors, the same plain values in closures,
globals, attributes and containers. `Reachable` walks all of that once, from the function's cells and global names on,
and gives its *fingerprint*, by path; two walks with equal fingerprints find the same. Of an object of the user's own
class, and of a module of Python, only those attributes count whose names the code that can be reached mentions: the
epoch that a trainer object counts is no reason to record its step anew, as long as the step does not read it. What a
walk cannot read is refused (Note [What can be read]).

A walk takes some hundred microseconds. What a call can afford is a `Watch`: it compares by identity what lies in cells,
globals, attributes and containers, and asks the one count of changes to modules. Only when that says that something has
moved the function is walked again.
"""

from __future__ import annotations

import array as arrays
import builtins
import contextvars
import enum
import functools
import operator
import os
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import inside
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.reach.code_names import SPELLING, imported, line_of_write, names_of, spelled, words_of
from nanotorch.capture.reach.kinds import (
    LIBRARIES,
    OPAQUE,
    attributes_of,
    foreign,
    has_attributes_alone,
    is_lasting,
    is_sealed,
    own_classes,
    slots_of,
)
from nanotorch.optim import Optimizer

PLAIN = (bool, int, float, complex, str, bytes, type(None))
MAKING = {"__init__", "__new__"}
NOT_CALLED = MAKING | SPELLING | {"__del__", "__init_subclass__", "__set_name__"}
"""Methods that are not called by themselves in a step: those of objects that it makes, or spells, are by its code."""
BY_ANY_NAME = {"getattr", "vars", "__dict__", "attrgetter", "asdict", "astuple", "fields"}
"""Where code mentions one of these, it may read attributes whose names it does not mention."""
BY_TEXT = {"eval", "exec", "globals"}
"""Functions of Python that read variables whose names the code does not mention."""
PARTS_OF_OPTIMIZERS = {"defaults", "param_groups", "state", "_plans"}
UNNAMED = {"self", "args", "keywords", "under", "default_factory", "func"}
"""What parts are called that have no name of their own."""
MANY = 10_000
"""Containers with more entries are not read, and arrays told apart by their identity alone."""
MISSING = object()
Parts = Iterable[tuple[str, Any]]


class Reachable:
    """What a function can reach through its closure, its globals, its object and their attributes.

    Args:
        roots: what is walked, by name.
        words: names that the code is known to mention.

    Attributes:
        tensors: by path, such as `model.0.weight`.
        names: paths by the id of the array that owns the memory of a tensor, or of a plain array.
        fingerprint: by path what a plain value is, and for tensors and arrays their identity: where it is the same, the
            function finds what it found before.
        objects: all of them.
        codes: the code that can be reached, which is not the library's.
        cells, entries, lists, arrays, slots: where values lie: cells of closures, (mapping, names), containers, small
            arrays that are no memory of tensors, (object, name).
        absent: (mapping, names) of globals that are not there, but builtins, which one that comes would hide.
        kinds: objects of the user's classes, each with its class.
        held: plain arrays, and
        large: the ids of those that are told apart by their identity alone.
        functions: of the user, each with its code and its defaults.
        orders: dictionaries, each with its keys.
        sizes: dictionaries of attributes of which only some count: one that comes may hide one of the class.
        modules: modules of the model, each with its class.
        empty: cells of closures that nothing was assigned to.
        classes: of the user, each with its bases in the order in which they are asked.
        variables: those of contexts, and
        buffers: arrays of Python and of bytes, each with what is in it.
        unreadable: by path what cannot be read.
        states: the ids of tensors that are an optimizer's state.
        words: the names that the code mentions.
        watch: what says whether all of it is as it was, once somebody has asked for that.
    """

    watch: object = None  # its `Watch`, once there is one

    def __init__(self, roots: Mapping[str, Any], words: Iterable[str] = ()) -> None:
        self.words = {*words}
        while True:
            known = len(self.words)
            self._walk(roots)
            if len(self.words) == known:
                return

    def _walk(self, given: Mapping[str, Any]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.fingerprint: dict[str, Any] = {}
        self.objects: list[Any] = []
        self.codes: list[CodeType] = []
        self.cells: list[CellType] = []
        self.entries: list[tuple[Mapping[str, Any], tuple[str, ...]]] = []
        self.lists: list[Any] = []
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.absent: list[tuple[Mapping[str, Any], list[str]]] = []
        self.kinds: list[tuple[Any, type, Mapping[str, Any]]] = []
        self.held: list[np.ndarray[Any, Any]] = []
        self.large: set[int] = set()
        self._within: dict[str, str] = {}
        self._of_library: set[int] = set()
        self._of_tensors: set[int] = set()
        self.functions: list[tuple[Any, ...]] = []
        self.orders: list[tuple[dict[Any, Any], list[Any]]] = []
        self.slots: list[tuple[Any, str]] = []
        self.sizes: list[dict[str, Any] | MappingProxyType[str, Any]] = []
        self.modules: list[tuple[Any, type]] = []
        self.empty: list[CellType] = []
        self.classes: list[tuple[type, tuple[type, ...]]] = []
        self.variables: list[tuple[contextvars.ContextVar[Any], Any]] = []
        self.buffers: list[tuple[Any, bytes]] = []
        self.unreadable: dict[str, Any] = {}
        self.states: set[int] = set()
        self._seen: dict[int, str] = {}
        self._classes: set[tuple[type, bool]] = set()
        todo = [*given.items()][::-1]
        later: list[tuple[str, Any]] = []
        fingerprint, objects, seen = self.fingerprint, self.objects, self._seen
        while todo or later:
            path, value = todo.pop() if todo else later.pop(0)
            kind: Any = type(value)
            look = _look_at(kind)
            while path in fingerprint:  # things of two names that are spelled alike
                path += "'"
            if look is None:
                fingerprint[path] = spelling(value)
            elif look is Reachable._optimizer and todo:  # a parameter is called as its model calls it
                later.append((path, value))
            elif id(value) in seen:
                fingerprint[path] = "as", seen[id(value)]
            else:
                seen[id(value)] = path
                objects.append(value)
                parts = [
                    (f"{path}.{name}" if path and name else path or name, part)
                    for name, part in reversed([*look(self, path, value)])
                ]
                if look is Reachable._container or (look is Reachable._object and foreign(kind.__module__)):
                    self._within.update([(part, path) for part, _ in parts])
                if look is Reachable._optimizer:  # last: the names of parameters are those in the model
                    todo[:0] = parts
                else:
                    todo += parts
        self.arrays = {path: array for path, array in self.arrays.items() if id(owner(array)) not in self._of_tensors}
        self.large -= {id(array) for array in self.held if id(owner(array)) in self._of_tensors}
        self.fingerprint |= {path: (id(array), array.tobytes()) for path, array in self.arrays.items()}
        self._lasting = len(self.objects)
        for path, tensor in self.tensors.items():  # last: they may lie in memory that has a name of its own
            leaf = leaf_of(tensor)
            for grad in (tensor._grad, leaf and leaf.place):
                if grad is not None and isinstance(grad._array, np.ndarray):
                    self.names.setdefault(id(owner(grad._array)), f"{path}.grad")
                    self.objects.append(owner(grad._array))

    # ------------------------------------------- each notes what an object is, and gives what it holds, by name

    def _plain_array(self, path: str, array: Any) -> Parts:
        self.fingerprint[path] = id(array)
        self.names.setdefault(id(owner(array)), path)
        self.held.append(array)
        if id(array) not in self._of_library:
            if array.dtype.hasobject:
                self.unreadable[path] = array
            if array.size <= MANY and not array.dtype.hasobject:
                self.arrays[path] = array
            else:
                self.large.add(id(array))
        return ()

    def _method(self, path: str, method: Any) -> Parts:
        return ("", method.__func__), ("self", method.__self__)

    def _partial(self, path: str, partial: Any) -> Parts:
        yield from (("", partial.func), ("args", partial.args), ("keywords", partial.keywords))
        yield from self._of_class(partial)

    def _module(self, path: str, module: Any) -> Parts:
        if foreign(module.__name__):
            found = {n for n in self.words if _is_data(vars(module).get(n, len))}
            return self._chosen(vars(module), among=sorted(found))
        if module.__name__.partition(".")[0] != "nanotorch":
            self.sizes.append(module.__dict__)
        return self._chosen(module.__dict__)

    def _class(self, path: str, kind: Any) -> Parts:
        self.fingerprint[path] = id(kind)
        return chain(self._methods(kind, made=True), self._methods(type(kind)))

    def _number(self, path: str, number: Any) -> Parts:
        self.fingerprint[path] = spelling(number)
        return ()

    def _value(self, path: str, value: Any) -> Parts:
        """A number or a text of somebody's class, or a member of an enumeration."""
        self.fingerprint[path] = id(value) if isinstance(value, enum.Enum) else spelling(value)
        return self._of_class(value)

    def _cached(self, path: str, function: Any) -> Parts:
        self.fingerprint[path] = type(function)
        yield "under", function.__wrapped__
        yield from self._of_class(function)

    def _mapping(self, path: str, proxy: Any) -> Parts:
        self.fingerprint[path] = MappingProxyType
        self.sizes.append(proxy)
        return self._chosen(proxy, whole=True)

    def _slice(self, path: str, value: Any) -> Parts:
        self.fingerprint[path] = slice, value.start, value.stop, value.step
        return ()

    def _opaque(self, path: str, value: Any) -> Parts:
        self.fingerprint[path] = id(value)
        holder = getattr(value, "__self__", None)  # of a method of C
        return () if holder is None or isinstance(holder, ModuleType) else (("self", holder),)

    def _unreadable(self, path: str, value: Any) -> Parts:
        self.fingerprint[path] = id(value)
        self._leave_unread(path, value)
        return ()

    def _leave_unread(self, path: str, value: Any) -> None:
        """Note what nobody can look into, or what is too large for that."""
        if id(value) not in self._of_library:
            self.unreadable[path] = value

    def _descriptor(self, path: str, value: Any) -> Parts:
        self.fingerprint[path] = type(value)
        return [(name, part) for name in DESCRIBED if (part := getattr(value, name, None)) is not None]

    def _getter(self, path: str, getter: Any) -> Parts:
        made = getter.__reduce__()[1:]
        self.words.update(spelled(made))
        return (("args", made),)

    def _variable(self, path: str, variable: Any) -> Parts:
        self.fingerprint[path] = id(variable)
        self.variables.append((variable, variable.get(MISSING)))
        return (("", variable.get(None)),)

    def _buffer(self, path: str, buffer: Any) -> Parts:
        content = bytes(buffer) if len(buffer) <= MANY else b""
        if len(buffer) > MANY:
            self._leave_unread(path, buffer)
        self.fingerprint[path] = id(buffer), len(buffer), content
        self.buffers.append((buffer, content))
        return ()

    def _tensor(self, path: str, tensor: Any) -> Parts:
        leaf = leaf_of(tensor)
        hooks = None if leaf is None else leaf._hooks
        self.fingerprint[path] = id(tensor), tensor._requires_grad, bool(hooks)
        self.tensors[path] = tensor
        array = tensor._array
        if isinstance(array, np.ndarray):
            memory = id(owner(array))
            self.names.setdefault(memory, path)
            self._of_tensors.add(memory)
        return () if type(tensor).__module__.startswith("nanotorch") else self._of_class(tensor)

    def _function(self, path: str, function: Any) -> Parts:
        code = function.__code__
        self.fingerprint[path] = id(code)
        if inside[code.co_filename] or (function.__module__ or "").partition(".")[0] in LIBRARIES:
            if function is os.getenv:
                yield "environ", os.environ
            wrapped = getattr(function, "__wrapped__", None)  # somebody's function under a mode, as `no_grad`
            if isinstance(wrapped, FunctionType):
                self.fingerprint[f"{path}()"] = self.fingerprint.pop(path), *_modes(function)
                yield "", wrapped
            elif function.__closure__ is None:
                self.fingerprint[path] = id(function)  # an op gets its code when it is first used
            return
        self.codes.append(code)
        self.functions.append((function, code, function.__defaults__, function.__kwdefaults__))
        attributes = function.__dict__
        self.sizes.append(attributes)
        yield from self._chosen(attributes)
        if "__wrapped__" in attributes:
            yield "under", attributes["__wrapped__"]
        self.words.update(words_of(code))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if cell == CellType():  # not assigned yet
                self.fingerprint[f"{path}.{name} of none"] = CellType
                self.empty.append(cell)
                continue
            self.cells.append(cell)
            yield name, cell.cell_contents
        yield from imported(code, function.__globals__)
        names = names_of(code, "LOAD_GLOBAL", "LOAD_NAME")
        given = tuple([name for name in names if name in function.__globals__])
        if given:
            self.entries.append((function.__globals__, given))
        if len(given) < len(names):
            self.absent.append((function.__globals__, [name for name in names if name not in given]))
        for name in given:
            yield name, function.__globals__[name]
        for name in BY_TEXT.intersection(names).difference(given):
            self.unreadable[name] = getattr(builtins, name)
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                yield name, getattr(function, name)

    def _container(self, path: str, value: Any) -> Parts:
        kind: Any = type(value)
        self.fingerprint[path] = kind, len(value), getattr(value, "maxlen", None)
        if not isinstance(value, tuple | frozenset):
            self.lists.append(value)
        if own_classes(kind.__mro__):
            yield from self._of_class(value)
        if isinstance(value, defaultdict):
            self.slots.append((value, "default_factory"))
            yield "default_factory", value.default_factory
        if len(value) > MANY:
            self._leave_unread(path, value)
            return
        if isinstance(value, dict):
            self.orders.append((value, [*value]))
            self.fingerprint[path] = kind, len(value), tuple([spelling(key) for key in value if isinstance(key, PLAIN)])
            for number, (key, part) in enumerate(value.items()):
                known = isinstance(key, PLAIN)
                yield str(key) if known else f"entry {number}", part
                if not known:
                    yield f"key {number}", key
        else:
            for number, part in enumerate(value):
                yield str(number), part

    def _optimizer(self, path: str, optimizer: Any) -> Parts:
        """The tensors of an optimizer. What its options are is no part of the fingerprint, for a program gets them in
        every call, unless the user's own code reads them.
        """
        hooks = len(optimizer._step_pre_hooks) + len(optimizer._step_post_hooks)
        segments = [segment for plan in optimizer._plans.values() for segment in plan.segments]
        self.objects += segments
        self.fingerprint[path] = type(optimizer), hooks, [id(segment) for segment in segments]
        records = [record for record in optimizer.state.values() if isinstance(record, dict)]
        self.lists += [optimizer._plans, optimizer.param_groups, optimizer.state, *records]
        self.slots.append((optimizer, "state"))
        for segment in segments:
            for name, array in {"flat": segment.flat, "grad": segment.grad, **segment.state}.items():
                if array is not None:
                    self.names.setdefault(id(owner(array)), f"{path}.{name}")
                    self.objects.append(owner(array))
        if "defaults" in self.words:
            yield "defaults", optimizer.defaults
        read = "param_groups" in self.words
        for number, group in enumerate(optimizer.param_groups):
            self.fingerprint[f"{path}.param_groups {number}"] = tuple(group), len(group["params"])
            yield f"{number}", group["params"]
            if read:
                self.lists.append(group)
                yield f"param_groups.{number}", {name: value for name, value in group.items() if name != "params"}
        kind: Any = type(optimizer)
        yield from self._methods(kind)
        if kind.count_step is Optimizer.count_step:  # else it may count what it likes
            self.sizes.append(vars(optimizer))
            plain = {n: v for n, v in vars(optimizer).items() if isinstance(v, PLAIN) and n != "_step_called"}
            yield from self._chosen(vars(optimizer), among=plain)
        for name, value in vars(optimizer).items():  # of a class that holds more, as a moving average does its model
            if name not in PARTS_OF_OPTIMIZERS and not name.endswith("_hooks") and not isinstance(value, PLAIN):
                yield name, value
        for number, record in enumerate(records):
            for name, value in record.items():
                if isinstance(value, Tensor) and name not in optimizer.number_names:
                    self.states.add(id(value))
                    yield f"state.{number}.{name}", value

    def _object(self, path: str, value: Any) -> Parts:
        """The attributes of an object: all of a module's and of a library's classes,
        of others those that the code mentions.
        """
        kind: Any = type(value)
        self.fingerprint[path] = kind
        attributes = attributes_of(value)
        of_library = kind.__module__.startswith("nanotorch")
        yield from self._methods(kind)
        whole = of_library or foreign(kind.__module__) or not self.words.isdisjoint(BY_ANY_NAME)
        for name in [name for name in slots_of(kind.__mro__) if whole or name in self.words]:
            self.slots.append((value, name))
            if hasattr(value, name):
                part = getattr(value, name)
                if of_library:
                    self._of_library.add(id(part))
                yield name, part
        if "_parameter_names" in attributes:  # a module: the count of changes watches it
            self.modules.append((value, kind))
            if own_classes(kind.__mro__):  # whose code may write past the count
                self.entries.append((attributes, tuple([name for name in attributes if name in self.words])))
            names_of = {id(attributes[kind]) for kind in ("_parameter_names", "_buffer_names", "_module_names")}
            yield from [(name, part) for name, part in attributes.items() if id(part) not in names_of]
        elif of_library:
            self._of_library.update(map(id, attributes.values()))
            self.lists.append(attributes)
            yield from attributes.items()
        else:
            yield from self._attributes(value, whole)

    def _of_class(self, value: Any) -> Parts:
        """What somebody's class adds to one that is looked at in another way."""
        yield from self._methods(type(value))
        yield from self._attributes(value, not self.words.isdisjoint(BY_ANY_NAME))

    def _attributes(self, value: Any, whole: bool) -> Parts:
        attributes = attributes_of(value)
        self.kinds.append((value, type(value), attributes))
        self.sizes.append(attributes)
        yield from self._chosen(attributes, whole)

    def _chosen(
        self, attributes: Mapping[Any, Any], whole: bool = False, among: Collection[str] | None = None
    ) -> Parts:
        among = attributes if among is None else among
        names = tuple([name for name in among if whole or name in self.words])
        if names:
            self.entries.append((attributes, names))
        for name in names:
            yield str(name), attributes[name]

    def _methods(self, kind: type, made: bool = False) -> Parts:
        """What lies in a class under names that the code mentions, and the methods that Python calls by itself; of one
        that the code mentions, those that make an object as well.
        """
        if (kind, made) in self._classes:
            return
        self._classes.add((kind, made))
        called = self.words & SPELLING | (MAKING if made else set())
        if own := own_classes(kind.__mro__):
            self.fingerprint[f"classes {len(self._classes)}"] = "classes", own
            self.classes.append((kind, kind.__mro__))
        runs = next((cls for cls in kind.__mro__ if "forward" in vars(cls)), None)
        if runs is not None and runs.__module__.startswith(
            "nanotorch."
        ):  # of a module of the library: somebody may put another one there
            self.entries.append((vars(runs), ("forward",)))
            yield f"{runs.__name__}.forward", vars(runs)["forward"]
        for cls in own:
            self.sizes.append(vars(cls))
            found = {
                n: v for n, v in vars(cls).items() if not isinstance(v, MemberDescriptorType | GetSetDescriptorType)
            }
            found = {n: v for n, v in found.items() if n in self.words or n in called or _is_called(n, v)}
            if found:
                self.entries.append((vars(cls), tuple(found)))
            for name, value in found.items():
                yield f"{cls.__name__}.{name}", value

    def path_of(self, value: Any) -> str:
        """Return the path by which an object was found."""
        return self._seen[id(value)]

    def forget_gradients(self) -> None:
        """Let go of gradients; all else lives on, so that its identities mean something."""
        del self.objects[self._lasting :]

    def difference(self, other: Reachable) -> str | None:
        """Return the path of something that the function finds otherwise in another walk, if there is one."""
        mine, theirs = self.fingerprint, other.fingerprint
        if mine == theirs:
            return None
        return next((path for path in (*mine, *theirs) if mine.get(path, MISSING) != theirs.get(path, MISSING)), None)

    def line_of(self, path: str) -> str:
        """Return where the code writes to what stands at a path, as far as that can be seen."""
        names = path.split(".")
        for name in reversed([n for n in names if not n.isdigit()]):
            for code in self.codes:
                line = line_of_write(code, name)
                if line:
                    return f"{code.co_filename.rpartition('/')[2]}:{line}"
        if not self.codes:
            return "the function"
        return f"{self.codes[0].co_filename.rpartition('/')[2]}:{self.codes[0].co_firstlineno}"

    def mentions(self, path: str) -> bool:
        """Whether the code mentions what stands at a path, or what holds it: of entries, and of attributes that the
        code of a library reads, the name need not be in it.
        """
        while path in self._within:
            path = self._within[path]
        names = [name for name in path.split(".") if name.isidentifier() and name not in UNNAMED]
        return not names or names[-1] in self.words or any([names[-1] in code.co_freevars for code in self.codes])


@functools.lru_cache(1024)
def _look_at(kind: Any) -> Callable[[Reachable, str, Any], Parts] | None:
    """Return what looks at objects of a class; None for plain values."""
    if kind in PLAIN:
        return None
    for kinds, look in LOOKS:
        if issubclass(kind, kinds):
            return look
    if is_sealed(kind):
        return Reachable._opaque
    if has_attributes_alone(kind) or kind is SimpleNamespace:
        return Reachable._object
    return Reachable._opaque if is_lasting(kind) else Reachable._unreadable


LOOKS: list[tuple[Any, Callable[..., Parts]]] = [
    (Optimizer, Reachable._optimizer),
    (enum.Enum, Reachable._value),
    (np.generic, Reachable._number),
    (PLAIN, Reachable._value),
    (Tensor, Reachable._tensor),
    (np.ndarray, Reachable._plain_array),
    (FunctionType, Reachable._function),
    (MethodType, Reachable._method),
    (functools.partial, Reachable._partial),
    ((dict, list, tuple, set, frozenset, deque), Reachable._container),
    (ModuleType, Reachable._module),
    (type, Reachable._class),
    (type(functools.cache(len)), Reachable._cached),
    (MappingProxyType, Reachable._mapping),
    (slice, Reachable._slice),
    (OPAQUE, Reachable._opaque),
    ((property, classmethod, staticmethod), Reachable._descriptor),
    ((operator.attrgetter, operator.itemgetter, operator.methodcaller), Reachable._getter),
    (contextvars.ContextVar, Reachable._variable),
    ((bytearray, arrays.array), Reachable._buffer),
]
DESCRIBED = "__func__", "fget", "fset", "fdel"


def _modes(wrapper: Any) -> list[Any]:
    """Return under which modes a wrapper runs what it wraps."""
    methods = [c.cell_contents for c in wrapper.__closure__ or () if isinstance(c.cell_contents, MethodType)]
    settings = [tuple([item for item in vars(m.__self__).items() if isinstance(item[1], PLAIN)]) for m in methods]
    return [(type(m.__self__), each) for m, each in zip(methods, settings, strict=True)]


def leaf_of(tensor: Tensor) -> Any:
    """Return the node that takes in the gradients of a tensor, if there is one."""
    edge = tensor._leaf
    return None if edge is None else edge[0]


def spelling(value: Any) -> tuple[Any, ...]:
    """Return what tells a plain value from all others: 0.0 from -0.0, and no nan from itself."""
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    return type(value), repr(value) if isinstance(value, float | complex) else value


def _is_called(name: str, value: Any) -> bool:
    """Whether Python calls what lies in a class under a name, though no code mentions that."""
    special = name.startswith("__") and name.endswith("__") and name not in NOT_CALLED
    return name == "forward" or (special and not isinstance(value, type) and hasattr(type(value), "__get__"))


def _is_data(value: Any) -> bool:
    """Whether something in a module of a library is neither a module nor called."""
    return not isinstance(value, ModuleType) and not callable(value) and value is not sys.modules
