"""A sample as one row of a table: the record of its transcript, its images, and what is known of it.

A row is the record of ``envs.archive`` with other names for the same things: images are in ``images`` and referred to
by index, emissions are ``segments`` in training order, and mappings of any keys are JSON. It is read by that module
too, so that there is one form of a transcript. The columns carry the features of Hugging Face's ``datasets``, which
therefore gives PIL images.

Images are kept as PNG, to the last bit. Pictures of a side over ``LOSSLESS`` are kept as JPEG, as real ones come, a
third as large: what is read back is close to what was written, so there is no ``sha256`` to hold it against.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from ..envs.archive import FORMAT, MAX_SIZE, encode_png, from_record, pixel_hash, to_record
from ..envs.markup import parse_inspection, parse_plan
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from .sample import Sample, Subset
from .scene_prompts import SPLITS

LOSSLESS = 512
"""Longest side of what is kept as PNG. Ours: all of the mini-world; a real picture of 1024 pixels takes 1.5 MB."""
QUALITY = 95
"""Of JPEG, at full resolution of colors; ours: edges of flat shapes keep their color."""
_RECORD = ("id", "version", "prompt", "seed", "size", "ended", "score")
"""Columns that are keys of a transcript's record."""
_TEXT, _FLAG, _INDEX = ({"dtype": name, "_type": "Value"} for name in ("string", "bool", "int32"))
_SEGMENT = {
    "kind": _TEXT,
    "stage": _TEXT,
    "source": _TEXT,
    "text": _TEXT,
    "image": _INDEX,
    "sha256": _TEXT,
    "loss": _FLAG,
    "error": _TEXT,
    "terms": _TEXT,
    "extra": _TEXT,
}
FEATURES: Mapping[str, Any] = {
    "id": _TEXT,
    "version": _INDEX,
    "subset": _TEXT,
    "split": _TEXT,
    "label": {"dtype": "int8", "_type": "Value"},
    "kinds": {"feature": _TEXT, "_type": "List"},
    "graph_hash": _TEXT,
    "prompt": _TEXT,
    "seed": {"dtype": "int64", "_type": "Value"},
    "size": _INDEX,
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
    "segments": {"feature": _SEGMENT, "_type": "List"},
    "ended": _TEXT,
    "score": {"dtype": "float64", "_type": "Value"},
    "meta": _TEXT,
    "extra": _TEXT,
    "provenance": _TEXT,
}
"""The columns, as ``datasets.Features.to_dict`` has them; written out, for importing ``datasets`` takes seconds."""


def schema() -> Any:
    """The ``pyarrow`` schema of a shard, with ``FEATURES`` as ``datasets`` reads them."""
    import pyarrow as pa

    def kind(feature: Mapping[str, Any]) -> Any:
        match feature.get("_type"):
            case "Value":
                return pa.type_for_alias("bool" if feature["dtype"] == "bool" else feature["dtype"])
            case "List":
                return pa.list_(kind(feature["feature"]))
            case "Image":
                return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.struct([(name, kind(part)) for name, part in feature.items()])

    known = json.dumps({"info": {"features": FEATURES}})
    return pa.schema([(name, kind(part)) for name, part in FEATURES.items()], {"huggingface": known})


def to_row(sample: Sample) -> dict[str, Any]:
    """The row of a sample; equal images are kept once.

    Raises:
        ValueError: What ``from_row`` would refuse, or values that JSON cannot hold.
    """
    transcript, where = sample.transcript, f"sample {sample.transcript.id!r}"
    label = None if sample.label is None else int(sample.label)
    check(transcript, where)
    _check_fields(sample.subset, sample.split, label, where)
    _check_side(transcript.size, transcript.size, where)
    record, images = to_record(transcript), dict[str, bytes]()
    segments = []
    for k, (entry, item) in enumerate(zip(transcript.emissions, record["emissions"], strict=True)):
        if isinstance(entry.content, np.ndarray) and item["sha256"] not in images:
            images[item["sha256"]] = encode_image(entry.content, f"{where}, segment {k}")
        segments.append(_segment(item, images, entry, f"{where}, segment {k}"))
    return {
        **{key: record[key] for key in _RECORD},
        "subset": str(sample.subset),
        "split": sample.split,
        "label": label,
        "kinds": list(sample.kinds),
        "graph_hash": sample.graph_hash,
        "images": [{"bytes": data, "path": None} for data in images.values()],
        "segments": segments,
        "meta": _json(transcript.meta),
        "extra": _json(transcript.extra),
        "provenance": _json(sample.provenance),
    }


def from_row(row: Mapping[str, Any], where: str) -> Sample:
    """The sample of a row, verified.

    Args:
        row: As ``to_row`` gives it; images may be PNG or JPEG of any size. Where a segment has no ``sha256``, its
            pixels are taken as they are.
        where: What error messages call the row.

    Raises:
        ValueError: What is wrong with the row; see also ``archive.from_record``.
    """
    if empty := [name for name in ("images", "segments", "kinds", "graph_hash") if _has_gaps(row[name])]:
        raise ValueError(f"Expected {where} to have {', '.join(empty)}, got null.")
    images: dict[str, np.ndarray] = {}
    items = [_item(s, row["images"], images, f"{where}, segment {k}") for k, s in enumerate(row["segments"])]
    record = {"format": FORMAT, **{key: row[key] for key in _RECORD}, "emissions": items}
    record |= {"meta": _mapping(row["meta"], f"{where}, meta")} | _mapping(row["extra"], f"{where}, extra")
    transcript = from_record(record, lambda name, _: images[name], where)
    check(transcript, where)
    _check_fields(row["subset"], row["split"], row["label"], where)
    return Sample(
        subset=Subset(row["subset"]),
        transcript=transcript,
        label=None if row["label"] is None else bool(row["label"]),
        kinds=tuple(row["kinds"]),
        graph_hash=row["graph_hash"],
        split=row["split"],
        provenance=_mapping(row["provenance"], f"{where}, provenance"),
    )


