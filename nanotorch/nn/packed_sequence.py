"""Sequences of several lengths in one tensor: padded to the longest, or packed without gaps.

Note [Packed sequences]
~~~~~~~~~~~~~~~~~~~~~~~
A packed batch holds, step after step, the elements of those sequences that are that long. Sorted from the longest to
the shortest, the sequences of a step are always the first ones, so a number per step, `batch_sizes`, says all::

    a b c d        data         a e g | b f | c | d
    e f        ->  batch_sizes  3       2     1   1
    g
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.create.creation import as_tensor, full
from nanotorch.ops.shape.join import cat, stack


class PackedSequence(NamedTuple):
    """A packed batch (Note [Packed sequences]), as `pack_padded_sequence` and `pack_sequence` make it.

    Attributes:
        data: the elements, step after step.
        batch_sizes: how many sequences have a step, as int64 on the CPU.
        sorted_indices: the number that each sequence had before they were sorted; None if they were.
        unsorted_indices: where each sequence is now.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return the batch on another device or with another dtype; the sizes stay on the CPU."""
        data = self.data.to(*args, **kwargs)
        places = [None if p is None else p.to(data.device) for p in self[2:]]
        return PackedSequence(data, self.batch_sizes, *places)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Return where each number of a permutation stands."""
    return None if permutation is None else permutation.argsort()


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack sequences that are padded to one length: (T, B, *), or (B, T, *) with `batch_first`.

    Args:
        input: the padded sequences.
        lengths: how long each is, at least 1.
        batch_first: whether the batch is the first dimension.
        enforce_sorted: refuse lengths that are not decreasing; without it sequences are sorted, and results sorted
            back.
    """
    padded = input.transpose(0, 1) if batch_first else input
    steps, batch = padded.shape[:2]
    sizes = np.asarray(lengths.cpu().numpy() if isinstance(lengths, Tensor) else lengths, dtype=np.int64)
    if sizes.shape != (batch,):
        raise RuntimeError(
            f"pack_padded_sequence: Expected `len(lengths)` to be equal to batch_size, but got {sizes.size}"
            f" (batch_size={batch})"
        )
    if batch == 0 or sizes.min() <= 0:
        raise RuntimeError("pack_padded_sequence: Length of all samples has to be greater than 0")
    if sizes.max() > steps:
        raise RuntimeError(f"pack_padded_sequence: a length is {sizes.max()}, but the sequences have {steps} steps")
    order = None
    if not enforce_sorted:
        sort = np.argsort(-sizes, kind="stable")
        sizes, order = sizes[sort], from_array(sort).to(input.device)
        padded = padded.index_select(1, order)
    elif (np.diff(sizes) > 0).any():
        raise RuntimeError(
            "pack_padded_sequence: `lengths` array must be sorted in decreasing order when `enforce_sorted` is True;"
            " pass enforce_sorted=False to have the sequences sorted"
        )
    there = np.arange(sizes[0])[:, None] < sizes
    rows = from_array(np.flatnonzero(there)).to(input.device)
    data = padded.reshape(steps * batch, *padded.shape[2:]).index_select(0, rows)
    return PackedSequence(data, from_array(there.sum(1)), order, invert_permutation(order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the padded sequences of a packed batch, in their first order, and their lengths;
    padded to `total_length` if given.
    """
    sizes = sequence.batch_sizes.numpy()
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None and total_length < steps:
        raise ValueError(
            "pad_packed_sequence: Expected total_length to be at least the length of the longest sequence in input,"
            f" but got total_length={total_length} and max sequence length being {steps}"
        )
    data = sequence.data
    there = np.arange(batch) < sizes[:, None]
    rows = np.full((total_length or steps, batch), len(data))  # the row after the last is padding
    rows[:steps][there] = np.arange(len(data))
    lengths = from_array(there.sum(0))
    if sequence.unsorted_indices is not None:
        places = sequence.unsorted_indices.cpu().numpy()
        rows, lengths = rows[:, places], from_array(there.sum(0)[places])
    if batch_first:
        rows = rows.T
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    index = from_array(np.ascontiguousarray(rows).reshape(-1)).to(data.device)
    return cat([data, padding]).index_select(0, index).reshape(*rows.shape, *data.shape[1:]), lengths


def pad_sequence(
    sequences: Tensor | Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Pad tensors (L, *) of several lengths to the longest and stack them: (T, B, *), or (B, T, *) with `batch_first`.

    >>> pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
    tensor([[1, 2],
            [3, 0]])
    """
    if padding_side not in ("left", "right"):
        raise RuntimeError(f'pad_sequence: padding_side is "left" or "right", got {padding_side!r}')
    parts = list(sequences)
    if not parts:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    longest = max(part.shape[0] for part in parts)
    padded = []
    for part in parts:
        missing = longest - part.shape[0]
        if missing:
            gap = full((missing, *part.shape[1:]), padding_value, dtype=part.dtype, device=part.device)
            part = cat([part, gap] if padding_side == "right" else [gap, part])
        padded.append(part)
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """Return the single sequences of a padded batch."""
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [batch[number][:length] for number, length in enumerate(as_tensor(lengths).tolist())]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors (L, *) of several lengths; see `pack_padded_sequence`."""
    return pack_padded_sequence(
        pad_sequence(sequences), [part.shape[0] for part in sequences], enforce_sorted=enforce_sorted
    )


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the single sequences of a packed batch."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
