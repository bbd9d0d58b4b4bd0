"""Files: written beside their place and then renamed, all or nothing;
read up to a limit, and only where they are plain files.

Note [Whose file it is]
~~~~~~~~~~~~~~~~~~~~~~~
A path that the user names is the user's: a link is followed for reading, a pipe or a terminal can be written to. A name
that the program chose, in a directory that somebody else may have prepared, has to be a plain file: a link could lead
the writing into any file of the user's, and the reading to a device without end. A second name of the same file (a hard
link) is no harm to reading, nor to replacing, which leaves the other name with the old content; to write into such a
file in place would change both.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # to open a pipe does not wait for its other end
PathLike = str | os.PathLike[str]


@contextmanager
def writing(path: PathLike, mode: str = "wb", own: bool = False, **options: Any) -> Iterator[IO[Any]]:
    """Within `with`, a file to write to, which takes its place only when all of it is on the disk.

    What was there stays as it is until then, and after an error; a link is replaced, not followed. A pipe, a terminal
    or a device that the user names is written to directly; with `own` (Note [Whose file it is]) it is replaced too.
    """
    from pathlib import Path  # its import takes 6 ms, and most programs write no file

    place = Path(path)
    before = place.stat() if place.exists() else None
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    if before is not None and not own and not stat.S_ISREG(before.st_mode):
        with open(place, mode, **options) as file:
            yield file
        return
    if before is not None and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    temporary = place.with_name(f".{os.urandom(4).hex()}.writing")
    try:
        with open(temporary, mode.replace("w", "x"), **options) as file:  # x: a new file, so no link is followed either
            if before is not None and stat.S_ISREG(before.st_mode):
                os.chmod(temporary, stat.S_IMODE(before.st_mode) & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(place)) from error
        raise


def write(path: PathLike, content: bytes | str, own: bool = False) -> None:
    """Write a file, all of it or nothing, and wait until it is on the disk; texts become UTF-8."""
    with writing(path, "wb", own) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def append(path: PathLike, content: str) -> None:
    """Add to a file of the program's own (Note [Whose file it is]), which is made where there is none."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file:
        file.write(content.encode("utf-8"))


def open_own(path: PathLike, flags: int) -> int:
    """Return a descriptor of a file of the program's own; an OSError says why it is none (Note [Whose file it is])."""
    written = bool(flags & (os.O_WRONLY | os.O_RDWR))
    with suppress(FileNotFoundError):
        _refuse_unless_plain(path, os.lstat(path), written)
    descriptor = os.open(path, flags | NO_LINK | NO_WAIT, 0o666)
    try:
        _refuse_unless_plain(path, os.fstat(descriptor), written)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_unless_plain(path: PathLike, found: os.stat_result, written: bool) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "is a link, and has to be a file of its own", str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe, a device or the like"
        raise OSError(errno.EINVAL, f"is {kind}, and has to be a plain file", str(path))
    if written and found.st_nlink > 1:
        raise OSError(
            errno.EMLINK, "has a second name elsewhere (a hard link), whose content would change with it", str(path)
        )


def read_own(path: PathLike, most: int) -> bytes:
    """Return the content of a file of the program's own, of at most `most` bytes (Note [Whose file it is])."""
    return _up_to(open_own(path, os.O_RDONLY), path, most)


def read(path: PathLike, most: int) -> bytes:
    """Return the content of a file that the user names, of at most `most` bytes;
    of a device or a pipe, until it ends.
    """
    return _up_to(os.open(path, os.O_RDONLY), path, most)


def _up_to(descriptor: int, path: PathLike, most: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"is larger than the {most:,} bytes that such a file can have", str(path))
    return content


def same(one: PathLike, other: PathLike) -> bool:
    """Return whether two paths lead to one file, whatever links and names they take to it."""
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False


def expanded(path: str) -> str:
    """Return the path with a leading `~` or `~user` as the directory that it stands for;
    a ValueError if there is none.
    """
    if not path.startswith("~"):
        return path
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ValueError(
            f"{path}: there is no home directory {path.split('/')[0]}; give ./{path} for a name that begins with ~"
        )
    return found
