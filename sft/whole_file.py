"""Files that are there whole and synced or not at all, whoever else writes the same one at the time.

Unlike ``envs.files.replacing`` every writer has a file of its own: several processes, threads or machines may unpack
or build the same shard. What a killed writer left behind is cleared away by the next.
"""

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of ``path`` once it is synced; nothing is left of one that failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file that is there when it is whole and synced."""
    with whole_file(Path(path)) as file:
        file.write(content)


def _clear(path: Path) -> None:
    """Remove what writers of ``path`` left behind that no longer run: a living one holds the lock of its file."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        try:
            with partial.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_size:  # an empty one may be about to be locked
                    partial.unlink(missing_ok=True)
        except OSError:  # locked by its writer, gone, or another user's
            continue
