"""Store: samples in parquet files, written whole or not at all, read one after another or at random.

A shard is one file of a few hundred rows (``rows`` says what a row is), readable by
``datasets.load_dataset("parquet", data_files=…)``. For random access a shard is unpacked once into an Arrow file beside
it (``.rows/``, see ``unpacked``), which is memory-mapped: a row then costs no more than its own bytes, in any order,
and all processes of a machine share them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from .rows import FEATURES, from_row, schema, to_row
from .sample import Sample
from .unpacked import batches, mapped
from .whole_file import write_bytes

GROUP_ROWS = 500
"""Most rows of a row group, the unit in which parquet is read: 0.8 to 1 MB of the mini-world."""
GROUP_BYTES = 256_000_000
"""Most bytes of images in a row group, unless one row has more: some 150 rows of pictures of 1024 pixels. ``pyarrow``
does not read a group of more than 2 GB back."""

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
    num = 0

    def counted() -> Iterator[Sample]:
        nonlocal num
        for sample in samples:
            num += 1
            yield sample

    write_bytes(path, shard_bytes(counted()))
    return num


def shard_bytes(samples: Iterable[Sample]) -> bytes:
    """The content of a parquet file; the same bytes for the same samples. One row group is in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = BytesIO()
    with pq.ParquetWriter(buffer, schema(), compression="zstd") as writer:
        for rows in _groups(to_row(sample) for sample in samples):
            writer.write_table(pa.Table.from_pylist(rows, schema()), row_group_size=GROUP_ROWS)
    return buffer.getvalue()


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of at most ``GROUP_ROWS`` and ``GROUP_BYTES``; a row that is larger is a group of its own."""
    group: list[dict[str, Any]] = []
    total = 0
    for row in rows:
        num = sum(len(image["bytes"]) for image in row["images"])
        if group and (len(group) == GROUP_ROWS or total + num > GROUP_BYTES):
            yield group
            group, total = [], 0
        group.append(row)
        total += num
    if group:
        yield group


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
    for batch in batches(Path(path), columns):
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
        self._unpacked = None if unpacked is None else Path(unpacked)
        self._tables = [mapped(path, self._unpacked) for path in self.paths]
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
        inside = FEATURES.get(top, {}).get("feature", {})
        if top not in FEATURES or field not in ("", *({} if "_type" in inside else inside)):
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
        part.paths, part.skipped, part._unpacked = self.paths, self.skipped, self._unpacked
        part._tables, part._starts, part._rows = self._tables, self._starts, rows
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the names of the shards and the numbers of the rows: another process maps the same files."""
        paths = [path.absolute() for path in self.paths]
        return _reopened, (paths, self._unpacked, self._starts[-1], self._rows, self.skipped)

    def _read(self, row: int, on_bad: OnBad) -> Sample | None:
        shard = bisect_right(self._starts, row) - 1
        local = row - self._starts[shard]
        (record,) = self._tables[shard].slice(local, 1).to_pylist()
        return _attempt(partial(from_row, record, f"{self.paths[shard]}, row {local}"), on_bad, self.skipped)


def _reopened(
    paths: Sequence[Path], unpacked: Path | None, num: int, rows: np.ndarray, skipped: Sequence[str]
) -> DataSet:
    """A data set that came from another process."""
    whole = DataSet(paths, unpacked=unpacked)
    if whole._starts[-1] != num:
        raise ValueError(f"Expected shards of {num} rows in all, as when they were opened, got {whole._starts[-1]}.")
    part = whole._part(rows)
    part.skipped = list(skipped)
    return part


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
