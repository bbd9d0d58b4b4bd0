"""What a compiled node keeps of one value for its backward, described for everybody who is not its code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from nanotorch.autograd.graph.version import Version


class SavedSlot(NamedTuple):
    """Where a node keeps one value, under the name that the formulas give it.

    A class of compiled nodes lists those that a backward frees in `saved_slots`. How the attributes are called is the
    row compiler's own affair.

    Attributes:
        name: the name of the input, output or argument in the row, such as `self`, `result`, `dim`.
        kind: "input" (a tensor or a tuple of them; what else may stand for one, a number or None), "result" (an array;
            None where no formula will need it) or "argument" (anything; not freed).
        value: the attribute with the value.
        version: the attribute with the version at which it was saved (a list for a tuple); "" if there is none, since
            nobody can write to it.
        cell: the attribute with the version cell of a result; "" for inputs, which know theirs.
    """

    name: str
    kind: str
    value: str
    version: str = ""
    cell: str = ""

    def of(self, node: object) -> Any:
        """Return what a node keeps."""
        return getattr(node, self.value)

    def replace(self, node: object, value: Any) -> None:
        """Have a node keep something else."""
        setattr(node, self.value, value)

    def replace_result(self, node: object, value: Any, cell: Version) -> None:
        """Have a node keep another array, or what stands for it, of the present version of a storage."""
        setattr(node, self.value, value)
        if self.cell:
            setattr(node, self.cell, cell)
            setattr(node, self.version, cell.number)
