"""GenRef's tar shards read as a stream: pairs of a good and a bad picture with a reflection.

The public data of ReflectionFlow (arXiv 2504.16080), ``diffusion-cot/GenRef-wds`` on the Hugging Face hub: 209 shards
in WebDataset's layout, in which files of one name up to the first dot belong together. A shard is read from front to
end and never unpacked; it needs no package for WebDataset.
"""

import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .benchmark_prompts import normalised
from .store import OnBad

FIELDS = ("good_image.jpg", "bad_image.jpg", "reflection.txt", "prompt.txt", "subset.txt")
SUBSETS = ("general", "length", "rule", "editing")
"""Of GenRef, by how pairs were found; "editing" has instructions of edits for reflections."""
MIN_CHARS = 5
"""Shortest reflection; ReflectionFlow's own training leaves out shorter ones."""
BLOCK = 512
"""Bytes in which tar counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One record."""

    key: str
    good: bytes
    """JPEG."""
    bad: bytes
    """JPEG."""
    reflection: str
    prompt: str
    subset: str
    """One of ``SUBSETS``."""


def read_pairs(
    path: str | Path,
    *,
    subsets: Collection[str] = SUBSETS,
    on_bad: OnBad = "raise",
    counts: Counter[str] | None = None,
) -> Iterator[Pair]:
    """Whole records of a shard in their order; what is wrong is named after everything before it was given.

    Args:
        path: A tar file.
        subsets: Which of ``SUBSETS`` are wanted.
        on_bad: "raise", or "skip": go on at the next record; a tar that was cut then ends where it was cut.
        counts: Takes how many records were left out, by reason.

    Raises:
        ValueError: No tar file, one that was cut, a record without one of ``FIELDS``, a text that is not UTF-8.
    """
    left_out: Counter[str] = Counter() if counts is None else counts
    for key, files in _records(Path(path), on_bad, left_out):
        pair = _pair(key, files)
        if isinstance(pair, str):
            if on_bad == "raise":
                raise ValueError(
                    f"Expected record {key!r} of {path} to be whole, got {pair}; download the shard again, or read "
                    "with on_bad='skip'."
                )
            left_out[pair] += 1
        elif pair.subset not in subsets:
            left_out["another subset"] += 1
        elif len(pair.reflection) < MIN_CHARS:
            left_out["reflection too short"] += 1
        else:
            yield pair


def _records(path: Path, on_bad: OnBad, counts: Counter[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Files of a shard by record; of a tar that was cut those that are whole, and then what is wrong."""
    key, files = "", dict[str, bytes]()
    try:
        for name, field, data in _files(path):
            if name != key and files:
                yield key, files
                files = {}
            key, files[field] = name, data
    except (OSError, tarfile.TarError) as error:
        is_cut = isinstance(error, tarfile.TarError) and path.is_file()
        if is_cut and set(FIELDS) <= files.keys():
            yield key, files
        if on_bad == "raise" or not is_cut:
            raise ValueError(
                f"Expected {path} to be a whole tar file, got: {error}; download it again, or read with on_bad='skip'."
            ) from error
        counts["tar cut short"] += 1
    else:
        if files:
            yield key, files


def _files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name up to the first dot, the rest of the name, and content of each file of a tar.

    Folders and hidden files, as systems leave them beside others ("._000000.prompt.txt"), are no part of a record.
    """
    end = 0
    with tarfile.open(path, mode="r|") as tar:
        for member in tar:
            end = member.offset_data
            if not member.isfile():
                continue
            name, _, field = Path(member.name).name.partition(".")
            if name:
                stream = tar.extractfile(member)
                assert stream is not None, member
                yield str(Path(member.name).with_name(name)), field, stream.read()
            end += -(-member.size // BLOCK) * BLOCK
    with path.open("rb") as file:  # tarfile itself takes whatever is no header for the end
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError("unexpected end of data")


def _pair(key: str, files: dict[str, bytes]) -> Pair | str:
    """A record, or what is wrong with it."""
    if lacking := [name for name in FIELDS if name not in files]:
        return f"no {' and no '.join(lacking)}"
    try:
        texts = {name: " ".join(files[name].decode().split()) for name in FIELDS if name.endswith(".txt")}
    except UnicodeDecodeError:
        return "a text that is not UTF-8"
    if not normalised(texts["prompt.txt"]):
        return "an empty prompt.txt"
    return Pair(
        key=key,
        good=files["good_image.jpg"],
        bad=files["bad_image.jpg"],
        reflection=texts["reflection.txt"],
        prompt=texts["prompt.txt"],
        subset=texts["subset.txt"],
    )
