"""Files that may be compressed, as streams of bytes: .gz, .bz2, .xz and .zip, by the ending of the name.

Note [A small file can claim any size]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A megabyte can be packed so that a gigabyte or more comes out of it. So a packed file may give at most `MOST_UNPACKED`
bytes, or `MOST_TIMES` as many as it has itself where that is more: tables of numbers shrink to a fifth, very regular
ones to a fiftieth.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nanotorch.train.data.table import TableError, one_line, quoted

MOST_UNPACKED = 2**30  # bytes
MOST_TIMES = 100
PACKED = (".gz", ".bz2", ".xz", ".zip")
TEXTS = (".csv", ".tsv", ".tab", ".txt", ".dat")
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, NotImplementedError)


def most_unpacked(size: int) -> int:
    """Return how many bytes may come out of a packed file of so many (Note [A small file can claim any size])."""
    return max(MOST_UNPACKED, MOST_TIMES * size)


@contextmanager
def opened(path: Path, source: str) -> Iterator[BinaryIO]:
    """Within `with`, the bytes of a file, unpacked where its name says so; `source` is what messages call it."""
    suffix = path.suffix.lower()
    with ExitStack() as held:
        file = held.enter_context(open(path, "rb"))
        if suffix not in PACKED:
            yield file
            return
        try:
            if suffix == ".zip":
                archive = held.enter_context(zipfile.ZipFile(file))
                inner: Any = held.enter_context(archive.open(_the_table(archive, source)))
            else:
                unpack: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[suffix]
                inner = unpack(file)
        except DAMAGED as error:
            raise _damaged(source, error) from None
        limited = _Limited(inner, most_unpacked(os.fstat(file.fileno()).st_size), source)
        yield held.enter_context(io.BufferedReader(limited, 2**18))


class _Limited(io.RawIOBase):
    """The bytes of a packed file, and a TableError where they are damaged or too many."""

    def __init__(self, packed: BinaryIO, most: int, source: str) -> None:
        self.packed, self.most, self.left, self.source = packed, most, most, source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self.packed.read(len(buffer))
        except DAMAGED as error:
            raise _damaged(self.source, error) from None
        self.left -= len(content)
        if self.left < 0:
            raise TableError(
                f"{self.source} unpacks to more than {self.most:,} bytes, {MOST_TIMES} times its size or more; if that"
                " is meant, unpack it first"
            )
        buffer[: len(content)] = content
        return len(content)


def _damaged(source: str, error: Exception) -> TableError:
    return TableError(f"{source} cannot be unpacked: {one_line(error)}")


def _the_table(archive: zipfile.ZipFile, source: str) -> str:
    """Return the one file of an archive that is a table."""
    names = [
        one.filename for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")
    ]
    tables = [name for name in names if name.lower().endswith(TEXTS)] if len(names) > 1 else names
    if len(tables) != 1:
        files = quoted(names)
        raise TableError(f"{source}: a .zip has to hold one table, and this one has {len(names)} files: {files}")
    return tables[0]
