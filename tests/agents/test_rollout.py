"""Rollouts: chunks are fixed, trajectories complete, verdicts written where they belong."""

import numpy as np
import pytest
import torch

from strokes.agents.ledger import Ledger
from strokes.agents.rollout import Rules, chunks, play, rollout
from strokes.agents.scripted import ScriptedPainter
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.protocols import Cost, Reply, Score
from strokes.rewards import SceneReward

PROMPTS = ["a red circle", ("a blue square", {"tag": "x"}), "two green stars"]


class Stubborn:
    """A policy that always sketches, legal or not, and notes how many canvases it gets at once."""

    def __init__(self):
        self.widths, self.threads, self.open = [], [], 0

    def start(self, transcript, size, seed):
        self.open += 1
        return Session(transcript, size)

    def act(self, sessions, masks):
        self.widths.append(len(sessions))
        self.threads.append(torch.get_num_threads())
        image = np.zeros((sessions[0].size, sessions[0].size, 3), np.uint8)
        return [Reply(emission=Emission(Stage.SKETCH, image), source="test", cost=Cost(steps=2)) for _ in sessions]

    def close(self, sessions):
        self.open -= len(sessions)


class Session:
    def __init__(self, transcript, size):
        self.transcript, self.size = transcript, size


def test_chunks_depend_on_seed_step_and_size_alone():
    parts = chunks(PROMPTS, seed=7, step=2, num_members=2, chunk_size=4)
    assert [len(part) for part in parts] == [4, 2]
    flat = [episode for part in parts for episode in part]
    assert [episode.seed for episode in flat] == [(7, 2, k, member) for k in range(3) for member in range(2)]
    assert [episode.group for episode in flat] == [0, 0, 1, 1, 2, 2]
    assert flat[2].prompt == "a blue square" and flat[2].meta == {"tag": "x"}
    with pytest.raises(ValueError, match="at least 1"):
        chunks(PROMPTS, seed=0, chunk_size=0)


def test_a_chunk_is_drawn_to_the_end_judged_and_the_same_every_time():
    (chunk,) = chunks(PROMPTS, seed=1, num_members=2)
    one, two = (rollout(ScriptedPainter(), chunk, score_fn=SceneReward(), threads=1) for _ in range(2))
    assert [each.transcript for each in one] == [each.transcript for each in two]
    for episode, each in zip(chunk, one, strict=True):
        assert each.seed == episode.seed and each.transcript.id == "-".join(map(str, episode.seed))
        assert each.transcript.ended == "stop" and each.score.total == each.transcript.score == 1.0
        assert len(each.replies) == len(each.transcript.emissions)
        assert all(entry.content is not None and reply.emission.stage is entry.stage for _, entry, reply in each.own())


def test_illegal_emissions_cost_budget_and_the_budget_ends_the_episode():
    policy, rules = Stubborn(), Rules(budget=3, size=64)
    (chunk,) = chunks(PROMPTS[:2], seed=0)
    drawn = rollout(policy, chunk, rules=rules)
    assert policy.widths == [2, 2, 2] and policy.open == 0
    for each in drawn:
        assert each.transcript.ended == "budget" and each.score is None
        assert all(entry.error and entry.source == "test" for entry in each.transcript.emissions)
        assert each.cost == Cost(steps=6)


def test_a_transcript_is_taken_up_where_it_is():
    transcript = Transcript(prompt="a red circle", size=48)
    transcript.record(Emission(Stage.PLAN, "<ins>Add a red circle.</ins><des>a red circle</des>"), source="human")
    (drawn,) = play(ScriptedPainter(), [transcript], [(0,)], Rules())
    assert drawn.transcript is transcript and drawn.replies[0] is None and transcript.ended == "stop"
    assert [k for k, _, _ in drawn.own()] == list(range(1, len(transcript.emissions)))


def test_finished_canvases_leave_the_batch():
    policy = Stubborn()
    done, fresh = Transcript(prompt="x", size=48), Transcript(prompt="x", size=48)
    done.record(Emission(Stage.STOP, ""))
    play(policy, [done, fresh], [(0,), (1,)], Rules(budget=2))
    assert policy.widths == [2, 1]


def test_sessions_are_closed_when_a_policy_fails():
    class Failing(Stubborn):
        def act(self, sessions, masks):
            raise OSError("no more")

    policy = Failing()
    with pytest.raises(OSError, match="no more"):
        rollout(policy, chunks(PROMPTS, seed=0)[0])
    assert policy.open == 0


def test_threads_hold_during_the_chunk_only():
    policy, before = Stubborn(), torch.get_num_threads()
    rollout(policy, chunks(PROMPTS[:1], seed=0)[0], rules=Rules(budget=1), threads=before + 1)
    assert policy.threads == [before + 1] and torch.get_num_threads() == before


def test_a_missing_verdict_stays_none():
    (chunk,) = chunks(PROMPTS[:1], seed=0)
    (drawn,) = rollout(Stubborn(), chunk, rules=Rules(budget=1), score_fn=lambda ts: [Score(total=None) for _ in ts])
    assert drawn.score == Score(total=None) and drawn.transcript.score is None


def test_a_ledger_sums_by_key_and_takes_means_per_canvas():
    ledger = Ledger()
    assert ledger.table() == {} and ledger.total == Cost()
    ledger.book("a", Cost(steps=12, seconds=0.5))
    ledger.book("b", Cost(steps=12, calls=1))
    ledger.book("a", Cost(steps=24))
    assert ledger.by_key() == {"a": Cost(steps=36, seconds=0.5), "b": Cost(steps=12, calls=1)}
    assert ledger.total == Cost(steps=48, calls=1, seconds=0.5) and len(ledger) == 3
    assert ledger.table()["steps"] == 16 and ledger.mean("calls") == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="'nfes'"):
        ledger.mean("nfes")
    with pytest.raises(ValueError, match="at least one booking"):
        Ledger().mean("nfe")
