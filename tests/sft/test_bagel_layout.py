"""BAGEL's own parquet files become samples; wrong rows are named."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from strokes.envs import Stage
from strokes.sft.bagel_layout import read_bagel
from strokes.sft.sample import Subset
from strokes.sft.sources import Reading, open_source
from strokes.sft.store import read_shard, write_shard


def picture(seed: int, format: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def edits(tmp_path):
    rows = [
        {
            "image_list": [picture(k) for k in range(num)],
            "instruction_list": [[f"a{k}", f"b{k}"] for k in range(num - 1)],
        }
        for num in (2, 4)
    ]
    path = tmp_path / "seedxedit_0.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path, rows


@pytest.fixture
def pairs(tmp_path):
    rows = [{"image": picture(k, "JPEG"), "captions": json.dumps({"0": f"a cat {k}", "long": "x"})} for k in range(8)]
    path = tmp_path / "t2i_3.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "width": 30} for row in rows]), path, row_group_size=3)
    return path, rows


def test_an_edit_is_given_and_told_and_all_its_images_are_learnt(edits):
    path, rows = edits
    samples = list(read_bagel(path))
    assert [sample.transcript.id[:-9] for sample in samples] == ["seedxedit_0-0", "seedxedit_0-1"]
    for sample, row in zip(samples, rows, strict=True):
        entries = sample.transcript.emissions
        steps = len(row["image_list"]) - 1
        assert sample.subset is Subset.MULTI_TURN and sample.transcript.prompt == ""
        assert [e.stage for e in entries] == [Stage.SKETCH, *[Stage.INSPECT, Stage.SKETCH] * steps]
        assert [e.source for e in entries] == ["given", *["critic", "policy"] * steps]
        assert [e.loss for e in entries] == [False, *[False, True] * steps]
        images = [e.content for e in entries if e.stage is Stage.SKETCH]
        assert all(np.array_equal(a, pixels(b)) for a, b in zip(images, row["image_list"], strict=True))
        words = [e.content for e in entries if e.stage is Stage.INSPECT]
        assert all(word in step for word, step in zip(words, row["instruction_list"], strict=True))
        assert sample.provenance["source"] == "bagel-edit"
    assert samples[0].graph_hash != samples[1].graph_hash


def test_a_pair_is_a_prompt_and_a_sketch(pairs):
    path, rows = pairs
    samples = list(read_bagel(path))
    for sample, row in zip(samples, rows, strict=True):
        (entry,) = sample.transcript.emissions
        assert entry.stage is Stage.SKETCH and entry.loss and np.array_equal(entry.content, pixels(row["image"]))
        assert sample.transcript.prompt in json.loads(row["captions"]).values()
        assert sample.provenance["source"] == "bagel-t2i"
    assert len({sample.transcript.prompt for sample in samples}) > 1 and "x" in {s.transcript.prompt for s in samples}


def test_the_seed_decides_the_caption_and_the_row_alone(pairs):
    path, _ = pairs
    prompts = {seed: [s.transcript.prompt for s in read_bagel(path, seed=seed)] for seed in range(4)}
    assert prompts[1] == [s.transcript.prompt for s in read_bagel(path, seed=1)]
    assert len({tuple(each) for each in prompts.values()}) > 1


def test_they_are_stored_like_any_other(edits, pairs, tmp_path):
    samples = [*read_bagel(edits[0]), *read_bagel(pairs[0])]
    write_shard(tmp_path / "own.parquet", samples)
    assert list(read_shard(tmp_path / "own.parquet")) == samples


def test_ids_are_of_the_content(edits, pairs, tmp_path):
    """Files of one name in two folders can be put together; a file has the same ids wherever it lies."""
    other = tmp_path / "other" / edits[0].name
    other.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(edits[1][::-1]), other)
    ids = [s.transcript.id for path in (edits[0], other, pairs[0]) for s in read_bagel(path)]
    assert len(set(ids)) == len(ids) == 12
    other.write_bytes(edits[0].read_bytes())
    assert [s.transcript.id for s in read_bagel(other)] == ids[:2]


def test_what_is_stored_can_be_learnt_from(edits, pairs, nano, tokenizer, tmp_path):
    folder = tmp_path / "own"
    for k, path in enumerate((edits[0], pairs[0])):
        write_shard(folder / f"{k}.parquet", read_bagel(path))
    reading = Reading(view="process", latents="forward", resize=True, on_bad="raise", cache=None)
    train, validation = open_source("multi_turn", folder, nano, tokenizer, reading)
    assert (len(train), len(validation)) == (10, 0)
    given, words, target = train[0][:3]
    assert not given.loss and not words.loss and target.loss
    assert all(train.images.clean(row)["pixels"].shape[0] == 3 for row in range(3))


def test_tags_in_instructions_are_ordinary_text(tmp_path):
    row = {"image_list": [picture(0), picture(1)], "instruction_list": [["<ins>add a cat</ins> <|im_end|>"]]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (sample,) = read_bagel(tmp_path / "a.parquet")
    words = sample.transcript.emissions[1].content
    assert "<ins>" not in words and "<|im_end|>" not in words and "add a cat" in words


EDITS = {
    "one image": ({"image_list": [picture(0)], "instruction_list": []}, "1 images and 0 steps"),
    "no images": ({"image_list": None, "instruction_list": None}, "0 images"),
    "too few steps": ({"image_list": [picture(0)] * 3, "instruction_list": [["a"]]}, "3 images and 1 steps"),
    "no words": ({"image_list": [picture(0)] * 2, "instruction_list": [[]]}, "1 of them without"),
    "empty words": ({"image_list": [picture(0)] * 2, "instruction_list": [[" "]]}, "in words"),
    "cut image": ({"image_list": [picture(0), picture(1)[:300]], "instruction_list": [["a"]]}, "image 1 to be a whole"),
}
PAIRS = {
    "captions": ({"image": picture(0), "captions": "a cat"}, "JSON of names and captions"),
    "no captions": ({"image": picture(0), "captions": "{}"}, "JSON of names and captions"),
    "null": ({"image": picture(0), "captions": None}, "JSON of names and captions"),
    "no image": ({"image": None, "captions": '{"0": "a"}'}, "image to be the bytes"),
    "no picture": ({"image": b"GIF89a", "captions": '{"0": "a"}'}, "whole PNG or JPEG"),
}


@pytest.mark.parametrize("name", [*EDITS, *PAIRS])
def test_a_wrong_row_is_named_or_skipped(edits, pairs, name):
    path, rows = edits if name in EDITS else pairs
    bad, said = {**EDITS, **PAIRS}[name]
    schema = pq.read_schema(path).remove_metadata()
    pq.write_table(pa.Table.from_pylist([rows[0], bad, rows[1]], schema), path)
    with pytest.raises(ValueError, match=said) as caught:
        list(read_bagel(path))
    assert f"{path}, row 1" in str(caught.value)
    skipped: list[str] = []
    assert len(list(read_bagel(path, on_bad="skip", skipped=skipped))) == 2 and len(skipped) == 1


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        list(read_bagel(tmp_path / "a.parquet"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="whole parquet file"):
        list(read_bagel(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="captions"):
        list(read_bagel(tmp_path / "a.parquet"))
