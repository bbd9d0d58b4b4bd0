"""The checks of single values of a config: every one against the schema that the names beside it ask for."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from nanotorch.registry import MOST, UnknownNameError, closest, describe_type
from nanotorch.train.config.sections import (
    EXAMPLES,
    PLAIN_SECTIONS,
    SECTIONS,
    Config,
    NamedSection,
    Section,
    config_class,
    nameless_class,
    section_class,
)
from nanotorch.train.config.strict_yaml import KeyPath, Node, Problem, show
from nanotorch.train.terminal.text_report import MOST_PROBLEMS


class Check:
    """One pass over a tree of nodes: finds the schema that its names ask for, and all that breaks it."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.broken: set[KeyPath] = set()
        self.holding: set[KeyPath] = set()  # what stands around what is broken
        self.known: dict[str | None, dict[str, Any]] = {}
        self.unknown = 0
        self.sections: dict[str, type[Section]] = dict(PLAIN_SECTIONS)
        for key, base in SECTIONS.items():
            if issubclass(base, NamedSection):
                self._find_section(key, base)

    def run(self) -> Config | None:
        """Return the config, or None where one of its values breaks the schema."""
        config = None
        try:
            schema = config_class(tuple(self.sections.items()))
            config = schema.model_validate_json(json.dumps(self.root.plain()))
        except ValidationError as error:
            unexplained = [
                path
                for detail in error.errors(include_url=False)
                if (path := self._explain(detail["type"], detail["loc"], detail.get("ctx", {}))) is not None
            ]
            for path in unexplained:  # not one of its types told why
                if path not in self.holding:
                    self.report(path, self._unlike(path))
        return config

    def report(self, path: KeyPath, message: str, at_key: bool = False) -> None:
        """Add a problem at a path; where nothing stands there, at what stands around it."""
        if path not in self.broken:
            self.broken.add(path)
            self.holding |= {path[:depth] for depth in range(len(path) + 1)}
            node, _ = self.root.nearest(path)
            mark = node.key if at_key else node.mark
            self.problems.append(Problem(mark, ".".join(map(str, path)), message))

    def is_given(self, path: KeyPath) -> bool:
        """Return whether something stands at a path."""
        return self.root.nearest(path)[1] == path

    def value(self, section: str, key: str) -> Any:
        """Return a value or its default; None where it is broken, or where the section does not have that key."""
        schema = self.sections.get(section)
        if (
            schema is None
            or key not in schema.model_fields
            or (section,) in self.broken
            or (section, key) in self.holding
        ):
            return None
        node, path = self.root.nearest((section, key))
        if len(path) == 2:
            return node.plain()
        field = schema.model_fields[key]
        return None if field.is_required() else field.default

    # -- names

    def _find_section(self, key: str, base: type[NamedSection]) -> None:
        """Take the schema of the section `key` from the name in it, or report that there is none to take."""
        default = base.model_fields["name"].default
        if not self.is_given((key,)):
            if isinstance(Config.model_fields[key].default, NamedSection):
                self.sections[key] = section_class(base, default)
            return
        kind, given = base.registry.kind, self.root.value[key].value
        if given is None and key == "scheduler":
            return
        if not isinstance(given, dict):
            example = f"{{name: {next(iter(base.registry.entries), '...')}}}"
            self.report((key,), f"expected a mapping such as {example}, got {show(given)}")
            return
        for implies in base.name_of_key.keys() & given.keys():
            implied = base.name_of_key[implies]
            if given.setdefault("name", Node(implied, given[implies].mark, given[implies].key)).value != implied:
                message = f"give either name, for a registered {kind}, or {implies}, not both"
                self.report((key, "name"), message, at_key=True)
                self.sections[key] = nameless_class(base)
                return
        name = given["name"].value if "name" in given else default
        if "name" not in given and not isinstance(default, str):
            known = ", ".join(base.registry)
            message = "".join(f"; or give {other}: PATH" for other in base.name_of_key)
            message = f"required key is missing{message}; the known names are: {known}"
            self.report((key, "name"), message, at_key=True)
        elif not isinstance(name, str):
            self.report((key, "name"), f"expected the name of a {kind}, got {show(name)}")
        else:
            try:
                self.sections[key] = section_class(base, base.registry.entry(name).name)
            except UnknownNameError as error:
                self.report((key, "name"), str(error))
                meant = closest(name, base.registry.entries)
                if meant is not None:  # its arguments are checked as those of what was meant
                    self.sections[key] = section_class(base, meant)
        self.sections.setdefault(key, nameless_class(base))

    # -- single values

    def _explain(self, kind: str, location: KeyPath, context: Mapping[str, Any]) -> KeyPath | None:
        """Report one of pydantic's errors in the words of the config;
        return a path whose mapping this error does not mean.
        """
        if location[0] in SECTIONS and location[0] not in self.sections and self.is_given(location[:1]):
            return None  # without its name there is no schema to hold it against, and that is reported
        node, path = self.root.nearest(location)
        # one of several types it may have
        if isinstance(node.value, dict) and len(path) > 1 and len(path) < len(location):
            if not str(location[len(path)]).startswith("dict"):
                return path
            location = (*path, *location[len(path) + 1 :])
            node, path = self.root.nearest(location)
        annotation = self._annotation(path)
        if kind == "extra_forbidden":
            self.report(location, self._unknown_key(location), at_key=True)
        elif kind == "missing" and isinstance(node.value, dict):
            annotation = self._annotation(location)
            example = EXAMPLES.get(str(location[0])) if len(location) == 1 else None
            expected = (
                f", such as {location[0]}: {example}"
                if example
                else ""
                if annotation is None
                else f" ({describe_type(annotation)})"
            )
            self.report(location, f"required key is missing{expected}", at_key=True)
        elif kind == "value_error":
            self.report(path, str(context["error"]))
        elif MOST in (context.get("le"), -context.get("ge", 0)):
            self.report(path, f"expected an int of at most {MOST:,}, got {show(node.value)}")
        else:
            self.report(path, self._unlike(path))
        return None

    def _unlike(self, path: KeyPath) -> str:
        """Return what may stand at a path, and what does."""
        node, _ = self.root.nearest(path)
        annotation = self._annotation(path)
        return f"expected {'a mapping' if annotation is None else describe_type(annotation)}, got {show(node.value)}"

    def _keys(self, section: str | None) -> dict[str, Any]:
        """Return the keys of a section, or of the whole config, and what each may hold; None for a section."""
        if section not in self.known:
            self.known[section] = self._find_keys(section)
        return self.known[section]

    def _find_keys(self, section: str | None) -> dict[str, Any]:
        schema = Config if section is None else self.sections.get(section)
        if schema is None:
            return {}
        hints = get_type_hints(schema, include_extras=True)
        keys = {key: None if section is None and key in SECTIONS else hints[key] for key in schema.model_fields}
        if issubclass(schema, NamedSection) and schema.argument_names:
            arguments = schema.registry.arguments(schema.__name__)
            keys |= {key: argument.annotation for key, argument in arguments.items()}
        return keys

    def _annotation(self, path: KeyPath) -> Any:
        """Return what may stand at a path; None for a section or the whole."""
        section = str(path[0]) if path and path[0] in SECTIONS else None
        key, *items = (path[1:] if section else path) or (None,)
        annotation = self._keys(section).get(str(key))
        for index in items:
            annotation = _item_type(annotation, index)
        return annotation

    def _unknown_key(self, path: KeyPath) -> str:
        section, key = (str(path[0]), str(path[1])) if len(path) > 1 else (None, str(path[0]))
        known = self._keys(section)
        schema = None if section is None else self.sections[section]
        owner = ""
        if schema is not None and issubclass(schema, NamedSection):
            owner = f" of {schema.__name__}"
            if key in schema.registry.supplied:
                return "the trainer gives this argument; it cannot be configured"
        self.unknown += 1
        if self.unknown > MOST_PROBLEMS:  # a guess takes its time, and nobody sees this one
            return "unknown key"
        near = closest(key, known)
        for elsewhere in (None, *self.sections):
            if key in self._keys(elsewhere):
                near = key if elsewhere is None else f"{elsewhere}.{key}"
        if near is not None:
            return f"unknown key (did you mean {near!r}?)"
        return f"unknown key; the keys{owner} are: {', '.join(known)}"


def _item_type(annotation: Any, index: Any) -> Any:
    """Return the annotation of an item of a list; None where it cannot be told."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        item = _item_type(inner[0], index)
        return None if item is None else Annotated[(item, *inner[1:])]
    if origin in (Union, types.UnionType):
        return next((found for part in inner if (found := _item_type(part, index)) is not None), None)
    if origin is dict:
        return inner[1]
    if origin is tuple and Ellipsis not in inner:
        return inner[index] if isinstance(index, int) and index < len(inner) else None
    if origin in (list, tuple, Sequence, Iterable):
        return inner[0]
    return float if getattr(annotation, "__name__", "") == "Tensor" else None
