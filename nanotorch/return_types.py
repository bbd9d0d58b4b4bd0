"""The named tuples that operators with several outputs return, by the names of ``torch.return_types``.

>>> isinstance(torch.tensor([1.0, 2.0]).max(dim=0), torch.return_types.max)
True
"""

from __future__ import annotations

from nanotorch.ops.rows import row as _row

globals().update(_row.return_types())
