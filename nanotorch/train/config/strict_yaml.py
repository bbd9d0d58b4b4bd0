"""Strict YAML: the text of a config as values that remember where they stand.

The YAML means what it looks like. `1e-3` is a number; `on`, `no`, `012` and `1:30` are texts; a key given
twice is a mistake; tags, anchors and aliases are refused, so a config can neither build objects nor grow
while it is read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nanotorch.train.terminal.text_report import MOST_PROBLEMS

LARGEST_FILE = 64 * 1024  # bytes; the shipped configs have about a thousand
LARGEST_TEXT = 4 * LARGEST_FILE  # a resolved config is longer than the one it came from
DEEPEST_NESTING = 20
TOO_DEEP = f"nested more than {DEEPEST_NESTING} levels deep"
NOT_TEXT = "half a character (a lone surrogate) is not text"
LONGEST_EXCERPT = 100  # characters of an offending line

KeyPath = tuple[str | int, ...]  # where a value stands: ("model", "hidden", 0)


# ------------------------------------------------------------ mistakes and where they stand


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a config file or in an override; lines and columns count from 1."""

    source: str
    text: str
    line: int = 1
    column: int = 1
    width: int = 1
    is_override: bool = False

    def __str__(self) -> str:
        """`file:line:col`, or the override as it was given."""
        given = self.source if len(self.source) <= LONGEST_EXCERPT else self.source[: LONGEST_EXCERPT - 3] + "..."
        source = f"override '{_printable(given)}'"
        return source if self.is_override else f"{_printable(self.source)}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """Return the line, with carets under the place."""
        start = max(0, min(self.column - 1 - LONGEST_EXCERPT // 2, len(self.text) - LONGEST_EXCERPT))
        shown = self.text[start : start + LONGEST_EXCERPT]
        before = self.column - 1 - start
        carets = "^" * max(1, min(self.width, len(shown) - before))
        number = "" if self.is_override else str(self.line)
        return f"{number:>5} | {_printable(shown)}\n{'':>5} | {' ' * before}{carets}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, at which key (empty for the file as a whole), and what is wrong."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        """Return the three lines that a person reads."""
        key = f"{_printable(self.key)}: " if self.key else ""
        return f"{self.mark}: {key}{self.message}\n{self.mark.excerpt()}"


class ConfigError(ValueError):
    """A config that cannot be used; `problems` holds every mistake, or none if no file could be read."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        """Return one error for all problems, in the order of the file; then the overrides in theirs."""
        in_file = [problem for problem in problems if not problem.mark.is_override]
        ordered = sorted(in_file, key=lambda problem: (problem.mark.line, problem.mark.column))
        ordered += [problem for problem in problems if problem.mark.is_override]
        shown = [str(problem) for problem in ordered[:MOST_PROBLEMS]]
        if len(ordered) > MOST_PROBLEMS:
            shown.append(f"... and {len(ordered) - MOST_PROBLEMS} more")
        return cls("\n".join(shown), ordered)


def show(value: Any) -> str:
    """Return what was given instead of what was expected, for a message.

    >>> show("1e3x"), show([1, 2]), show(None), show(-0.5)
    ("the text '1e3x'", 'a list of 2', 'nothing (null)', '-0.5')
    """
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


# ------------------------------------------------------------ text to values with marks


@dataclass(slots=True)
class Node:
    """A value of the file (a dict or list of nodes, or a plain value), with its mark and that of its key."""

    value: Any
    mark: Mark
    key: Mark

    def plain(self) -> Any:
        """Return the value without marks."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
        return self.value

    def copy(self) -> Node:
        """Return a tree of its own, which shares the plain values and the marks."""
        match self.value:
            case dict():
                return Node({key: node.copy() for key, node in self.value.items()}, self.mark, self.key)
            case list():
                return Node([node.copy() for node in self.value], self.mark, self.key)
        return Node(self.value, self.mark, self.key)

    def put(self, key: str, node: Node) -> str | None:
        """Set what stands at a dotted key below this node, in place; returns why there is no such place."""
        *parents, last = key.split(".")
        holder, walked = self, ""
        for part in parents:
            if holder.value is None:
                holder.value = {}
            if isinstance(holder.value, dict):
                holder.value.setdefault(part, Node({}, node.key, node.key))
            problem = _lacks(holder, part, walked)
            if problem:
                return problem
            holder = holder.value[int(part) if isinstance(holder.value, list) else part]
            walked = f"{walked}.{part}".lstrip(".")
        if holder.value is None:
            holder.value = {}
        problem = None if isinstance(holder.value, dict) else _lacks(holder, last, walked)
        if problem is None:
            holder.value[int(last) if isinstance(holder.value, list) else last] = node
        return problem

    def nearest(self, path: KeyPath) -> tuple[Node, KeyPath]:
        """Return the node at `path` below this one, or the last one on the way there, and how far that is."""
        node = self
        for depth, part in enumerate(path):
            below = node.value
            known = isinstance(below, dict) and part in below
            if not known and not (isinstance(below, list) and isinstance(part, int) and part < len(below)):
                return node, path[:depth]
            node = below[part]
        return node, path


