"""How often code outside of autograd reaches into tensors and nodes: the counts may only fall."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import nanotorch as torch
from nanotorch.autograd.graph.node import AccumulateGrad, Hooks, Node

PACKAGE = Path(torch.__file__).parent

# What tensors and nodes keep for the graph and its engine. Not counted: what PyTorch shows under the same name.
PYTORCH = {"_version", "_base", "_is_view", "_sequence_nr", "_backward_hooks"}
PRIVATE = {
    name
    for cls in (torch.Tensor, Node, AccumulateGrad, Hooks)
    for name in vars(cls)
    if name.startswith("_") and not name.startswith("__") and name not in PYTORCH
}
ANY = re.compile(rf"\.({'|'.join(PRIVATE)})\b")

# By package. Whoever lowers a count lowers the number here.
MOST: dict[str, int] = {
    "capture": 81,
    "dtypes": 2,
    "nn": 12,
    "ops": 164,
    "optim": 17,
    "summary": 2,
    "train": 1,
    "utils": 5,
}


def reach_ins(path: Path) -> int:
    """Count the private attributes of tensors and nodes that a file takes; its own, of `self`, are another thing."""
    text, owners = path.read_text(), {"self", "cls", "module", "part"}  # a Module, too, has `_hooks`
    if not ANY.search(text):
        return 0
    return sum(
        isinstance(node, ast.Attribute)
        and node.attr in PRIVATE
        and not (isinstance(node.value, ast.Name) and node.value.id in owners)
        for node in ast.walk(ast.parse(text))
    )


def counted() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if package != "autograd":
            found[package] += reach_ins(path)
    return +found


def test_reaching_into_tensors_and_nodes_only_falls() -> None:
    found = counted()
    assert {name: count for name, count in found.items() if count > MOST.get(name, 0)} == {}, "take a public name"
    assert {name: most for name, most in MOST.items() if found[name] < most} == {}, f"lower the numbers: {dict(found)}"


def test_the_names_that_are_counted() -> None:
    assert {"_array", "_edge", "_cell", "_grad", "_view", "_hooks", "_released", "_bump_version"} <= PRIVATE
