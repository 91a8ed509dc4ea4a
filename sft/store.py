"""Store: samples in parquet files, written whole or not at all, read one after another or at random.

A shard is one file of a few hundred rows (``rows`` says what a row is), readable by
``datasets.load_dataset("parquet", data_files=…)``. For random access a shard is unpacked once into an Arrow file beside
it (``.rows/``), which is memory-mapped: a row then costs no more than its own bytes, in any order, and all processes of
a machine share them.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np

from .rows import FEATURES, from_row, schema, to_row
from .sample import Sample

ROW_GROUP = 500
"""Most rows of a row group, the unit in which parquet is read: 0.5 MB of the mini-world, 1 GB of images of 1024 pixels
as JPEG, which therefore come in smaller shards."""
UNPACKED = ".rows"
"""Folder of the unpacked shards, beside the shards."""

OnBad = Literal["raise", "skip"]
ReadRow = Callable[[Mapping[str, Any], int, str], Sample]
"""From a row, its number and what error messages call it to the sample."""


def write_shard(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write a parquet file; it is there when it is whole and synced, and else the old one stands.

    Returns:
        The number of rows.

    Raises:
        ValueError: A sample that could not be read back; see ``rows.to_row``.
        OSError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    samples = list(samples)
    write_bytes(path, shard_bytes(samples))
    return len(samples)


def shard_bytes(samples: Iterable[Sample]) -> bytes:
    """The content of a parquet file; the same bytes for the same samples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = BytesIO()
    table = pa.Table.from_pylist([to_row(sample) for sample in samples], schema())
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, compression="zstd")
    return buffer.getvalue()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file that is there when it is whole and synced."""
    with _whole(Path(path)) as file:
        file.write(content)


def read_shard(path: str | Path, *, on_bad: OnBad = "raise", skipped: list[str] | None = None) -> Iterator[Sample]:
    """Samples of a parquet file, one row group in memory at a time.

    Args:
        path: The file.
        on_bad: What to do with a row that is wrong: raise, or go on to the next.
        skipped: Takes what was wrong with each row that was passed over.

    Raises:
        ValueError: No such parquet file, columns that are missing, a row that is wrong.
    """
    yield from read_rows(path, lambda row, _, where: from_row(row, where), schema(), on_bad=on_bad, skipped=skipped)


def read_rows(
    path: str | Path, read: ReadRow, columns: Any, *, on_bad: OnBad = "raise", skipped: list[str] | None = None
) -> Iterator[Sample]:
    """Samples of a parquet file of any layout; see ``read_shard``.

    Args:
        path: The file.
        read: Raises ``ValueError`` where a row is wrong.
        columns: The ``pyarrow`` schema of the columns that it reads.
        on_bad: See ``read_shard``.
        skipped: See ``read_shard``.
    """
    _known(on_bad)
    row = 0
    for batch in _batches(Path(path), columns):
        for record in batch.to_pylist():
            sample = _attempt(partial(read, record, row, f"{path}, row {row}"), on_bad, skipped)
            row += 1
            if sample is not None:
                yield sample


class DataSet(Sequence[Sample]):
    """Samples of many shards at random access.

    Example:
        >>> dataset = DataSet("outputs/data").select(subset="conflict", split="train")  # doctest: +SKIP
        >>> dataset[7].transcript.prompt, dataset.column("segments.text")[7]  # doctest: +SKIP
    """

    skipped: list[str]
    """What was wrong with the rows that were passed over."""

    def __init__(
        self, source: str | Path | Sequence[str | Path], *, on_bad: OnBad = "raise", unpacked: str | Path | None = None
    ) -> None:
        """Open the shards; rows are read when they are asked for.

        Args:
            source: A folder, which is searched for ``*.parquet`` in sorted order, or files.
            on_bad: "raise": a row that is wrong raises when it is read. "skip": all rows are read once now (seconds
                per 10,000), and the wrong ones are left out; see ``skipped``.
            unpacked: Folder of the unpacked shards, where the data's own cannot be written.

        Raises:
            ValueError: No shards, or one that is damaged.
        """
        self.paths, self.skipped = _shards(source), []
        self._tables = [_unpack(path, None if unpacked is None else Path(unpacked)) for path in self.paths]
        self._starts = [0, *accumulate(table.num_rows for table in self._tables)]
        self._rows = np.arange(self._starts[-1])
        if _known(on_bad) == "skip":
            self._rows = np.array([row for row in self._rows if self._read(int(row), "skip") is not None], int)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """The sample of an index; a part of the data set for a slice."""
        if isinstance(index, slice):
            return self._part(self._rows[index])
        sample = self._read(int(self._rows[index]), "raise")
        assert sample is not None
        return sample

    def column(self, name: str) -> list[Any]:
        """One column of all samples without reading their images; ``segments.text`` is the texts of each.

        Args:
            name: One of ``rows.FEATURES``, or a field of its lists of records after a dot.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        top, _, field = name.partition(".")
        if top not in FEATURES or field not in ("", *FEATURES[top].get("feature", {})):
            raise ValueError(f"Expected a column among {', '.join(FEATURES)}, or segments.text, got {name!r}.")
        values: list[Any] = []
        for table in self._tables:
            for chunk in table.column(top).chunks:
                if field:
                    inner = pc.struct_field(chunk.flatten(), field)
                    chunk = pa.ListArray.from_arrays(_offsets(chunk), inner)
                values += chunk.to_pylist()
        return [values[row] for row in self._rows]

    def select(self, *, subset: str | None = None, split: str | None = None) -> "DataSet":
        """The samples of a subset and of a split; ``None``: of all."""
        keep = np.ones(len(self), bool)
        for name, wanted in (("subset", subset), ("split", split)):
            if wanted is not None:
                keep &= np.array([value == str(wanted) for value in self.column(name)], bool)
        return self._part(self._rows[keep])

    def _part(self, rows: np.ndarray) -> "DataSet":
        part = object.__new__(DataSet)
        part.paths, part.skipped = self.paths, self.skipped
        part._tables, part._starts, part._rows = self._tables, self._starts, rows
        return part

    def _read(self, row: int, on_bad: OnBad) -> Sample | None:
        shard = bisect_right(self._starts, row) - 1
        local = row - self._starts[shard]
        (record,) = self._tables[shard].slice(local, 1).to_pylist()
        return _attempt(partial(from_row, record, f"{self.paths[shard]}, row {local}"), on_bad, self.skipped)


