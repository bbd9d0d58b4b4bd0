"""No file of the package needs itself, through whatever others, to be imported or to be understood."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from package_files import FILES, imports, module_of

# Files that name each other's classes in annotations, though none imports another one that imports it. A tensor has a
# node, whose hooks are given tensors, and a view, which has a tensor: no cut makes these easier to read.
ONE_IDEA = [
    {
        "nanotorch.autograd.graph.copying",
        "nanotorch.autograd.graph.formatting",
        "nanotorch.autograd.graph.node",
        "nanotorch.autograd.graph.tensor",
        "nanotorch.autograd.graph.view",
    },
    {"nanotorch.capture.compiled", "nanotorch.capture.many_steps"},
]


def imported(for_types: bool) -> dict[str, set[str]]:
    """Return for every file of the package the others that it imports."""
    names = {module_of(path) for path in FILES}
    return {
        module_of(path): {
            inner if (inner := f"{found.module}.{found.name}") in names else found.module
            for found in imports(path)
            if for_types or not found.typing_only
        }
        & names
        for path in FILES
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the names along a circle, the first one again at its end; an empty list if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_file_imports_itself_through_others() -> None:
    assert circle(imported(for_types=False)) == []


def test_no_annotation_closes_a_circle_but_among_the_parts_of_one_idea() -> None:
    together = {name: f"{min(files)} and others" for files in ONE_IDEA for name in files}
    graph: dict[str, set[str]] = {}
    for name, found in imported(for_types=True).items():
        here = together.get(name, name)
        graph.setdefault(here, set()).update({together.get(other, other) for other in found} - {here})
    assert circle(graph) == []


@pytest.mark.parametrize("files", ONE_IDEA, ids=min)
def test_files_of_one_idea_name_each_other(files: set[str]) -> None:
    graph = imported(for_types=True)
    inside = {name: graph.get(name, set()) & files for name in files}
    for name in files:
        reached, stack = set[str](), [name]
        while stack:
            new = inside[stack.pop()] - reached
            reached |= new
            stack += new
        assert name in reached, f"{name} is in no circle any more: take it off the list"
