"""GenRef's shards as alignment samples, from small tar files made here."""

import tarfile
from collections import Counter

import pytest
from genref_tar import add, jpeg, record, shard

from strokes.envs import Stage
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.rewards.critics import Judgement
from strokes.rewards.geneval_prompts import geneval_prompts
from strokes.sft.genref import GenRefAlignment, rewritten
from strokes.sft.genref_shards import FIELDS, read_pairs
from strokes.sft.rows import from_row, to_row
from strokes.sft.sample import Subset


@pytest.fixture
def tar(tmp_path):
    return shard(tmp_path / "genref_0.tar", [record(k) for k in range(12)])


def test_one_good_picture_to_two_bad_ones_and_the_good_one_is_the_refinement(tar):
    samples = GenRefAlignment(paths=[tar], num=9).make(0, 9)
    assert Counter(sample.label for sample in samples) == {True: 3, False: 6}
    for sample in samples:
        plan, sketch, inspection, *refined, stop = sample.transcript.emissions
        assert sample.subset is Subset.ALIGNMENT and sample.provenance["source"] == "genref"
        assert [e.loss for e in sample.transcript.emissions] == [False, False, True, *(True for _ in refined), True]
        assert stop.stage is Stage.STOP and not sample.transcript.legal()
        assert sample.transcript.prompt in parse_plan(plan.content).ins
        assert (sketch.content[0, 0, 0] > 200) == sample.label
        asked = parse_inspection(inspection.content).refine
        if sample.label:
            assert asked is None and not refined
        else:
            assert asked == "Make the dog brown" and "is blue" in inspection.content
            assert refined[0].stage is Stage.REFINE and refined[0].content[0, 0, 0] > 200


def test_samples_are_rows_of_the_store(tar):
    for sample in GenRefAlignment(paths=[tar], num=3).make(0, 3):
        assert from_row(to_row(sample), "row").transcript == sample.transcript


def test_chunks_share_a_shard_without_a_prompt_in_common(tmp_path):
    tar = shard(tmp_path / "genref_0.tar", [record(k) for k in range(60)])
    maker = GenRefAlignment(paths=[tar], num=12, chunk_size=6)
    parts = [{sample.transcript.prompt for sample in maker.make(chunk, 6)} for chunk in (0, 1)]
    assert all(len(part) == 6 for part in parts) and not parts[0] & parts[1]
    assert [s.transcript for s in maker.make(1, 6)] == [s.transcript for s in maker.make(1, 6)]


def test_chunks_have_no_prompt_in_common_where_shards_have(tmp_path):
    tars = [shard(tmp_path / f"genref_{k}.tar", [record(j) for j in range(60)]) for k in range(2)]
    maker = GenRefAlignment(paths=tars, num=12, chunk_size=6)
    prompts = [s.transcript.prompt for chunk in (0, 1) for s in maker.make(chunk, 6)]
    assert len(set(prompts)) == 12
    with pytest.raises(ValueError, match=r"chunk in \[0, 2\), got 2"):
        maker.make(2, 6)


def test_splits_share_no_prompt(tmp_path):
    tar = shard(tmp_path / "genref_0.tar", [record(k) for k in range(200)])
    prompts = {
        split: {s.transcript.prompt for s in GenRefAlignment(paths=[tar], num=num, split=split).make(0, num)}
        for split, num in (("train", 150), ("validation", 1))
    }
    assert not prompts["train"] & prompts["validation"]


def test_what_is_not_wanted_is_left_out_and_counted(tmp_path):
    (benchmark, *_) = geneval_prompts()
    records = [
        record(0, **{"reflection.txt": b"bad"}),
        record(1, **{"subset.txt": b"editing"}),
        record(2, **{"prompt.txt": f" {benchmark['prompt'].upper()}. ".encode()}),
        record(3),
        record(3),
        record(4),
    ]
    path, counts = shard(tmp_path / "a.tar", records), Counter()
    assert len(list(read_pairs(path, subsets=["rule"], counts=counts))) == 4
    assert counts == {"reflection too short": 1, "another subset": 1}
    maker = GenRefAlignment(paths=[path], subsets=["rule"], num=2)
    assert {s.transcript.prompt for s in maker.make(0, 2)} == {f"a brown dog number {k} on a sofa" for k in (3, 4)}
    with pytest.raises(ValueError, match=r"1 a benchmark's prompt.* 1 said before.*name more shards"):
        GenRefAlignment(paths=[path], subsets=["rule"], num=3).make(0, 3)


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_without_a_field_is_named_or_skipped(tmp_path, field):
    path = shard(tmp_path / "a.tar", [record(0), record(1, **{field: None}), record(2)])
    with pytest.raises(ValueError, match=rf"000001.*a\.tar.*no {field}"):
        list(read_pairs(path))
    counts = Counter()
    assert [pair.key for pair in read_pairs(path, on_bad="skip", counts=counts)] == ["part.1/000000", "part.1/000002"]
    assert counts == {f"no {field}": 1}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_tar_cut_short_gives_what_was_whole(tar, share):
    whole = list(read_pairs(tar))
    with tarfile.open(tar) as file:
        ends = [member.offset_data + member.size for member in file]
    cut = int(ends[-1] * share)
    tar.write_bytes(tar.read_bytes()[:cut])
    expected = whole[: sum(end <= cut for end in ends[len(FIELDS) - 1 :: len(FIELDS)])]
    stream, given = read_pairs(tar), []
    with pytest.raises(ValueError, match=r"genref_0.*whole tar file"):
        while True:
            given.append(next(stream))
    assert given == expected == list(read_pairs(tar, on_bad="skip"))


