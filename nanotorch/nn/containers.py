"""Modules that hold other modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_index
from typing import Any, Self

from nanotorch.nn.module import Module

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Indexed(Module):
    """What Sequential and ModuleList share: submodules in order, as in a Python list."""

    def _names(self) -> list[str]:
        return list(self.__dict__["_module_names"])

    def _name_at(self, index: int) -> str:
        names = self._names()
        position = as_index(index)
        if not -len(names) <= position < len(names):
            raise IndexError(
                f"index {position} is out of range: this {type(self).__name__} has {len(names)} modules"
            )
        return names[position]

    def _renew(self, modules: Iterable[Module]) -> None:
        """Hold these modules instead, numbered from 0."""
        modules = list(modules)
        for name in self._names():
            delattr(self, name)
        for number, module in enumerate(modules):
            self.add_module(str(number), module)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter([self.__dict__[name] for name in self._names()])

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._sliced(index)
        return self.__dict__[self._name_at(index)]

    def _sliced(self, part: slice) -> Self:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renew(modules)

    def __contains__(self, module: object) -> bool:
        return any(child is module for child in self)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Add a module before the given index."""
        modules = list(self)
        modules.insert(index, module)
        self._renew(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def pop(self, key: int) -> Any:
        """Remove the module at an index and return it."""
        module = self[key]
        del self[key]
        return module


class Sequential(_Indexed):
    """Calls its modules one after another, each on the output of the one before.

    Takes modules, or one dict of names to modules.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    >>> net.append(torch.nn.Linear(8, 3))
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=3, bias=True)
    )
    >>> net[:2](torch.zeros(5, 4)).shape
    torch.Size([5, 8])
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            named: Iterable[tuple[str, Any]] = args[0].items()
        else:
            named = ((str(number), module) for number, module in enumerate(args))
        for name, module in named:
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """Send `input` through all modules."""
        attributes = self.__dict__
        for name in attributes["_module_names"]:
            input = attributes[name](input)
        return input

    def _sliced(self, part: slice) -> Self:
        return type(self)({name: self.__dict__[name] for name in self._names()[part]})


class ModuleList(_Indexed):
    """A list of modules that registers them; it has no `forward` of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _sliced(self, part: slice) -> Self:
        return type(self)(list(self)[part])

    def __repr__(self) -> str:
        """Equal neighbours stand together: `(0-2): 3 x Linear(...)`."""
        runs: list[tuple[int, int, str]] = []
        for number, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], number, text)
            else:
                runs.append((number, number, text))
        lines = []
        for first, last, text in runs:
            label = f"({first})" if first == last else f"({first}-{last})"
            times = "" if first == last else f"{last - first + 1} x "
            lines.append(f"  {label}: {times}{text}".replace("\n", "\n  "))
        return "\n".join([f"{self._get_name()}(", *lines, ")"]) if lines else f"{self._get_name()}()"


class ModuleDict(Module):
    """A dict of modules that registers them; it has no `forward` of its own."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """The names with their modules."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | ModuleDict | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules, from a mapping or from pairs."""
        pairs = modules.items() if isinstance(modules, Mapping | ModuleDict) else modules
        for name, module in pairs:
            self.add_module(name, module)

    def pop(self, key: str) -> Any:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Remove all modules."""
        for name in list(self):
            del self[name]
