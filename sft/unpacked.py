"""Unpacked shards: Arrow files beside the parquet files, or in a folder of their own, that are memory-mapped.

The name of one says of which shard it is, by the path from its folder, and of which version of the shard: by size, time
and footer, which has the offsets and the extremes of every column. A folder may be shared by any number of data sets.
"""

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .rows import schema
from .whole_file import whole_file

UNPACKED = ".rows"
"""Folder of the unpacked shards, beside the shards."""


def mapped(path: Path, folder: Path | None) -> Any:
    """A shard as a memory-mapped ``pyarrow`` table; unpacked first where it is new or has changed.

    Args:
        path: The parquet file.
        folder: Where unpacked shards are; ``None``: ``UNPACKED`` beside the file.

    Raises:
        ValueError: No such parquet file, or columns that are missing.
        OSError: The folder cannot be written, or the disk is full.
    """
    import pyarrow as pa

    if not path.is_file():
        raise ValueError(f"Expected a parquet file, got no file {str(path)!r}.")
    folder = folder or path.parent / UNPACKED
    place = os.path.relpath(path.resolve(), folder.resolve())  # moved together they still belong together
    name = f"{path.stem}-{_short(place.encode())}"
    target = folder / f"{name}-{_version(path)}.arrow"
    if not target.exists():
        with whole_file(target) as file, pa.ipc.new_file(file, schema()) as writer:
            for batch in batches(path, schema()):
                writer.write_batch(batch)
        for older in folder.glob(f"{glob.escape(name)}-*.arrow"):
            if older != target:
                older.unlink(missing_ok=True)  # who has mapped it keeps it
    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()


def batches(path: Path, columns: Any) -> Iterator[Any]:
    """The row groups of a parquet file.

    Args:
        path: The file.
        columns: The ``pyarrow`` schema of what is read.

    Raises:
        ValueError: A file that is missing, damaged or of another layout; it is named.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ValueError(f"Expected a parquet file, got no file {str(path)!r}.")
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns.names if name not in file.schema_arrow.names]:
                raise ValueError(
                    f"Expected {str(path)!r} with the columns {', '.join(columns.names)}, got none of the name "
                    f"{', '.join(missing)}; BAGEL's own files are read by sft.bagel_layout, samples by sft.store."
                )
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns.names).cast(columns).to_batches()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"Expected {str(path)!r} to be a whole parquet file, got: {' '.join(str(error).split())} Delete it and "
            "build it again."
        ) from error


def _version(path: Path) -> str:
    """Of a shard's content: of its size, its time, and its last bytes, which are the footer."""
    stat = path.stat()
    with path.open("rb") as file:
        file.seek(max(0, stat.st_size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, stat.st_size - 8 - length))
        return _short(f"{stat.st_size} {stat.st_mtime_ns} ".encode() + file.read())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
