"""Which objects a walk can read wholly, by their class.

Note [What can be read]
~~~~~~~~~~~~~~~~~~~~~~~
A program may go on with what it found only where a walk sees all that a step can find out. An object that consists of
attributes and slots is read through them. One that holds more, in memory of C, is read where `reachable.py` knows how,
as a list; or it is no matter, where it cannot change (what C can hash by its value has to stay what it is), or is a
function of C. All others, as an iterator, a weak reference or a thread's own values, are *unreadable*: a step that
mentions one is refused. What only acts on the world, as a file, a log or a lock, is left out: it acts in the calls that
run as ever.
"""

from __future__ import annotations

import functools
import io
import logging
import random
import sys
import threading
import weakref
from types import FunctionType, MemberDescriptorType
from typing import Any

import numpy as np

from nanotorch.autograd.graph.node import Node
from nanotorch.ops.create.random import Generator

LIBRARIES = (sys.stdlib_module_names - {"__main__", "collections"}) | {"numpy", "cupy", "scipy", "numba", "_pytest"}
"""Among them what pytest puts behind each `assert` of a test."""
PARTS_OF_THIS = ("nanotorch.ops", "nanotorch.backend", "nanotorch.dtypes", "nanotorch.registry", "nanotorch.capture")
SEALED = ("numba", "cupy", *PARTS_OF_THIS)
"""Modules whose objects hold nothing that a step asks for, but arrays on another device, which have an identity."""
OPAQUE = (
    *(Node, Generator, np.random.Generator, np.random.RandomState, random.Random),
    *(io.IOBase, logging.Filterer, type(threading.Lock()), type(threading.RLock())),
)
"""What is told apart by its identity alone: it is followed in another way, or acts on the world."""
FLEETING = (weakref.ReferenceType, memoryview)
"""What C can hash, though what lies behind it may be another thing, or gone."""
WORD = tuple.__itemsize__
"""Bytes of a pointer."""


def foreign(module: str) -> bool:
    """Whether what is in a module of Python can hold no state of the user's steps."""
    return module.partition(".")[0] in LIBRARIES or module.startswith((*PARTS_OF_THIS, "collections.abc"))


@functools.lru_cache(1024)
def own_classes(mro: tuple[type, ...]) -> tuple[type, ...]:
    """Return those of the classes that a class consists of which are somebody's own."""
    own = [cls for cls in mro if cls.__module__.partition(".")[0] != "nanotorch"]
    return tuple([cls for cls in own if not foreign(cls.__module__)])


@functools.lru_cache(1024)
def slots_of(mro: tuple[type, ...]) -> tuple[str, ...]:
    """Return the names of the slots that the classes of a class declare, but for those that a property hides."""
    seen: dict[str, Any] = {}
    for cls in reversed(mro):
        seen.update(vars(cls))
    slotted = [vars(cls) for cls in mro if "__slots__" in vars(cls)]
    return tuple(
        [
            name
            for of in slotted
            for name, slot in of.items()
            if isinstance(slot, MemberDescriptorType) and seen[name] is slot
        ]
    )


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, whatever its class makes of asking for one."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def is_sealed(kind: type) -> bool:
    """Whether objects of a class are of a library that holds no state of the user's steps."""
    return kind.__module__.startswith(SEALED)


def has_attributes_alone(kind: type) -> bool:
    """Whether objects of a class hold nothing but attributes and slots."""
    words = len(slots_of(kind.__mro__)) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ <= object.__basicsize__ + WORD * words


def is_lasting(kind: type) -> bool:
    """Whether objects of a class of C cannot change, or are functions, or stand in a class for attributes."""
    if issubclass(kind, FLEETING):
        return False
    by_value = kind.__hash__ not in (None, object.__hash__) and not isinstance(kind.__hash__, FunctionType)
    calls = [vars(cls)["__call__"] for cls in kind.__mro__ if "__call__" in vars(cls)]
    return by_value or hasattr(kind, "__get__") or (bool(calls) and not isinstance(calls[0], FunctionType))
