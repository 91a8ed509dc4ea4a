"""Transcripts as files: one JSON line per episode, images as PNG beside it.

``runs/transcripts.jsonl`` refers to ``runs/images/<id>/<k>.png``, where ``k`` is the index of the
emission. Images are written first, then the line is appended, flushed and synced: a line that is
there is whole, and a write that was interrupted costs its own line alone.
"""

import functools
import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .stages import Stage
from .transcript import Ending, Entry, Transcript

FORMAT = "strokes/transcript"
VERSION = 1
MAX_SIZE = 4096
"""Largest side of an image that is decoded: four times what BAGEL draws (1024), 50 MB of pixels."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TEXT, _WHOLE, _NUMBER = (str, "a text"), (int, "an integer"), ((int, float), "a number")
_FLAG, _MAPPING, _ANY = (bool, "true or false"), (Mapping, "a mapping"), (object, "anything")
_KEYS = dict(prompt=_TEXT, size=_WHOLE, id=_TEXT, seed=_WHOLE, meta=_MAPPING, ended=_TEXT, score=_NUMBER)
_ENTRY_KEYS = dict(
    stage=_TEXT, text=_TEXT, image=_ANY, sha256=_TEXT, source=_TEXT, error=_TEXT, loss=_FLAG, terms=_MAPPING
)
"""What the values of a record have to be; an image is what its reader takes."""


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of the pixels of a uint8 (H, W, 3) image, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 (H, W, 3) image as PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes, size: int, where: str = "image") -> np.ndarray:
    """The pixels of a PNG, uint8 (size, size, 3).

    The header is checked before anything is decoded, so that a small file cannot fill the memory.

    Raises:
        ValueError: Not an image, or one of another size.
    """
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.size != (size, size):
                raise ValueError(f"Expected {where} of {size} x {size} pixels, got {image.width} x {image.height}.")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected {where} to be a whole PNG, got: {error}.") from error


def to_record(transcript: Transcript) -> dict[str, Any]:
    """The JSON record of a transcript; images are named by their relative path, not written."""
    return {
        "format": FORMAT,
        "version": VERSION,
        **{key: getattr(transcript, key) for key in ("id", "prompt", "seed", "size")},
        "meta": dict(transcript.meta),
        "emissions": [_entry_record(transcript.id, k, entry) for k, entry in enumerate(transcript.emissions)],
        "ended": None if transcript.ended is None else str(transcript.ended),
        "score": None if transcript.score is None else float(transcript.score),
        **transcript.extra,
    }


def from_record(
    record: Mapping[str, Any], load_image: Callable[[Any, int], np.ndarray], where: str = "record"
) -> Transcript:
    """The transcript of a JSON record.

    Args:
        record: As ``to_record`` gives it. Unknown keys are kept in ``extra``.
        load_image: From the record's ``image`` and the canvas size to uint8 (size, size, 3).
        where: What error messages call the record.

    Raises:
        ValueError: An unknown format or version, a missing or malformed key, pixels that are not
            those the record was written with.
    """
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise ValueError(f"Expected {where} of format {FORMAT!r}, got {str(record)[:80]!r}.")
    if record.get("version") != VERSION:
        raise ValueError(f"Expected {where} of version {VERSION}, got {record.get('version')!r}; update strokes.")
    if missing := [key for key in ("prompt", "size", "emissions") if key not in record]:
        raise ValueError(f"Expected {where} to have {', '.join(map(repr, missing))}.")
    known, size = _known(record, _KEYS, where), record["size"]
    if "prompt" not in known or "size" not in known or not 0 < size <= MAX_SIZE:
        raise ValueError(f"Expected {where} with a prompt and a `size` of 1 to {MAX_SIZE} pixels, got {size!r}.")
    if not isinstance(record["emissions"], Sequence):
        raise ValueError(f"Expected {where} with a list as `emissions`, got {record['emissions']!r:.80}.")
    entries = [_entry(item, size, load_image, f"{where}, emission {k}") for k, item in enumerate(record["emissions"])]
    if "ended" in known:
        known["ended"] = _member(Ending, known["ended"], where)
    extra = {key: value for key, value in record.items() if key not in (*_KEYS, "format", "version", "emissions")}
    return Transcript(**known, emissions=entries, extra=extra)


def append_transcript(transcript: Transcript, path: str | Path) -> str:
    """Append a transcript to a JSONL file: images first, then the line, flushed and synced.

    Args:
        transcript: Gets an id made from its content where it has none.
        path: The JSONL file; created with its folder where it is missing.

    Returns:
        The id under which it was written.

    Raises:
        ValueError: An id that is unfit as a folder's name or already in the file; values that JSON
            cannot hold.
        OSError: The folder cannot be written.
    """
    path = Path(path)
    return _append(transcript, path, path.parent.glob("*.jsonl"))


def save_transcripts(transcripts: Iterable[Transcript], path: str | Path) -> None:
    """Write a whole JSONL file anew; the old lines stand until the new ones are complete."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    for transcript in transcripts:
        _append(transcript, partial, [partial, *(p for p in path.parent.glob("*.jsonl") if p.name != path.name)])
    partial.touch()
    partial.replace(path)


