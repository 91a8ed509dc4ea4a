"""One shot: the image comes from the prompt alone, the words are the grammar's due; and the best of several."""

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Text
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.pictures import Pictures
from strokes.agents.bagel.sample import Branches, Sampling
from strokes.agents.one_shot import OneShot
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.agents.rollout import play as drive
from strokes.agents.search import BestOfN
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.protocols import Cost, Score
from strokes.envs.testing import PolicyConformance, play

S = Stage
SAMPLING = Sampling(num_timesteps=4, timestep_shift=1.0, cfg_text_scale=2.0)
ORDER = [S.PLAN, S.SKETCH, S.INSPECT, S.STOP]


def make(memorised, **options):
    return OneShot(memorised.model, memorised.tokenizer, SAMPLING, **options)


def brightness(transcripts):
    return [Score(total=float(t.canvas.mean()) if t.canvas is not None else None) for t in transcripts]


class TestOneShotConformance(PolicyConformance):
    @pytest.fixture(autouse=True)
    def _given(self, memorised):
        self.memorised = memorised

    def make_policy(self):
        return make(self.memorised)


class TestBestOfNConformance(TestOneShotConformance):
    def make_policy(self):
        return BestOfN(make(self.memorised), 2, brightness)


class TestBestOfNInterleavedConformance(TestOneShotConformance):
    budget = 12

    def make_policy(self):
        return BestOfN(self.memorised.policy(), 2, brightness, Rules(budget=self.budget))


def test_the_image_is_that_of_the_prompt_alone(memorised):
    (chunk,) = chunks(["a red <b> circle", "x"], seed=5)
    drawn = rollout(make(memorised, is_recorded=True), chunk)
    for episode, each in zip(chunk, drawn, strict=True):
        assert [entry.stage for entry in each.transcript.emissions] == ORDER
        assert not any(entry.error for entry in each.transcript.emissions)
        contexts = Contexts(memorised.model, memorised.tokenizer.ids)
        (row,) = contexts.open(1)
        contexts.extend([row], [[Text(ids=memorised.tokenizer.encode(episode.prompt))]])
        branches = Branches([contexts.view(row)], [contexts.base(row)])
        assert branches.text[0].length == 0
        rng = np.random.default_rng(np.random.SeedSequence((*episode.seed, 1)))
        (want,) = Pictures(memorised.model, SAMPLING).draw(contexts, branches, [48], [rng])
        apart = np.abs(each.transcript.images[0].astype(int) - want.image)
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-2
        cost = each.replies[1].cost
        assert (cost.steps, cost.nfe, cost.decodes, cost.encoded) == (
            3,
            5,
            1,
            len(contexts.model and chunk) and row + branches.full[0].length,
        )
        assert len(each.replies[1].path) == 3 and torch.is_tensor(each.replies[1].path[0].x)


def test_a_refinement_that_is_asked_for_is_another_drawing_from_the_prompt(memorised):
    start = Transcript(prompt=memorised.prompt, size=48)
    for stage, content in ((S.PLAN, memorised.texts[0]), (S.SKETCH, np.zeros((48, 48, 3), np.uint8))):
        start.record(Emission(stage, content))
    start.record(Emission(S.INSPECT, memorised.texts[1]), source="human")
    done = play(make(memorised), TestOneShotConformance().make_env(), transcript=start)
    assert [entry.stage for entry in done.emissions[3:]] == [S.REFINE, S.STOP]


def test_a_canvas_that_the_model_cannot_draw_is_refused(memorised):
    with pytest.raises(ValueError, match="multiple of 16"):
        make(memorised).start(Transcript(prompt="x", size=40), 40, (0,))


def test_the_best_drawing_is_kept_and_all_are_paid_for(memorised):
    (chunk,) = chunks([memorised.prompt], seed=3)
    seeds = [(*chunk[0].seed, member) for member in range(4)]
    alone = make(memorised)
    transcripts = [Transcript(prompt=memorised.prompt, size=48) for _ in seeds]
    each = drive(alone, transcripts, seeds, Rules())
    (best,) = rollout(BestOfN(make(memorised), 4, brightness), chunk, score_fn=brightness)
    values = [score.total for score in brightness(transcripts)]
    assert len(set(values)) > 1
    assert best.score.total == pytest.approx(max(values), abs=0.1)
    costs = [t.cost for t in each]
    assert best.cost.steps == sum(cost.steps for cost in costs) == 4 * 3
    assert best.cost.nfe == sum(cost.nfe for cost in costs) and best.replies[1].cost == Cost()


def test_no_verdict_counts_less_than_any(memorised):
    def judge(transcripts):
        return [Score(total=-5.0 if k == 2 else None) for k, _ in enumerate(transcripts)]

    policy = BestOfN(make(memorised), 3, judge)
    session = policy.start(Transcript(prompt="x", size=48), 48, (0,))
    policy.act([session], [session.transcript.mask()])
    assert session.best.score.total == -5.0


def test_it_searches_anew_when_the_transcript_goes_another_way(memorised):
    policy = BestOfN(make(memorised), 2, brightness)
    transcript = Transcript(prompt="x", size=48)
    session = policy.start(transcript, 48, (0,))
    policy.act([session], [transcript.mask()])
    first = session.best
    transcript.record(Emission(S.PLAN, "<ins>Other.</ins><des>words</des>"), source="human")
    (reply,) = policy.act([session], [transcript.mask()])
    assert session.best is not first and reply.emission.stage is S.SKETCH and reply.cost.steps == 6


def test_a_search_of_nothing_is_refused(memorised):
    with pytest.raises(ValueError, match="at least 1"):
        BestOfN(make(memorised), 0, brightness)
