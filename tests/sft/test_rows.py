"""Rows: wrong ones are named, or skipped; pictures of both formats are read."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stored import sample

from strokes.envs import Stage, Transcript
from strokes.envs.transcript import Entry
from strokes.sft.rows import LOSSLESS, decode_image, schema
from strokes.sft.sample import Sample, Subset
from strokes.sft.store import DataSet, read_shard, write_shard

# Wrong rows.


def rewrite(path, change):
    """Puts changed rows in the place of a shard's own."""
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema()), path)


def set_text(text):
    def change(rows):
        segment = next(s for s in rows[3]["segments"] if s["stage"] == "plan")
        segment["text"] = text

    return change


def spoil_picture(rows):
    data = rows[3]["images"][0]["bytes"]
    rows[3]["images"][0]["bytes"] = data[: len(data) // 2]


def swap_picture(rows):
    rows[3]["images"][0] = rows[2]["images"][0]


def without_images(rows):
    rows[3]["segments"] = [s for s in rows[3]["segments"] if s["kind"] == "text"]


def huge(rows):
    buffer = io.BytesIO()
    Image.new("L", (5000, 1)).save(buffer, "PNG")
    rows[3]["images"][0]["bytes"] = buffer.getvalue()


def index(value):
    def change(rows):
        next(s for s in rows[3]["segments"] if s["kind"] == "image")["image"] = value

    return change


def column(name, value):
    def change(rows):
        rows[3][name] = value

    return change


def segment(name, value):
    def change(rows):
        rows[3]["segments"][0][name] = value

    return change


WRONG = {
    "no images": (without_images, "to have images, got none"),
    "unclosed tag": (set_text("<ins>draw<des>a circle</des>"), "<ins>…</ins>"),
    "no text": (set_text(None), "the content of a PLAN"),
    "index too large": (index(99), "index 99"),
    "negative index": (index(-1), "index -1"),
    "no index": (index(None), "index None"),
    "cut picture": (spoil_picture, "image 0 to be a whole PNG"),
    "other picture": (swap_picture, "sha256"),
    "large picture": (huge, "at most 4096"),
    "version": (column("version", 2), "version 1, got 2; update strokes"),
    "subset": (column("subset", "multi"), "'multi'"),
    "split": (column("split", "test"), "'test'"),
    "label": (column("label", 7), "and 7"),
    "json": (column("provenance", "{"), "provenance to be JSON"),
    "json kind": (column("meta", "[]"), "meta to be a JSON object"),
    "null segments": (column("segments", None), "segments"),
    "null images": (column("images", None), "images"),
    "null image": (column("images", [None]), "images"),
    "null loss": (segment("loss", None), "segment 0 to have loss, got null"),
    "null source": (segment("source", None), "segment 0 to have source, got null"),
    "unknown kind": (segment("kind", "audio"), "text or image, got 'audio'"),
    "null kinds": (column("kinds", None), "kinds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named(shard, samples, name):
    change, said = WRONG[name]
    rewrite(shard, change)
    with pytest.raises(ValueError, match=said) as caught:
        list(read_shard(shard))
    assert f"{shard}, row 3" in str(caught.value) and "on_bad='skip'" in str(caught.value)
    dataset = DataSet(shard)
    assert dataset[2] == samples[2]
    with pytest.raises(ValueError, match="row 3"):
        dataset[3]


def test_wrong_rows_are_skipped_and_counted(shard, samples):
    rewrite(shard, spoil_picture)
    skipped: list[str] = []
    right = samples[:3] + samples[4:]
    assert list(read_shard(shard, on_bad="skip", skipped=skipped)) == right
    dataset = DataSet(shard, on_bad="skip")
    assert list(dataset) == right and dataset.skipped == skipped
    assert len(skipped) == 1 and "row 3" in skipped[0]
    with pytest.raises(ValueError, match="raise, skip"):
        DataSet(shard, on_bad="ignore")


def test_jpeg_is_read(shard):
    def jpeg(rows):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(rows[3]["images"][0]["bytes"])).resize((40, 24)).save(buffer, "JPEG")
        rows[3]["images"][0]["bytes"] = buffer.getvalue()
        for segment in rows[3]["segments"]:
            segment["sha256"] = None

    rewrite(shard, jpeg)
    assert DataSet(shard)[3].transcript.images[0].shape == (24, 40, 3)


def unwritable():
    """What ``from_row`` refuses."""
    good = sample(0)
    bare, cut, large, wide = (sample(0) for _ in range(4))
    bare.transcript.emissions = [e for e in bare.transcript.emissions if not e.stage.is_image]
    cut.transcript.emissions[0].content = "<ins>draw"
    large.transcript.size = 4112
    picture = next(e for e in wide.transcript.emissions if e.stage.is_image)
    picture.content = np.zeros((1, 5000, 3), np.uint8)
    return {
        "to have images": bare,
        "</ins>": cut,
        "at most 4096 x 4096 pixels, got 4112 x 4112": large,
        "at most 4096 x 4096 pixels, got 5000 x 1": wide,
        "no NaN": replace(good, provenance={"score": float("nan")}),
        "'test'": replace(good, split="test"),
        "'multi'": replace(good, subset="multi"),
        "and 7": replace(good, label=7),
    }


@pytest.mark.parametrize("said", unwritable())
def test_what_could_not_be_read_is_not_written(tmp_path, said):
    with pytest.raises(ValueError, match=said):
        write_shard(tmp_path / "a.parquet", [sample(1), unwritable()[said]])
    assert not list(tmp_path.iterdir())


# Pictures.


def test_what_is_transparent_is_on_white():
    for mode, nothing in (("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))):
        buffer = io.BytesIO()
        Image.new(mode, (8, 4), nothing).save(buffer, "PNG")
        assert (decode_image(buffer.getvalue(), "it") == 255).all()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(buffer, "PNG", transparency=(255, 0, 0))
    assert (decode_image(buffer.getvalue(), "it") == 255).all()


def test_damaged_pictures_are_named():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    short = bytearray(data)
    short[11] = 5  # a header that says it is shorter than headers are
    for wrong in (b"", data[:8], data[:20], data[:40], bytes(short)):
        with pytest.raises(ValueError, match="Expected it to be a whole PNG or JPEG"):
            decode_image(wrong, "it")


def gradient(side):
    ramp = np.linspace(0, 255, side)
    return np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128), axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("side", "format"), [(LOSSLESS, "PNG"), (LOSSLESS + 16, "JPEG")])
def test_large_pictures_are_kept_as_jpeg(tmp_path, side, format):
    image = gradient(side)
    transcript = Transcript(prompt="x", size=side, id="a", emissions=[Entry(stage=Stage.SKETCH, content=image)])
    write_shard(tmp_path / "a.parquet", [Sample(subset=Subset.MULTI_TURN, transcript=transcript)])
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert Image.open(io.BytesIO(row["images"][0]["bytes"])).format == format
    assert (row["segments"][0]["sha256"] is None) == (format == "JPEG")
    (back,) = read_shard(tmp_path / "a.parquet")
    error = np.abs(back.transcript.images[0].astype(int) - image)
    assert error.max() <= (4 if format == "JPEG" else 0)
