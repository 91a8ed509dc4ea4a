"""What a verifier learns from: drawn, judged, labelled, written; again and again the same."""

import json
import threading
from collections import Counter
from functools import cache, partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from strokes.agents.bagel.sample import Sampling
from strokes.agents.load import NANO
from strokes.agents.one_shot import OneShot
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs.archive import decode_png
from strokes.envs.protocols import Look, Opinion
from strokes.envs.scenes.tasks import split_of
from strokes.rewards.parm import ExactVerifier
from strokes.rewards.review import graph_of_task
from strokes.rl.verifier_card import SPLITS, Spent
from strokes.rl.verifier_data import Builder, Found
from strokes.rl.verifier_looks import FINISHED, Sight, draw, read_looks, read_seconds
from strokes.rl.verifier_settings import Drawings

SIZE = 48
QUICK = Sampling(num_timesteps=7, timestep_shift=1.0, cfg_text_scale=1.0)
"""Six steps without guidance: half of what it draws is wrong."""
ERRING = cache(partial(OneShot.load, NANO, QUICK))
FAULTLESS = partial(ScriptedPainter, Habits(error_rate=0.0, plan_error_rate=0.0))


def drawings(**options):
    usual = dict(scale=0.0005, prompts=40, members=2, flow_steps=[3, 5], judge="exact", chunk=16, threads=1)
    held = dict(test=0.25, validation=0.1, report=50)
    return Drawings(**{**usual, **held, "painters": ["one-shot"], "temperature": 1.0, **options})


def build(folder, verifier=None, policy=ERRING, stop=None, **options):
    """A builder that was asked to do all it can."""
    builder = Builder(folder, drawings(**options), seed=3, size=SIZE)
    stop = stop or threading.Event()
    if builder.draw(lambda painter: policy(), verifier or ExactVerifier(), stop=stop, on_begun=lambda: None):
        builder.choose({"policy": "the painter"})
    return builder


def rows(folder, split):
    return pq.read_table(folder / f"{split}.parquet").to_pylist()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert build(folder).is_complete
    return folder


def unreachable(after):
    """A judge who is gone after so many questions."""

    class Gone(ExactVerifier):
        num = 0

        def ask(self, question, looks):
            type(self).num += 1
            if self.num > after:
                raise ConnectionError("nobody is there")
            return super().ask(question, looks)

    return Gone()


def test_labels_of_outcomes_are_true_and_each_kind_asks_its_question(built):
    found = rows(built, "train") + rows(built, "test")
    assert {(row["kind"], row["question"]) for row in found} == {
        *((kind, kind) for kind in ("outcome", "clarity", "potential")),
        ("best_of", "outcome"),
    }
    for row in found:
        if row["question"] != "outcome":
            continue
        (opinion,) = ExactVerifier().ask("outcome", [Look(row["prompt"], decode_png(row["image"]["bytes"], SIZE))])
        assert opinion.said is row["label"]
        assert json.loads(row["provenance"])["is_last"]


def test_prompts_are_those_of_training_and_no_graph_is_in_both_parts(built):
    hashes = {}
    for split in SPLITS:
        graphs = [graph_of_task(row["prompt"], {}) for row in rows(built, split)]
        assert graphs and all(split_of(graph) == "train" for graph in graphs)
        hashes[split] = {graph.canonical_hash() for graph in graphs}
    assert len(set.union(*hashes.values())) == sum(map(len, hashes.values()))