def test_a_tar_cut_between_two_records_is_noticed(tar):
    with tarfile.open(tar) as file:
        start = file.getmembers()[len(FIELDS)].offset
    tar.write_bytes(tar.read_bytes()[:start])
    counts = Counter()
    assert len(list(read_pairs(tar, on_bad="skip", counts=counts))) == 1
    assert counts == {"tar cut short": 1}
    with pytest.raises(ValueError, match="download it again"):
        list(read_pairs(tar))


def test_folders_and_hidden_files_are_no_records(tmp_path):
    """As a tar of a whole folder has them, before, between and after the records."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("part", "part/._000000.prompt.txt", "part/.DS_Store"):
            add(tar, name, b"x" * 600 if "." in name else None)
        for name, data in record(0).items():
            add(tar, f"part/000000.{name}", data)
            add(tar, f"part/._000000.{name}", b"x")
        add(tar, "empty")
    plain = shard(tmp_path / "b.tar", [record(0)])
    (pair,) = read_pairs(tmp_path / "a.tar")
    assert pair.key == "part/000000" and pair.good == next(read_pairs(plain)).good


def test_a_prompt_of_marks_alone_is_an_empty_one(tmp_path):
    path = shard(tmp_path / "a.tar", [record(0, **{"prompt.txt": b"..."}), *map(record, range(1, 8))])
    with pytest.raises(ValueError, match=r"000000.*an empty prompt\.txt"):
        GenRefAlignment(paths=[path], num=3).make(0, 3)
    samples = GenRefAlignment(paths=[path], num=3, on_bad="skip").make(0, 3)
    assert {sample.provenance["key"] for sample in samples} == {f"part.1/00000{k}" for k in (1, 2, 3)}


def test_a_shard_that_is_not_there_is_never_skipped(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.tar"):
        list(read_pairs(tmp_path / "nowhere.tar", on_bad="skip"))


def test_a_damaged_picture_is_named_or_skipped(tmp_path):
    path = shard(tmp_path / "a.tar", [record(0, **{"bad_image.jpg": jpeg(10)[:60]}), *map(record, range(1, 4))])
    with pytest.raises(ValueError, match=r"bad_image\.jpg of 'part\.1/000000'"):
        GenRefAlignment(paths=[path], num=3).make(0, 3)
    samples = GenRefAlignment(paths=[path], num=3, on_bad="skip").make(0, 3)
    assert {s.provenance["key"] for s in samples} == {f"part.1/00000{k}" for k in (1, 2, 3)}


@pytest.mark.parametrize(
    ("reflection", "comment", "refine"),
    [
        ("The cat is <ins>red. Change the cat to white.", "The cat is \u2039ins\u203ared", "Change the cat to white"),
        ("1. Add a cup. 2. Remove it.", "the sketch does not follow the plan", "Add a cup. Remove it"),
        ("there should be two cups", "the sketch does not follow the plan", "there should be two cups"),
    ],
)
def test_a_reflection_becomes_an_inspection(reflection, comment, refine):
    inspection = rewritten(reflection)
    assert parse_inspection(str(inspection)) == inspection == (comment, refine)


class Critic:
    """Finds dark pictures wrong, whatever the pair says."""

    def judge(self, queries):
        good = Judgement(p_yes=1.0, explanation="every object is there.")
        bad = Judgement(p_yes=0.0, explanation="the dog is blue", correction="change the dog to brown")
        return [good if query.canvas[0, 0, 0] > 200 else bad for query in queries]


def test_a_critic_has_the_words_and_what_it_sees_differently_is_left_out(tmp_path):
    path = shard(tmp_path / "a.tar", [record(0, **{"bad_image.jpg": jpeg(250)}), *map(record, range(1, 9))])
    samples = GenRefAlignment(paths=[path], num=6, critic=Critic()).make(0, 6)
    said = {sample.label: str(sample.transcript.emissions[2].content) for sample in samples}
    assert said[True] == "the sketch follows the plan; every object is there"
    assert said[False] == "the dog is blue<refine>change the dog to brown</refine>"
    assert all((s.transcript.emissions[1].content[0, 0, 0] > 200) == s.label for s in samples)