def read_transcripts(path: str | Path) -> Iterator[Transcript]:
    """Transcripts of a JSONL file, one at a time.

    A half-written line, as an interrupted run leaves it, is reported by a warning and skipped.

    Raises:
        ValueError: A record that is whole but wrong: see ``from_record``; an image path that leaves the folder.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                record = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                warnings.warn(f"{where} is half-written and was skipped.", stacklevel=2)
                continue
            if record is not None:
                yield from_record(record, functools.partial(_read_image, path.parent, where), where)


def load_transcripts(path: str | Path) -> list[Transcript]:
    """All transcripts of a JSONL file; see ``read_transcripts``."""
    return list(read_transcripts(path))


def _append(transcript: Transcript, path: Path, files: Iterable[Path]) -> str:
    """Append under an id that none of ``files`` uses: they share one folder of images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _settle_id(transcript, path.parent, files)
    line = _line(transcript)
    _write_images(transcript, path.parent)
    with open(path, "ab+") as file:
        if file.tell() and not _ends_with_newline(file):
            file.write(b"\n")  # an interrupted write: keep its torn line apart from ours
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return transcript.id


def _entry_record(id: str, k: int, entry: Entry) -> dict[str, Any]:
    record: dict[str, Any] = {"stage": entry.stage.name.lower(), "source": entry.source}
    if isinstance(entry.content, str):
        record["text"] = entry.content
    else:
        record |= {"image": f"images/{id}/{k}.png", "sha256": pixel_hash(entry.content)}
    terms = {name: None if value is None else float(value) for name, value in entry.terms.items()}
    return {**record, "error": entry.error, "loss": entry.loss, "terms": terms, **entry.extra}


def _entry(item: Any, size: int, load_image: Callable[[Any, int], np.ndarray], where: str) -> Entry:
    if not isinstance(item, Mapping) or "stage" not in item or ("text" in item) == ("image" in item):
        raise ValueError(f"Expected {where} to have a stage and either text or image, got {str(item)[:80]!r}.")
    given, stage = _known(item, _ENTRY_KEYS, where), _member(Stage, item["stage"], where)
    if stage.is_image != ("image" in item) or not isinstance(item.get("text", ""), str):
        raise ValueError(f"Expected {where} to have the content of a {stage.name}, got {str(item)[:80]!r}.")
    content = item["text"] if "text" in item else load_image(item["image"], size)
    if "image" in item and item.get("sha256", "") != pixel_hash(content):
        raise ValueError(
            f"Expected {where} to have pixels of sha256 {item.get('sha256')}, got {item['image']} changed."
        )
    known = {key: given[key] for key in ("source", "error", "loss", "terms") if key in given}
    for name, value in known.get("terms", {}).items():
        _known({name: value}, {name: _NUMBER}, f"{where}, terms")
    extra = {key: value for key, value in item.items() if key not in _ENTRY_KEYS}
    return Entry(stage=stage, content=content, **known, extra=extra)


def _known(record: Mapping[str, Any], keys: Mapping[str, tuple[Any, str]], where: str) -> dict[str, Any]:
    """The entries of ``keys`` that a record has and that are not null, their types verified."""
    known = {key: record[key] for key in keys if record.get(key) is not None}
    for key, value in known.items():
        kind, name = keys[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
            raise ValueError(f"Expected {where} with {name} as `{key}`, got {value!r:.80}.")
    return known


def _member(kind: Any, value: Any, where: str) -> Any:
    names = {member.name.lower(): member for member in kind}
    if value not in names:
        raise ValueError(f"Expected {where} with one of {', '.join(names)}, got {value!r}.")
    return names[value]


def _line(transcript: Transcript) -> bytes:
    record = to_record(transcript)
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a transcript of JSON values (no NaN: a missing verdict is None): {error}."
        ) from error
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates, as a damaged command line brings them
        return json.dumps(record, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _settle_id(transcript: Transcript, folder: Path, files: Iterable[Path]) -> None:
    """Give the transcript an id that is new to the folder, or verify the one it has.

    A folder of images without a line is what an interrupted write left: it may be written again.
    """
    images = folder / "images"
    if not transcript.id:
        stem = hashlib.sha256(_line(transcript)).hexdigest()[:12]
        tries = (stem if n == 1 else f"{stem}-{n}" for n in itertools.count(1))
        transcript.id = next(id for id in tries if not (images / id).exists())
    elif not _ID.fullmatch(transcript.id):
        raise ValueError(f"Expected an id of letters, digits, '.', '_' and '-', got {transcript.id!r}.")
    elif (images / transcript.id).exists() and any(transcript.id in _ids(file) for file in files):
        raise ValueError(f"Expected an id that is new to {folder}, got {transcript.id!r}; id='' has one made.")


def _ids(path: Path) -> set[str]:
    """Ids of the whole lines of a file."""
    ids = set()
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            ids.add(json.loads(line)["id"])
        except (ValueError, TypeError, KeyError):
            continue
    return ids


def _write_images(transcript: Transcript, folder: Path) -> None:
    """Write the images; the folder is there even without any, for it says that the id is taken."""
    target = folder / "images" / transcript.id
    target.mkdir(parents=True, exist_ok=True)
    for k, entry in enumerate(transcript.emissions):
        if isinstance(entry.content, np.ndarray):
            (target / f"{k}.png").write_bytes(encode_png(entry.content))


def _read_image(folder: Path, where: str, name: Any, size: int) -> np.ndarray:
    path = folder / str(name)
    if Path(str(name)).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"Expected image paths of {where} to stay in {folder}, got {name!r}.")
    if not path.is_file():
        raise ValueError(f"Expected the image {name!r} of {where}, got no such file.")
    if path.stat().st_size > 4 * size * size + 1_000_000:
        raise ValueError(f"Expected the image {name!r} of {where} to be of {size} x {size} pixels, got a larger file.")
    return decode_png(path.read_bytes(), size, f"{name!r} of {where}")


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