def test_yes_and_no_are_alike_of_every_prompt_and_the_card_says_what_lacks(built):
    train, told = rows(built, "train"), (built / "README.md").read_text()
    for kind in ("outcome", "clarity", "potential", "best_of"):
        mine = [row for row in train if row["kind"] == kind]
        for prompt in {row["prompt"] for row in mine}:
            labels = [row["label"] for row in mine if row["prompt"] == prompt]
            assert 2 * sum(labels) == len(labels)
        (line,) = (line for line in told.splitlines() if line.startswith(f"| train | {kind} |"))
        wanted, half = int(line.split("|")[3]), len(mine) // 2
        assert line.split("|")[4:7] == [f" {2 * half} ", f" {half} ", f" {half} "]
        assert (f"train/{kind} (" in told) == (half < wanted // 2)


def test_the_same_settings_give_the_same_files_and_nothing_is_made_twice(built, tmp_path):
    first = build(tmp_path)
    for name in ("train.parquet", "validation.parquet", "test.parquet", "README.md"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()
    never = pytest.fail  # neither drawn nor judged again
    assert first.draw(never, never, stop=threading.Event(), on_begun=never)
    assert first.is_complete
    (tmp_path / "README.md").unlink()  # as where the process was killed just before the end
    assert not first.is_complete


def test_no_picture_is_asked_the_same_twice_and_what_it_took_is_told(built):
    for split in SPLITS:
        asked = [(row["provenance"], row["question"]) for row in rows(built, split)]
        assert len(set(asked)) == len(asked)
    spent, looks = Spent.read(built), [path for path in (built / "looks").iterdir()]
    assert spent is not None and Spent.read(built / "looks") is None
    assert spent.looks == len({row["provenance"] for row in rows(built, "train")}) < len(rows(built, "train"))
    assert spent.drawings == 80 and spent.verdicts == 80 * (2 * 3 + 1)  # two steps and the picture; its outcome
    assert spent.seconds >= sum(map(read_seconds, looks)) - 0.1 > 0


def test_what_is_set_aside_is_at_its_natural_rate(built):
    sights = [sight for path in (built / "looks").iterdir() for sight in read_looks(path)]
    rate = np.mean([sight.is_right for sight in sights if sight.is_last])
    held = [row["label"] for split in SPLITS[1:] for row in rows(built, split) if row["kind"] == "outcome"]
    assert abs(np.mean(held) - rate) < 0.25
    assert "best_of" not in {row["kind"] for split in SPLITS[1:] for row in rows(built, split)}


def test_every_painter_draws_every_prompt(tmp_path):
    named = {"one-shot": ERRING, "strokes": partial(ScriptedPainter, Habits(error_rate=0.5))}
    builder = Builder(tmp_path, drawings(painters=list(named), prompts=24, flow_steps=[]), seed=3, size=SIZE)
    begun = []

    def make(painter):
        begun.append(painter)
        return named[painter]()

    assert builder.draw(make, ExactVerifier(), stop=threading.Event(), on_begun=lambda: None)
    builder.choose({"policy": "two painters"})
    assert begun == list(named)
    found = rows(tmp_path, "train")
    assert {row["painter"] for row in found} == set(named)
    answers = {}
    for row in found:
        answers.setdefault((row["kind"], row["prompt"], row["painter"]), []).append(row["label"])
    assert all(2 * sum(labels) == len(labels) for labels in answers.values())
    assert all(json.loads(row["provenance"])["drawing"].startswith(f"{row['painter']}/") for row in found)


def test_best_of_n_leaves_outcomes_their_share_of_the_pairs(tmp_path):
    """All pictures of it are as good for either, and most of them are in no pair."""
    sights = [
        Sight(prompt=f"p{k}", meta={}, drawing=f"{k}/{m}", emission=0, step=FINISHED, is_last=True, painter="me")
        for k in range(440)
        for m in range(2 if k < 40 else 1)
    ]
    found = [
        Found(kind, sight.drawing.endswith("/0"), "outcome", 0, row, sight)
        for kind in ("outcome", "best_of")
        for row, sight in enumerate(sights)
    ]
    builder = Builder(tmp_path, drawings(), seed=3, size=SIZE)
    taken = builder._taken("train", found, {"outcome": 800, "best_of": 600, "clarity": 0, "potential": 0})
    counts = Counter(each.kind for each in taken)
    assert sum(counts.values()) == 80 and counts["best_of"] == 34 == 2 * (80 * 600 // 1400 // 2)


def test_a_judge_who_cannot_be_reached_loses_nothing(built, tmp_path):
    with pytest.raises(ConnectionError):
        build(tmp_path, unreachable(after=4))  # three questions about the first chunk, one about the second
    looks = sorted(path.name for path in (tmp_path / "looks").iterdir())
    assert looks == ["chunk-00000.parquet", "drawn-00001.parquet"]
    (tmp_path / "looks" / "chunk-00002.parquet.partial").write_bytes(b"half")
    build(tmp_path)
    assert (tmp_path / "train.parquet").read_bytes() == (built / "train.parquet").read_bytes()


def test_it_stops_between_chunks_when_asked(tmp_path):
    stop = threading.Event()
    stop.set()
    assert not build(tmp_path, stop=stop).is_complete and not (tmp_path / "looks").exists()


def test_answers_that_are_missing_are_no_labels(tmp_path):
    def is_silent(look):
        return len(look.prompt) % 3 == 0

    class Silent(ExactVerifier):
        def ask(self, question, looks):
            found = super().ask(question, looks)
            return [Opinion(said=None) if is_silent(look) else o for look, o in zip(looks, found, strict=True)]

    build(tmp_path, Silent(), prompts=20)
    sights = read_looks(tmp_path / "looks" / "chunk-00000.parquet")
    assert any(sight.is_right is None and sight.is_last for sight in sights)
    found = rows(tmp_path, "train") + rows(tmp_path, "test")
    assert found and not any(is_silent(Look(row["prompt"], None)) for row in found)


def test_one_answer_alone_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"outcome with both answers, got \d+ yes and 0 no.*drawings.prompts"):
        build(tmp_path, policy=FAULTLESS, flow_steps=[])
    assert not (tmp_path / "train.parquet").exists()


def test_looks_on_the_way_are_estimates_in_order_and_change_nothing():
    policy, rules = ERRING(), Rules(size=SIZE)
    (chunk,) = chunks(["a red circle", "two blue stars"], seed=1)
    drawn = draw(policy, chunk, rules, [2, 5], 1)
    plain = [each.transcript for each in rollout(policy, chunk, rules=rules, threads=1)]
    assert policy.watcher is None
    assert [(sight.prompt, sight.step, sight.is_last) for sight, _ in drawn] == [
        (prompt, step, step == FINISHED) for prompt in ("a red circle", "two blue stars") for step in (2, 5, FINISHED)
    ]
    for k, transcript in enumerate(plain):
        early, late, finished = (drawn[3 * k + place].image.astype(int) for place in range(3))
        assert np.array_equal(finished, transcript.canvas)
        assert 0 < np.abs(late - finished).mean() < np.abs(early - finished).mean()


def test_estimates_are_wanted_of_those_alone_who_can_be_watched():
    (chunk,) = chunks(["a red circle"], seed=1)
    with pytest.raises(ValueError, match=r"can be watched.*flow_steps=\[\]"):
        draw(FAULTLESS(), chunk, Rules(size=SIZE), [2], 1)
