"""The file format that TensorBoard reads, as far as scalars and texts need it.

Note [Event files]
~~~~~~~~~~~~~~~~~~
A file is a sequence of records: the length of the data as 8 bytes, a checksum of these 8 bytes, the data, a checksum of
the data; all little-endian. The checksum is the CRC-32C, turned and shifted so that it does not look like one of
itself. The data is an `Event` message in the encoding of Protocol Buffers: fields, each with its number and kind, in
any order. The messages are those of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto`; their field numbers
never change. Written by hand, since the libraries that write them are some hundred times larger and slower to import
than these lines.
"""

from __future__ import annotations

import math
import struct
from functools import cache
from io import BufferedWriter
from pathlib import Path

TEXT_TYPE = 7  # DT_STRING
LARGEST = 3.4028234663852886e38  # of 32-bit floats, in which a curve is kept


class EventFile:
    """A new file of events, to be closed at the end (Note [Event files]).

    Args:
        path: its place; TensorBoard wants "tfevents" in the name.
        wall_time: when it begins, in seconds since 1970.
    """

    def __init__(self, path: Path, wall_time: float) -> None:
        self._file: BufferedWriter = path.open("xb")
        self._event(wall_time, 0, _bytes(3, b"brain.Event:2"))

    def scalar(self, tag: str, value: float, step: int, wall_time: float) -> None:
        """Add a point of the curve `tag`."""
        near = max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else value
        self._event(wall_time, step, _bytes(5, _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", near))))

    def text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Add a text, which TensorBoard takes for Markdown."""
        one = _bytes(2, _integer(1, 1))  # a shape with one dimension of size 1
        tensor = _bytes(8, _integer(1, TEXT_TYPE) + _bytes(2, one) + _bytes(8, text.encode()))
        plugin = _bytes(9, _bytes(1, _bytes(1, b"text")))
        self._event(wall_time, step, _bytes(5, _bytes(1, _bytes(1, tag.encode()) + tensor + plugin)))

    def flush(self) -> None:
        """Hand what was written to the system, so that TensorBoard sees it."""
        self._file.flush()

    def close(self) -> None:
        """Write the rest, and close."""
        self._file.close()

    def _event(self, wall_time: float, step: int, content: bytes) -> None:
        data = b"\x09" + struct.pack("<d", wall_time) + _integer(2, step) + content
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes, as in RFC 3720, B.4.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _checksum(data: bytes) -> bytes:
    value = crc32c(data)
    turned = ((value >> 15) | (value << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (turned + 0xA282EAD8) & 0xFFFFFFFF)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return a whole number in pieces of 7 bits, the lowest first; the eighth bit says that more follow."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
