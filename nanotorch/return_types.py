"""The named tuples that operators with several outputs return, by the names of `torch.return_types`.

>>> isinstance(torch.tensor([1.0, 2.0]).max(dim=0), torch.return_types.max)
True
"""

from __future__ import annotations

from nanotorch.ops.rows import row as _row


def __getattr__(name: str) -> type[tuple[object, ...]]:
    """Make the named tuples when the first one is asked for: that takes 2 ms."""
    globals().update(_row.return_types())
    if name in globals():
        found: type[tuple[object, ...]] = globals()[name]
        return found
    raise AttributeError(f"module 'nanotorch.return_types' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_row.return_types())
