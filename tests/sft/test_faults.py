"""What is counted of labelled rounds: the faults that are reported, and those that are made up."""

import numpy as np
import pytest
from small_runs import make_samples

from strokes.agents.load import NANO
from strokes.agents.scripted import ScriptedPainter
from strokes.envs.protocols import Reply
from strokes.envs.stages import Emission, Stage
from strokes.sft.alignment import Alignment
from strokes.sft.conflict import Conflict
from strokes.sft.faults import before_inspection, main, reports, tallied, to_markdown
from strokes.sft.store import write_shard

NUM = 36


@pytest.fixture(scope="module")
def labelled():
    return [
        *Alignment(source="corrupted", num=NUM).make(0, NUM),
        *Conflict(source="symbolic", num=NUM).make(0, NUM),
    ]


class Always(ScriptedPainter):
    """Says one thing of every picture."""

    def __init__(self, comment):
        super().__init__()
        self.comment = comment

    def act(self, sessions, masks):
        assert all(np.flatnonzero(mask).tolist() == [Stage.INSPECT] for mask in masks)
        return [Reply(emission=Emission(Stage.INSPECT, self.comment)) for _ in sessions]


def totals(samples, said):
    found = tallied(samples, said)
    return [(each.faults, each.reported, each.sound, each.alarms) for (_, kind), each in found.items() if kind == "all"]


def test_an_exact_inspector_reports_every_fault_and_makes_up_none(labelled):
    said = reports(ScriptedPainter(), labelled)
    assert said == [not sample.label for sample in labelled]
    for faults, reported, sound, alarms in totals(labelled, said):
        assert faults == reported > 0 == alarms < sound


@pytest.mark.parametrize(
    ("comment", "is_reported"), [("all is well", 0), ("no<refine>move it</refine>", 1), ("<refine>", 0)]
)
def test_an_inspector_who_does_not_look_is_counted_for_what_it_says(labelled, comment, is_reported):
    said = reports(Always(comment), labelled)
    for faults, reported, sound, alarms in totals(labelled, said):
        assert (reported, alarms) == (faults * is_reported, sound * is_reported)


def test_kinds_are_counted_apart(labelled):
    found = tallied(labelled, reports(ScriptedPainter(), labelled))
    for subset in ("alignment", "conflict"):
        mine = {kind: each for (name, kind), each in found.items() if name == subset}
        assert mine["all"].sound == mine[""].sound and not mine[""].faults
        assert len(mine) > 3 and all(each.reported == each.faults > 0 for kind, each in mine.items() if kind)
    assert f"| conflict | all | {found['conflict', 'all'].faults} |" in to_markdown(found)


def test_what_is_inspected_is_what_the_sample_teaches(labelled):
    for sample in labelled:
        cut = before_inspection(sample)
        k = len(cut.emissions)
        assert cut.emissions[-1].stage is Stage.SKETCH
        assert sample.transcript.emissions[k].stage is Stage.INSPECT and sample.transcript.emissions[k].loss


def test_the_command_counts_a_shard(labelled, tmp_path, capsys):
    write_shard(tmp_path / "data" / "train-00000.parquet", labelled)
    assert main(["--checkpoint", str(NANO), "--data", str(tmp_path / "data"), "--split", "train", "--limit", "8"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| alignment | all |")]
    faults, _, sound, _ = map(int, line.split("|")[3:7])
    assert faults + sound == 8


def test_drawings_without_labels_and_an_empty_split_are_refused(tmp_path, capsys):
    write_shard(tmp_path / "train-00000.parquet", make_samples(3))
    arguments = ["--checkpoint", str(NANO), "--data", str(tmp_path)]
    assert main([*arguments, "--split", "train"]) == 1
    assert "a sample of conflict or alignment" in capsys.readouterr().err
    assert main(arguments) == 1
    assert "Expected samples of the split validation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--limit", "0"], "--limit of at least 1, got 0"),
        (["--limit", "-1"], "--limit of at least 1, got -1"),
        (["--data", "nowhere"], "got no nowhere"),
        (["--checkpoint", "nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments_are_named(more, words, labelled, tmp_path, capsys):
    write_shard(tmp_path / "train-00000.parquet", labelled[:2])
    assert main(["--checkpoint", "bagel-nano", "--data", str(tmp_path), "--split", "train", *more]) == 1
    assert words in capsys.readouterr().err


def test_pictures_of_another_size_are_refused(tmp_path, capsys):
    write_shard(tmp_path / "train-00000.parquet", Alignment(source="corrupted", num=2, size=64).make(0, 2))
    assert main(["--checkpoint", str(NANO), "--data", str(tmp_path), "--split", "train"]) == 1
    assert "pictures of 48 pixels, the model's canvas, got" in capsys.readouterr().err
