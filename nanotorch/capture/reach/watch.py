"""Whether what a walk has found is still there (Note [What a function can reach]), and putting it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from operator import is_
from types import CellType

from nanotorch.autograd.graph.changes import changes, plain_changes
from nanotorch.capture.conditions import Conditions
from nanotorch.capture.reach.reachable import MANY, MISSING, Reachable

FEW = 6  # attributes whose names are all compared


class Watch:
    """Whether a function finds what it found in a walk, for a microsecond (Note [What a function can reach])."""

    def __init__(self, reachable: Reachable) -> None:
        conditions = Conditions()
        for cell in reachable.cells:
            conditions.add("{}.cell_contents is {}", cell, cell.cell_contents)
        for entries, names in reachable.entries:
            for name in names:
                conditions.add("{}[{}] is {}", entries, name, entries[name])
        for container in reachable.lists:
            conditions.add(f"len({{}}) == {len(container)}", container)
            if len(container) > MANY:
                continue
            if isinstance(container, set):
                conditions.add("all(map({}, {}, {}))", is_, container, [*container])
                continue
            for key, value in container.items() if isinstance(container, dict) else enumerate(container):
                conditions.add("{}[{}] is {}", container, key, value)
        for mapping, keys in reachable.orders:  # not by equality: 1 is True
            conditions.add("all(map({}, {}, {}))", is_, mapping, keys)
        for array in reachable.arrays.values():
            conditions.add("{}.tobytes() == {}", array, array.tobytes())
        for holder, name in reachable.slots:
            conditions.add(f"getattr({{}}, {name!r}, {{}}) is {{}}", holder, MISSING, getattr(holder, name, MISSING))
        for function, *parts in reachable.functions:
            conditions.add("{}.__code__ is {}", function, parts[0])
            conditions.add("{}.__defaults__ is {} and {}.__kwdefaults__ is {}", function, parts[1], function, parts[2])
        for entries, missing in reachable.absent:
            for name in missing:
                conditions.add(f"{name!r} not in {{}}", entries)
        for value, kind, attributes in reachable.kinds:
            conditions.add("type({}) is {}", value, kind)
            if attributes and kind.__getattribute__ is object.__getattribute__:
                conditions.add("{}.__dict__ is {}", value, attributes)
        for attributes in reachable.sizes:
            if len(attributes) <= FEW:
                conditions.add("[*{}] == {}", attributes, [*attributes])
            else:  # what comes comes last
                last = next(reversed(attributes))
                conditions.add(
                    f"len({{}}) == {len(attributes)} and next(reversed({{}})) is {{}}", attributes, attributes, last
                )
        for cell in reachable.empty:
            conditions.add("{} == {}", cell, CellType())
        for kind, order in reachable.classes:
            conditions.add("{}.__mro__ is {}", kind, order)
        for variable, held in reachable.variables:
            conditions.add("{}.get({}) is {}", variable, MISSING, held)
        for buffer, content in reachable.buffers:
            conditions.add(f"len({{}}) == {len(buffer)}", buffer)
            if content:
                conditions.add("bytes({}) == {}", buffer, content)
        for tensor in reachable.tensors.values():
            if id(tensor) not in reachable.states:
                conditions.add("{}._requires_grad is {}", tensor, tensor._requires_grad)
        self._hold = conditions.build()
        self._take(reachable)

    def _take(self, reachable: Reachable) -> None:
        self._modules, self._kinds = [vars(module) for module, _ in reachable.modules], reachable.modules
        self._attributes = [list(attributes.values()) for attributes in self._modules]
        self._changes, self._plain_changes = changes[0], plain_changes[0]

    def is_same(self) -> bool:
        """Whether all is as it was; that it is not does not mean that the function is another one."""
        untouched = plain_changes[0] == self._plain_changes or self._same_attributes()
        return changes[0] == self._changes and untouched and self._hold()

    def renewed(self, reachable: Reachable) -> Watch:
        """Return what watches another walk that has found the same."""
        if not self._hold():
            return Watch(reachable)
        self._take(reachable)
        reachable.watch = self
        return self

    def _same_attributes(self) -> bool:
        """Whether modules have the attributes that they had, though some were assigned to."""
        count = plain_changes[0]
        for module, known in zip(self._modules, self._attributes, strict=True):
            if len(module) != len(known) or not all(map(is_, module.values(), known)):
                return False
        if any([type(module) is not kind for module, kind in self._kinds]):
            return False
        self._plain_changes = count
        return True


def watched(reachable: Reachable) -> Watch:
    """Return what watches a walk: the same for all programs that were recorded after it."""
    watch = reachable.watch
    if not isinstance(watch, Watch) or not watch.is_same():
        reachable.watch = watch = Watch(reachable)
    return watch


class Contents:
    """What lay in cells, attributes and containers, to be put back there, but for those whose ids `without` has."""

    def __init__(self, reachable: Reachable, without: Collection[int] = ()) -> None:
        self._cells = [(cell, cell.cell_contents) for cell in reachable.cells]
        self._entries = [
            (into, {n: into[n] for n in names}) for into, names in reachable.entries if isinstance(into, dict)
        ]
        holders = [holder for holder in reachable.lists if len(holder) <= MANY and id(holder) not in without]
        self._lists = [(holder, holder.copy()) for holder in holders]
        self._lists += [(vars(module), vars(module).copy()) for module, _ in reachable.modules]
        self._kinds = [(value, kind) for value, kind, _ in reachable.kinds] + reachable.modules
        self._empty, self._buffers = reachable.empty, reachable.buffers

    def restore(self) -> None:
        """Put everything back."""
        for cell, value in self._cells:
            cell.cell_contents = value
        for cell in self._empty:
            del cell.cell_contents
        for buffer, content in self._buffers:
            if content and bytes(buffer) != content:
                memoryview(buffer).cast("B")[:] = content
        for into, values in self._entries:
            into.update(values)
        for holder, before in self._lists:
            holder.clear()
            (holder.extend if isinstance(holder, list | deque) else holder.update)(before)
        for value, kind in self._kinds:
            if type(value) is not kind:
                value.__class__ = kind
