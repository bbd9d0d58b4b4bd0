"""Modules that hold other modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_index
from typing import Any, Self

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter


class _Indexed(Module):
    """What the lists share: submodules (or parameters) in order, as in a Python list."""

    _kind = "_module_names"

    def __init__(self, parts: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(parts)

    def _add(self, name: str, part: Any) -> None:
        self.add_module(name, part)

    def _names(self) -> list[str]:
        return list(self.__dict__[self._kind])

    def _name_at(self, index: int) -> str:
        names = self._names()
        position = as_index(index)
        if not -len(names) <= position < len(names):
            parts = self._kind.removesuffix("_names").strip("_") + "s"
            raise IndexError(f"index {position} is out of range: this {type(self).__name__} has {len(names)} {parts}")
        return names[position]

    def _renew(self, parts: Iterable[Any]) -> None:
        """Hold these parts instead, numbered from 0."""
        parts = list(parts)
        for name in self._names():
            delattr(self, name)
        for number, part in enumerate(parts):
            self._add(str(number), part)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter([self.__dict__[name] for name in self._names()])

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._sliced(index)
        return self.__dict__[self._name_at(index)]

    def _sliced(self, part: slice) -> Self:
        return type(self)(list(self)[part])

    def __setitem__(self, index: int, part: Any) -> None:
        self._add(self._name_at(index), part)

    def __delitem__(self, index: int | slice) -> None:
        parts = list(self)
        del parts[index]
        self._renew(parts)

    def __contains__(self, part: object) -> bool:
        return any(own is part for own in self)

    def __iadd__(self, parts: Iterable[Any]) -> Self:
        return self.extend(parts)

    def append(self, part: Any) -> Self:
        """Add one at the end."""
        self._add(str(len(self)), part)
        return self

    def insert(self, index: int, part: Any) -> Self:
        """Add one before the given index."""
        parts = list(self)
        parts.insert(index, part)
        self._renew(parts)
        return self

    def extend(self, parts: Iterable[Any]) -> Self:
        """Add several at the end."""
        for part in list(parts):
            self.append(part)
        return self

    def pop(self, key: int) -> Any:
        """Remove the one at an index and return it."""
        part = self[key]
        del self[key]
        return part


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

    def __add__(self, other: Iterable[Module]) -> Sequential:
        return Sequential(*self, *other)

    def __mul__(self, times: int) -> Sequential:
        return Sequential(*(list(self) * times))

    def _sliced(self, part: slice) -> Self:
        return type(self)({name: self.__dict__[name] for name in self._names()[part]})


class ModuleList(_Indexed):
    """A list of modules that registers them; it has no `forward` of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

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


class _Named(Module):
    """What the dicts share: submodules (or parameters) by name, in order."""

    _kind = "_module_names"

    def _add(self, name: str, part: Any) -> None:
        self.add_module(name, part)

    def _parts(self) -> Mapping[str, Any]:
        return self._registered(self._kind)

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts())

    def __contains__(self, key: object) -> bool:
        return key in self._parts()

    def __getitem__(self, key: str) -> Any:
        return self._parts()[key]

    def __setitem__(self, key: str, part: Any) -> None:
        self._add(key, part)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts().keys()

    def values(self) -> Iterable[Any]:
        """What the names stand for."""
        return self._parts().values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """The names with what they stand for."""
        return self._parts().items()

    def update(self, parts: Mapping[str, Any] | _Named | Iterable[tuple[str, Any]]) -> None:
        """Add or replace, from a mapping or from pairs."""
        for name, part in parts.items() if isinstance(parts, Mapping | _Named) else parts:
            self._add(name, part)

    def pop(self, key: str) -> Any:
        """Remove one and return it."""
        part = self[key]
        del self[key]
        return part

    def clear(self) -> None:
        """Remove all."""
        for name in list(self):
            del self[name]


class ModuleDict(_Named):
    """A dict of modules that registers them; it has no `forward` of its own."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)


class ParameterList(_Indexed):
    """A list of parameters that registers them; tensors that are none are made parameters.

    >>> scales = torch.nn.ParameterList([torch.ones(2), torch.ones(3, 4)])
    >>> [name for name, _ in scales.named_parameters()]
    ['0', '1']
    """

    _kind = "_parameter_names"

    def __init__(self, values: Iterable[Tensor] = ()) -> None:
        super().__init__(values)

    def _add(self, name: str, part: Any) -> None:
        self.register_parameter(name, _as_parameter(part))

    def extra_repr(self) -> str:
        """The parameters with their dtypes and shapes."""
        return _described(self._parameters)


class ParameterDict(_Named):
    """A dict of parameters that registers them; tensors that are none are made parameters."""

    _kind = "_parameter_names"

    def __init__(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = ()) -> None:
        super().__init__()
        self.update(parameters)

    def _add(self, name: str, part: Any) -> None:
        self.register_parameter(name, _as_parameter(part))

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter with a name, or the default where there is none."""
        return self._parameters.get(key, default)

    def extra_repr(self) -> str:
        """The parameters with their dtypes and shapes."""
        return _described(self._parameters)


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _described(parameters: Mapping[str, Parameter | None]) -> str:
    """One line per parameter, as PyTorch prints them."""
    return "\n".join(
        f"  ({name}): Parameter containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
        for name, value in parameters.items()
        if value is not None
    )
