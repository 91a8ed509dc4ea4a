"""The store: what is written comes back, wrong rows are named, nothing half-written is ever read."""

import errno
import io
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from strokes.agents.scripted import demonstrate
from strokes.envs import Stage, Transcript
from strokes.envs.scenes import sample_task
from strokes.envs.transcript import Entry
from strokes.sft import store
from strokes.sft.rows import schema
from strokes.sft.sample import Sample, Subset
from strokes.sft.store import DataSet, read_shard, write_shard

SUBSETS = (Subset.MULTI_TURN, Subset.CONFLICT)


@pytest.fixture(scope="module")
def samples():
    return [sample(k) for k in range(12)]


def sample(k: int) -> Sample:
    rng = np.random.default_rng([7, k])
    transcript = demonstrate(sample_task(rng), rng)
    transcript.id, transcript.seed = f"t-{k:03d}", k
    subset = SUBSETS[k % 2]
    return Sample(
        subset=subset,
        transcript=transcript,
        label=None if subset is Subset.MULTI_TURN else k % 4 == 1,
        kinds=("add", "swap"),
        graph_hash=f"{k:x}",
        split="validation" if k == 11 else "train",
        provenance={"source": "exact", "steps": [0, 2]},
    )


def rewritten(path, change):
    """The shard with its rows changed by ``change``."""
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema()), path)


@pytest.fixture
def shard(samples, tmp_path):
    path = tmp_path / "train-00000.parquet"
    write_shard(path, samples)
    return path


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


# Wrong rows.


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
    "null kinds": (column("kinds", None), "kinds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named(shard, samples, name):
    change, said = WRONG[name]
    rewritten(shard, change)
    with pytest.raises(ValueError, match=said) as caught:
        list(read_shard(shard))
    assert f"{shard}, row 3" in str(caught.value) and "on_bad='skip'" in str(caught.value)
    dataset = DataSet(shard)
    assert dataset[2] == samples[2]
    with pytest.raises(ValueError, match="row 3"):
        dataset[3]


def test_wrong_rows_are_skipped_and_counted(shard, samples):
    rewritten(shard, spoil_picture)
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

    rewritten(shard, jpeg)
    assert DataSet(shard)[3].transcript.images[0].shape == (24, 40, 3)


@pytest.mark.parametrize("wrong", ["no images", "text", "nan"])
def test_what_could_not_be_read_is_not_written(tmp_path, wrong):
    bad = sample(0)
    if wrong == "no images":
        bad.transcript.emissions = [e for e in bad.transcript.emissions if not e.stage.is_image]
    elif wrong == "text":
        bad.transcript.emissions[0].content = "<ins>draw"
    else:
        bad = replace(bad, provenance={"score": float("nan")})
    with pytest.raises(ValueError, match="Expected"):
        write_shard(tmp_path / "a.parquet", [bad])
    assert not list(tmp_path.iterdir())


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
    whole = store._whole

    def full(path):
        opened = whole(path)

        class Opened:
            def __enter__(self):
                return Full(opened.__enter__(), room)

            def __exit__(self, *error):
                return opened.__exit__(*error)

        return Opened()

    monkeypatch.setattr(store, "_whole", full)
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


# Random access.


def test_parts_of_a_data_set(tmp_path, samples):
    for k in range(3):
        write_shard(tmp_path / f"s-{k}.parquet", samples[4 * k : 4 * k + 4])
    dataset = DataSet(tmp_path)
    assert len(dataset) == 12 and dataset[-1] == samples[-1] and list(dataset[3:6]) == samples[3:6]
    assert [dataset[k] for k in (9, 2, 11)] == [samples[k] for k in (9, 2, 11)]
    conflict = dataset.select(subset=Subset.CONFLICT, split="train")
    assert list(conflict) == [s for s in samples if s.subset is Subset.CONFLICT and s.split == "train"]
    assert conflict.column("id") == [s.transcript.id for s in conflict]
    assert conflict[1:3].column("segments.text") == [
        [e.content if isinstance(e.content, str) else None for e in s.transcript.emissions] for s in conflict[1:3]
    ]
    assert list(dataset.select(split="none")) == []
    with pytest.raises(IndexError):
        dataset[12]
    with pytest.raises(ValueError, match=r"segments\.text"):
        dataset.column("segments.words")


def test_a_shard_that_was_built_again_is_read_anew(shard, samples):
    assert len(DataSet(shard)) == 12
    write_shard(shard, samples[:2])
    assert len(DataSet(shard)) == 2


def test_shards_of_a_folder_that_cannot_be_written(shard, samples, tmp_path):
    assert DataSet(shard, unpacked=tmp_path / "elsewhere")[0] == samples[0]
    assert not (shard.parent / store.UNPACKED).exists()


def test_a_row_is_read_without_its_row_group(tmp_path, samples):
    """In any order, a row costs what it costs in order: its group is not decoded for it."""
    write_shard(tmp_path / "a.parquet", [samples[k % 12] for k in range(500)])
    dataset = DataSet(tmp_path)
    orders = {"in order": np.arange(500), "shuffled": np.random.default_rng(0).permutation(500)}
    spent = {name: [] for name in orders}
    for _ in range(3):
        for name, order in orders.items():
            start = time.process_time()
            for k in order[:100]:
                dataset[int(k)]
            spent[name].append(time.process_time() - start)
    assert min(spent["shuffled"]) < 3 * min(spent["in order"])


def test_importing_is_light():
    code = "import sys, strokes.sft.store; print({'torch', 'datasets', 'pyarrow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
