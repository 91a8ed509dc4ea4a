"""The store: what is written comes back, nothing half-written is ever read."""

import errno
import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored import sample

from strokes.envs import Stage, Transcript
from strokes.envs.transcript import Entry
from strokes.sft import store, unpacked, whole_file
from strokes.sft.rows import schema, to_row
from strokes.sft.sample import Sample, Subset
from strokes.sft.store import DataSet, read_shard, write_shard


def test_samples_come_back_as_they_were(shard, samples):
    assert list(read_shard(shard)) == samples
    assert list(DataSet(shard)) == samples


def test_everything_a_transcript_may_hold_comes_back(tmp_path):
    transcript = sample(0).transcript
    transcript.extra, transcript.meta = {"note": "ü\ud800"}, {"include": [{"count": 2}]}
    transcript.emissions[0].terms, transcript.emissions[1].extra = {"plan": 0.5, "form": None}, {"nfe": 12}
    transcript.emissions[2].error, transcript.emissions[2].content = "too long", "<refine>never closed"
    transcript.score = 0.25
    write_shard(tmp_path / "a.parquet", [replace(sample(0), transcript=transcript)])
    (back,) = read_shard(tmp_path / "a.parquet")
    assert back.transcript == transcript


def test_images_need_not_be_square(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8)
    transcript = Transcript(prompt="x", size=33, id="a", emissions=[Entry(stage=Stage.SKETCH, content=image)])
    write_shard(tmp_path / "a.parquet", [Sample(subset=Subset.MULTI_TURN, transcript=transcript)])
    (back,) = read_shard(tmp_path / "a.parquet")
    assert np.array_equal(back.transcript.images[0], image)


def test_a_picture_that_occurs_twice_is_kept_once(tmp_path, samples):
    transcript = samples[0].transcript
    given = Transcript(prompt="x", size=transcript.size, id="a")
    given.give(transcript.images[0])
    given.emissions.append(Entry(stage=Stage.SKETCH, content=transcript.images[0]))
    write_shard(tmp_path / "a.parquet", [Sample(subset=Subset.MULTI_TURN, transcript=given)])
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(row["images"]) == 1 and [s["image"] for s in row["segments"]] == [0, 0]
    assert next(read_shard(tmp_path / "a.parquet")).transcript == given


def test_a_shard_has_the_same_bytes_each_time(tmp_path, samples):
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.parquet", samples)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.slow
def test_datasets_reads_pictures(shard, samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    assert datasets.Features.from_arrow_schema(schema()).arrow_schema.remove_metadata() == schema().remove_metadata()
    table = datasets.load_dataset("parquet", data_files=str(shard), cache_dir=str(tmp_path / "cache"))["train"]
    assert [np.asarray(i).tolist() for i in table[3]["images"]] == [
        i.tolist() for i in {i.tobytes(): i for i in samples[3].transcript.images}.values()
    ]


# Files.


def test_damaged_files_are_named(shard, tmp_path):
    data = shard.read_bytes()
    shard.write_bytes(data[:-20])
    with pytest.raises(ValueError, match=r"train-00000.parquet' to be a whole parquet file.*build it again"):
        list(read_shard(shard))
    with pytest.raises(ValueError, match="whole parquet file"):
        DataSet(shard)
    with pytest.raises(ValueError, match="no file"):
        list(read_shard(tmp_path / "b.parquet"))
    with pytest.raises(ValueError, match="strokes-data"):
        DataSet(tmp_path / ".rows")
    pq.write_table(pa.table({"image": [b""]}), shard)
    with pytest.raises(ValueError, match="bagel_layout"):
        list(read_shard(shard))


class Full(io.RawIOBase):
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def writable(self):
        return True

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_full_disk_leaves_nothing_half_written(shard, samples, monkeypatch, room):
    before = shard.read_bytes()
    whole = whole_file.whole_file

    def full(path):
        opened = whole(path)

        class Opened:
            def __enter__(self):
                return Full(opened.__enter__(), room)

            def __exit__(self, *error):
                return opened.__exit__(*error)

        return Opened()

    monkeypatch.setattr(unpacked, "whole_file", full)
    monkeypatch.setattr(whole_file, "whole_file", full)
    for path in (shard, shard.with_name("train-00001.parquet")):
        with pytest.raises(OSError, match="No space left"):
            write_shard(path, samples[:6])
    with pytest.raises(OSError, match="No space left"):
        DataSet(shard)
    assert [p.name for p in shard.parent.rglob("*") if p.is_file()] == [shard.name] and shard.read_bytes() == before
    monkeypatch.undo()
    assert list(DataSet(shard.parent)) == samples


def test_syncing_comes_before_replacing(shard, samples, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda number: done.append("sync"))
    put = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), put(a, b)))
    write_shard(shard, samples)
    assert done == ["sync", "replace"]


def test_what_a_killed_writer_left_is_cleared_away(shard, samples):
    dead = shard.with_name(f"{shard.name}.0123.partial")
    dead.write_bytes(b"PAR1")
    with whole_file.whole_file(shard) as file:
        file.write(b"x")
        file.flush()
        (mine,) = [path for path in shard.parent.glob("*.partial")]
        assert mine != dead
        write_shard(shard, samples)  # another writer leaves that alone
        assert mine.exists()
    assert [path.name for path in shard.parent.iterdir()] == [shard.name] and shard.read_bytes() == b"x"


def test_row_groups_are_small_enough_to_be_read_back(tmp_path, samples, monkeypatch):
    """``pyarrow`` writes groups of more than 2 GB and does not read them: the bytes of a group are bounded."""
    sizes = [sum(len(image["bytes"]) for image in to_row(each)["images"]) for each in samples]
    monkeypatch.setattr(store, "GROUP_BYTES", 2 * max(sizes))
    write_shard(tmp_path / "a.parquet", samples)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
    ends = np.cumsum(groups)
    totals = [sum(sizes[end - num : end]) for num, end in zip(groups, ends, strict=True)]
    assert len(groups) > 1 and max(totals) <= 2 * max(sizes) and min(groups[:-1]) >= 2
    assert list(read_shard(tmp_path / "a.parquet")) == samples == list(DataSet(tmp_path))
    monkeypatch.setattr(store, "GROUP_BYTES", 1)
    write_shard(tmp_path / "a.parquet", samples)
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == len(samples)
    assert list(read_shard(tmp_path / "a.parquet")) == samples
    assert store.GROUP_BYTES < 2**31 / 2


@pytest.mark.slow
def test_fat_rows_come_back(tmp_path, samples, monkeypatch):
    """2.7 GB of pictures in nine rows."""
    number = iter(range(100))

    def fat(sample):
        images = [{"bytes": next(number).to_bytes(8, "big") + bytes(60_000_000), "path": None} for _ in range(5)]
        return to_row(sample) | {"images": images}

    monkeypatch.setattr(store, "to_row", fat)
    write_shard(tmp_path / "a.parquet", [samples[0]] * 9)
    assert [batch.num_rows for batch in unpacked.batches(tmp_path / "a.parquet", schema())] == [1] * 9


def test_no_samples_are_a_shard_too(tmp_path):
    assert write_shard(tmp_path / "a.parquet", []) == 0
    assert len(DataSet(tmp_path)) == 0 and not list(read_shard(tmp_path / "a.parquet"))


def test_importing_is_light():
    code = "import sys, strokes.sft.store; print({'torch', 'datasets', 'pyarrow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
