"""Data sets: rows in any order, columns without pictures, unpacked shards."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from strokes.sft import unpacked
from strokes.sft.sample import Subset
from strokes.sft.store import DataSet, write_shard


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
    for name in ("segments.words", "kinds.dtype", "images._type", "images.bytes", "nothing"):
        with pytest.raises(ValueError, match=r"segments\.text"):
            dataset.column(name)


def test_a_shard_that_was_built_again_is_read_anew(shard, samples):
    assert len(DataSet(shard)) == 12
    write_shard(shard, samples[:2])
    assert len(DataSet(shard)) == 2


def test_shards_of_a_folder_that_cannot_be_written(shard, samples, tmp_path):
    assert DataSet(shard, unpacked=tmp_path / "elsewhere")[0] == samples[0]
    assert not (shard.parent / unpacked.UNPACKED).exists()


def test_data_sets_may_share_a_folder_of_unpacked_shards(tmp_path, samples):
    """Shards of one name, size and time are told apart, and a shard from what it was before."""
    paths = [tmp_path / name / "train-00000.parquet" for name in ("multi_turn", "conflict")]
    for path, graph in zip(paths, "abc", strict=False):
        write_shard(path, [replace(samples[0], graph_hash=graph * 8)])
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert paths[0].stat().st_size == paths[1].stat().st_size
    shared = tmp_path / "unpacked"
    assert DataSet(paths, unpacked=shared).column("graph_hash") == ["a" * 8, "b" * 8]
    assert DataSet(paths[1], unpacked=shared)[0].graph_hash == "b" * 8
    write_shard(paths[0], [replace(samples[0], graph_hash="c" * 8)])
    os.utime(paths[0], (1_700_000_000, 1_700_000_000))
    assert DataSet(paths, unpacked=shared).column("graph_hash") == ["c" * 8, "b" * 8]
    assert len(list(shared.iterdir())) == 2  # what the first shard was before is gone


def test_unpacked_shards_move_with_their_data(tmp_path, shard, samples):
    DataSet(shard)
    (there,) = (shard.parent / unpacked.UNPACKED).iterdir()
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (shard, there.parent):
        path.rename(moved / path.name)
    assert DataSet(moved)[3] == samples[3]
    assert [path.name for path in (moved / unpacked.UNPACKED).iterdir()] == [there.name]


def test_threads_may_open_the_same_data(shard, samples):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: len(DataSet(shard)), range(12)))
    assert found == [len(samples)] * 12 and len(list((shard.parent / unpacked.UNPACKED).iterdir())) == 1


def test_a_data_set_is_pickled_without_its_rows(tmp_path, samples, monkeypatch):
    write_shard(tmp_path / "a.parquet", samples * 20)
    part = DataSet(tmp_path).select(subset=Subset.CONFLICT)[3:]
    content = pickle.dumps(part)
    assert len(content) < (tmp_path / "a.parquet").stat().st_size / 10
    monkeypatch.chdir("/")
    back = pickle.loads(content)
    assert len(back) == len(part) and back[5] == part[5] and back.column("id") == part.column("id")
    write_shard(tmp_path / "a.parquet", samples)
    with pytest.raises(ValueError, match="240 rows in all"):
        pickle.loads(content)


def test_a_row_costs_the_same_in_a_large_shard(tmp_path, samples):
    """Of a row, nothing but itself is decoded."""
    nums, spent = (12, 1200), dict[int, float]()
    for num in nums:
        write_shard(tmp_path / f"{num}.parquet", [samples[k % 12] for k in range(num)])
    sets = {num: DataSet(tmp_path / f"{num}.parquet") for num in nums}
    for _ in range(3):
        for num, dataset in sets.items():
            start = time.process_time()
            for k in range(12):
                dataset[(k * 587) % num]
            spent[num] = min(spent.get(num, 1e9), time.process_time() - start)
    assert spent[1200] < 3 * spent[12]