def check(transcript: Transcript, where: str) -> None:
    """``ValueError`` unless a trajectory has images, and accepted texts that parse."""
    if not any(entry.stage.is_image for entry in transcript.emissions):
        raise ValueError(f"Expected {where} to have images, got none among {len(transcript.emissions)} segments.")
    for k, entry in enumerate(transcript.emissions):
        if entry.error or entry.outside or not isinstance(entry.content, str):
            continue
        try:
            if entry.stage is Stage.PLAN:
                parse_plan(entry.content)
            elif entry.stage is Stage.INSPECT:
                parse_inspection(entry.content)
        except ValueError as error:
            raise ValueError(f"{where}, segment {k}: {error}") from error


def encode_image(image: np.ndarray, where: str) -> bytes:
    """The file of an image uint8 (H, W, 3): PNG, or JPEG where it is larger than ``LOSSLESS``."""
    height, width = image.shape[:2]
    _check_side(width, height, where)
    if max(width, height) <= LOSSLESS:
        return encode_png(image)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def decode_image(data: Any, where: str) -> np.ndarray:
    """The pixels of a PNG or JPEG, uint8 (H, W, 3), what is transparent on white.

    The header is looked at before anything is decoded.

    Raises:
        ValueError: No such image, a damaged one, or one of a side over ``archive.MAX_SIZE``.
    """
    if not isinstance(data, bytes):
        raise ValueError(f"Expected {where} to be the bytes of a PNG or JPEG, got {type(data).__name__}.")
    try:
        with Image.open(BytesIO(data), formats=["PNG", "JPEG"]) as image:
            if max(size := image.size) <= MAX_SIZE:
                return _pixels(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected {where} to be a whole PNG or JPEG, got: {error}.") from error
    raise _oversized(*size, where)


def _pixels(image: Image.Image) -> np.ndarray:
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    from ..agents.bagel.transforms import to_rgb  # imports torch

    return np.array(to_rgb(image.convert("RGBA")))


def _check_fields(subset: Any, split: Any, label: Any, where: str) -> None:
    if subset not in set(Subset) or split not in SPLITS or label not in (None, 0, 1):
        raise ValueError(
            f"Expected {where} with a subset of {', '.join(Subset)}, a split of {' and '.join(SPLITS)} and a label of "
            f"0, 1 or null, got {subset!r}, {split!r} and {label!r}."
        )


def _check_side(width: int, height: int, where: str) -> None:
    if max(width, height) > MAX_SIZE:
        raise _oversized(width, height, where)


def _oversized(width: int, height: int, where: str) -> ValueError:
    return ValueError(f"Expected {where} of at most {MAX_SIZE} x {MAX_SIZE} pixels, got {width} x {height}.")


def _check_segment(segment: Mapping[str, Any], where: str) -> None:
    """What an emission's record lets pass, or takes for a default, and is a mistake in data."""
    if empty := [key for key in ("kind", "stage", "source", "loss", "error") if segment[key] is None]:
        raise ValueError(f"Expected {where} to have {', '.join(empty)}, got null.")
    if segment["kind"] not in ("text", "image"):
        raise ValueError(f"Expected {where} to be of the kind text or image, got {segment['kind']!r}.")


def _segment(item: Mapping[str, Any], images: Mapping[str, bytes], entry: Entry, where: str) -> dict[str, Any]:
    """An emission as a segment; ``images`` are those so far, by their hashes."""
    digest = item.get("sha256")
    is_exact = digest is not None and max(np.shape(entry.content)[:2]) <= LOSSLESS
    segment = {
        "kind": "text" if digest is None else "image",
        **{key: item[key] for key in ("stage", "source", "loss", "error")},
        "text": item.get("text"),
        "image": None if digest is None else list(images).index(digest),
        "sha256": digest if is_exact else None,
        "terms": _json(item["terms"]),
        "extra": _json(entry.extra),
    }
    _check_segment(segment, where)
    return segment


def _item(
    segment: Mapping[str, Any], pictures: Sequence[Any], images: dict[str, np.ndarray], where: str
) -> dict[str, Any]:
    """A segment as an emission of a record; the image it refers to is decoded into ``images``."""
    _check_segment(segment, where)
    item = {key: segment[key] for key in ("stage", "source", "loss", "error")}
    item |= {"terms": _mapping(segment["terms"], where), **_mapping(segment["extra"], where)}
    if segment["kind"] == "text":
        return item | {"text": segment["text"]}
    index = segment["image"]
    if index is None or not 0 <= index < len(pictures):
        raise ValueError(f"Expected {where} to refer to one of {len(pictures)} images, got index {index!r}.")
    name = f"image {index}"
    if name not in images:
        images[name] = decode_image((pictures[index] or {}).get("bytes"), f"{where}, {name}")
    return item | {"image": name, "sha256": segment["sha256"] or pixel_hash(images[name])}


def _has_gaps(value: Any) -> bool:
    return value is None or (isinstance(value, list) and None in value)


def _json(value: Mapping[str, Any]) -> str:
    """As JSON; "" for nothing, as most are."""
    try:
        return json.dumps(dict(value), ensure_ascii=True, allow_nan=False) if value else ""
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected a sample of JSON values (no NaN: a missing verdict is None): {error}.") from error


def _mapping(text: str | None, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected {where} to be JSON, got {text!r:.80}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"Expected {where} to be a JSON object, got {text!r:.80}.")
    return value