def read(path: str | Path, largest: int = LARGEST_FILE) -> str:
    """Return the text of a file (`-` is standard input); a ConfigError in one line if it cannot be had."""
    name = _printable(str(path))
    try:
        if str(path) == "-":
            if sys.stdin is None:
                raise OSError("standard input is closed")
            data = sys.stdin.buffer.read(largest + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(largest + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise ConfigError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > largest:
        raise ConfigError(f"{name}: larger than {largest // 1024} KiB, which no config is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        found = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise ConfigError(f"{name}:{line}:{column}: {found}; save the file in that encoding") from None


def parse(text: str, source: str) -> tuple[Node | None, list[Problem]]:
    """Return the root of a text, and what is wrong with it; no root if the text is empty or is not YAML."""
    if len(text) > LARGEST_TEXT:
        raise ConfigError(f"{_printable(source)}: longer than {LARGEST_TEXT // 1024} KiB, which no config is")
    reader = _Reader(text.removeprefix("\ufeff"), source)
    return reader.read(), reader.problems


def override(root: Node, text: str) -> list[Problem]:
    """Put one `dotted.key=value` into the tree, read by the rules of the file; returns what is wrong."""
    key, equals, value = text.partition("=")
    whole = Mark(text, text, width=max(1, len(key)), is_override=True)
    if not equals or not all(key.split(".")) or not _is_text(key):
        return [Problem(whole, "", "an override is written key=value, such as optimizer.lr=1e-3")]
    reader = _Reader(value, text, offset=len(key) + 1)
    node = reader.read() or Node(None, whole, whole)
    if reader.problems:
        return [Problem(problem.mark, key, problem.message) for problem in reader.problems]
    node.key = whole
    problem = root.put(key, node)
    return [] if problem is None else [Problem(whole, key, problem)]


def _lacks(holder: Node, part: str, walked: str) -> str | None:
    """Return why there is nothing at `part` of a node that an override goes through; None if there is."""
    if isinstance(holder.value, dict):
        return None
    if not isinstance(holder.value, list):
        return f"{walked!r} is {show(holder.value)}, which has no keys"
    if re.fullmatch("0|[1-9][0-9]{0,8}", part) and int(part) < len(holder.value):
        return None
    known = f"its indices are 0 to {len(holder.value) - 1}" if holder.value else "it is empty"
    return f"{walked!r} is a list without index {part!r}: {known}"


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser with the scalars of YAML 1.2; used to compose nodes, never to construct."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        refused = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            refused = "anchors and aliases (& and *) are not supported; a text that starts so needs quotes"
        elif getattr(event, "tag", None) is not None:
            refused = "tags (!) are not supported; a text that starts so needs quotes"
        elif self.depth >= DEEPEST_NESTING:
            refused = TOO_DEEP
        if refused is not None:
            raise yaml.MarkedYAMLError(problem=refused, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Turns the text of one file, or of an override's value, into nodes; collects what is wrong with it."""

    def __init__(self, text: str, source: str, offset: int | None = None) -> None:
        self.text, self.source, self.offset = text, source, offset
        self.lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)  # as PyYAML counts them
        self.problems: list[Problem] = []

    def read(self) -> Node | None:
        """Return the root node; None if there is none, or if the text cannot be parsed at all."""
        try:
            root = _Loader(self.text).get_single_node()
            return None if root is None else self._node(root, ())
        except yaml.MarkedYAMLError as error:
            place = error.problem_mark or error.context_mark
            mark = self._mark(place.line, place.column) if place else self._mark(0, 0)
            self._add(mark, (), _syntax_message(error))
        except yaml.reader.ReaderError as error:
            before = re.split("\r\n|[\n\r\x85\u2028\u2029]", self.text[: error.position])
            mark = self._mark(len(before) - 1, len(before[-1]))
            self._add(mark, (), f"the character U+{ord(self.text[error.position]):04X} is not allowed in YAML")
        except RecursionError:  # the parser descends further than `compose_node`, on brackets alone
            self._add(self._mark(0, 0), (), TOO_DEEP)
        return None

    def _mark(self, line: int, column: int, width: int = 1) -> Mark:
        """Return the mark of a line and a column that count from 0."""
        if self.offset is not None:
            return Mark(self.source, self.source, 1, column + 1 + self.offset, width, is_override=True)
        return Mark(self.source, self.lines[min(line, len(self.lines) - 1)], line + 1, column + 1, width)

    def _mark_of(self, node: yaml.Node) -> Mark:
        start, end = node.start_mark, node.end_mark
        on_one_line = isinstance(node, yaml.ScalarNode) and start.line == end.line
        return self._mark(start.line, start.column, max(1, end.column - start.column) if on_one_line else 1)

    def _add(self, mark: Mark, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(mark, ".".join(map(str, path)), message))

    def _node(self, node: yaml.Node, path: KeyPath, key: Mark | None = None) -> Node:
        mark = self._mark_of(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self._node(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            value = self._scalar(node.tag.rpartition(":")[2], node.value, path, mark)
        return Node(value, mark, key or mark)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Node]:
        values: dict[str, Node] = {}
        for key_node, value_node in node.value:
            mark, key = self._mark_of(key_node), key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(mark, path, "a key has to be a word")
            elif not _is_text(key):
                self._add(mark, path, NOT_TEXT)
            elif key in values:
                first = values[key].key.line
                self._add(mark, (*path, key), f"this key is given twice, first in line {first}")
            else:
                values[key] = self._node(value_node, (*path, key), mark)
        return values

    def _scalar(self, kind: str, text: str, path: KeyPath, mark: Mark) -> Any:
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text)
                case "float":
                    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:  # Python does not read integers of thousands of digits
            self._add(mark, path, "this number has too many digits")
            return 0
        if not _is_text(text):
            self._add(mark, path, NOT_TEXT)
            return ""
        return text


def _is_text(text: str) -> bool:
    """Return whether every character exists; escapes such as "\\ud800" can write halves of one."""
    return not re.search("[\ud800-\udfff]", text)


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem, context = error.problem or "this is not YAML", error.context or ""
    if r"'\t'" in problem:
        return "a tab stands where YAML allows only spaces"
    if context == "expected a single document in the stream":
        return "a second document starts here; a config is one"
    if problem == "mapping values are not allowed here":
        return "no ':' is allowed here; check the indentation, or quote a text that contains ': '"
    return f"{problem} ({context})" if context else problem


# ------------------------------------------------------------ values to text


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Loader` or an ordinary YAML 1.1 reader would take for something else."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
_Loader.yaml_implicit_resolvers = {}
_SCALARS = {  # kind: what it looks like, and the characters it may start with
    "null": ("null|Null|NULL|~|", "nN~"),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": ("[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
for _kind, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        starts = [*_first, ""] if _kind == "null" else list(_first)
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), starts)


def dump(data: dict[str, Any]) -> str:
    """YAML that `parse`, and any other reader, turns back into the same values."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))
