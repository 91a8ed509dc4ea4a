"""Chunks of the real back end: the same whenever they are made, no graph in two of them; and its filter."""

import sys
from collections import Counter

import numpy as np
import pytest
from real_parts import Blank, Oracle, maker

from strokes.envs.markup import parse_plan
from strokes.rewards.question import Verdict
from strokes.sft import build, kontext
from strokes.sft.edit_filter import Painted, rejections
from strokes.sft.kontext import split_of
from strokes.sft.real_graphs import Vocabulary

FEW = Vocabulary(objects=("gadget", "gizmo", "widget"), attributes=("red",), relations=("above",))
"""Of so few graphs that chance would draw some again."""
CAT = Painted(parse_plan("<ins>add a cat</ins><des>a cat</des>"), None, np.zeros((8, 8, 3), np.uint8))


def undrawn(num, chunk_size, **options):
    """Whose pictures do not matter."""
    options = {"vocabulary": FEW, "editor": Blank(), "detour_rate": 0.0, **options}
    return maker(Oracle(), num=num, chunk_size=chunk_size, **options)


def test_a_chunk_is_the_same_whenever_it_is_made(client):
    first, second = (maker(client, seed=1).make(5, 4) for _ in range(2))
    assert first == second
    (other,) = maker(client, seed=2).make(5, 1)
    assert other.graph_hash not in {sample.graph_hash for sample in first}


def test_no_graph_is_in_both_splits(client):
    (sample,) = maker(client, split="validation").make(0, 1)
    assert sample.split == "validation"
    rng = np.random.default_rng(0)
    shares = Counter(split_of(Vocabulary().sample(rng)) for _ in range(2000))
    assert 0 < shares["validation"] < 100
    splits = {graph.canonical_hash(): split_of(graph) for graph in (FEW.sample(rng) for _ in range(5000))}
    for split, num in (("train", 140), ("validation", 1)):
        made = undrawn(num, num, split=split).make(0, num)
        assert {(each.split, splits[each.graph_hash]) for each in made} == {(split, split)}


def test_no_graph_is_drawn_twice_in_all_chunks():
    real = undrawn(60, 20)
    hashes = [sample.graph_hash for chunk in range(3) for sample in real.make(chunk, 20)]
    assert len(hashes) == len(set(hashes)) == 60
    with pytest.raises(ValueError, match=r"chunk in \[0, 3\), got 3"):
        real.make(3, 20)
    with pytest.raises(ValueError, match="more graphs than are drawn"):
        undrawn(600, 20).make(0, 20)


def test_the_command_tells_the_maker_which_chunks_there_are(monkeypatch, tmp_path, capsys):
    told = []

    def make(settings):
        told.append(settings)
        raise ValueError("seen")

    monkeypatch.setattr(kontext, "make", make)
    real = ("subset=multi_turn", "multi_turn.backend=real", f"multi_turn.real.path={tmp_path}")
    monkeypatch.setattr(
        sys, "argv", ["strokes-data", *real, "scale=0.001", "chunk_size=7", "size=32", f"out={tmp_path / 'run'}"]
    )
    assert build.main() == 1 and "seen" in capsys.readouterr().err
    assert (told[0]["num"], told[0]["chunk_size"], told[0]["split"], told[0]["size"]) == (32, 7, "train", 1024)


class Client(Oracle):
    """Counts how often its connections are given up; unreachable if told so."""

    is_gone, num_closed = False, 0

    def ask(self, requests):
        if self.is_gone:
            raise OSError("gone")
        return super().ask(requests)

    def close(self):
        self.num_closed += 1


def test_connections_are_given_up_after_a_chunk():
    judge = Client()
    real = maker(judge, client=judge)
    assert len(real.make(0, 1)) == 1 and judge.num_closed == 1
    judge.is_gone = True
    with pytest.raises(OSError, match="gone"):
        real.make(1, 1)
    assert judge.num_closed == 2


def test_a_picture_that_speaks_to_the_judge_is_not_learnt_from():
    guarded = Verdict(status="ok", data={"choice": "yes", "is_guarded": True})
    assert rejections(Oracle(edit_filter=guarded), [CAT]) == ["speaks to the judge"]


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("No, the sky moved.", "preserved"),
        ("no", "preserved"),
        ("**No** - it moved", "preserved"),
        ("Not applicable: there is no picture before.", ""),
        ("None", ""),
        ("Nothing changed.", ""),
        ("noted, yes", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_check_fails_by_the_word_no_alone(note, reason):
    said = Verdict(status="ok", data={"choice": "yes", "preserved_ok": note})
    assert rejections(Oracle(edit_filter=said), [CAT]) == [reason]
