"""The locks of the package, and what becomes of them when a process forks.

A child has only the thread that forked. A lock that another thread held stays locked in it for ever, and what it guards
half done. So a fork waits until all are free, and both processes go on with all of them free. They may be taken twice
by one thread, since a signal's handler may fork.

The lock of an object (`give_lock`) is held too long to wait for it, as long as a compiled step runs: a child gets a new
one. It guards what every use begins anew.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

ACCUMULATING = threading.RLock()
"""Held while a gradient is added to a leaf: backward passes in several threads lose none (Note [Threads])."""
COMPILING = threading.RLock()
"""Held while the code of a row is written."""
INTERPRETERS = threading.RLock()
"""Held while interpreters come and go (Note [Interpreters])."""
FURTHER: list[Callable[[], Any]] = []
"""Return further locks, that others made and nobody holds while taking one of these."""

_held: list[Any] = []
_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def give_lock(owner: Any) -> None:
    """Give an object a `_lock` of its own, which may be taken twice by one thread."""
    owner._lock = threading.RLock()
    _owners.add(owner)


def _take() -> None:
    """Take all locks, in the order in which a thread that holds one may take another."""
    for lock in (ACCUMULATING, COMPILING, INTERPRETERS, *(find() for find in FURTHER)):
        lock.acquire()
        _held.append(lock)


def _give() -> None:
    while _held:
        _held.pop().release()


def _begin_child() -> None:
    _give()
    for owner in list(_owners):
        owner._lock = threading.RLock()


os.register_at_fork(before=_take, after_in_parent=_give, after_in_child=_begin_child)