def _attempt(read: Callable[[], Sample], on_bad: OnBad, skipped: list[str] | None) -> Sample | None:
    """The sample of a row; ``None`` where it is wrong and passed over."""
    try:
        return read()
    except ValueError as error:
        if on_bad == "raise":
            raise ValueError(f"{error} Build the file again, or read it with on_bad='skip'.") from error
        if skipped is not None:
            skipped.append(str(error))
        return None


def _known(on_bad: OnBad) -> OnBad:
    if on_bad not in get_args(OnBad):
        raise ValueError(f"Expected on_bad to be one of {', '.join(get_args(OnBad))}, got {on_bad!r}.")
    return on_bad


def _offsets(chunk: Any) -> Any:
    """Offsets of a list array that begin at 0, as those of its flattened values do."""
    import pyarrow as pa

    lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _shards(source: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
    else:
        folder = Path(source)
        paths = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
    if not paths:
        raise ValueError(f"Expected parquet files in {str(source)!r}, got none; make them with strokes-data.")
    return paths


def _batches(path: Path, columns: Any) -> Iterator[Any]:
    """The row groups of a parquet file; damage is a ``ValueError`` that names the file."""
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


def _unpack(path: Path, folder: Path | None) -> Any:
    """A shard as a memory-mapped table; unpacked first where it is new or has changed."""
    import pyarrow as pa

    if not path.is_file():
        raise ValueError(f"Expected a parquet file, got no file {str(path)!r}.")
    stat, folder = path.stat(), folder or path.parent / UNPACKED
    target = folder / f"{path.stem}-{stat.st_size:x}-{stat.st_mtime_ns:x}.arrow"
    if not target.exists():
        with _whole(target) as file, pa.ipc.new_file(file, schema()) as writer:
            for batch in _batches(path, schema()):
                writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of ``path`` once it is synced; nothing is left of one that failed.

    Unlike ``envs.files.replacing`` each process has a file of its own: several may unpack a shard at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
