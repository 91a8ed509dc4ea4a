"""BAGEL as a policy: legal, batched, incremental, and true to what others say and change."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Text, save
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.prefix import Prefixes
from strokes.agents.bagel.sample import Sampling
from strokes.agents.interleaved import CUT, Interleaved
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.markup import is_plan, neutralise
from strokes.envs.testing import PolicyConformance, play

S = Stage
ORDER = [S.PLAN, S.SKETCH, S.INSPECT, S.REFINE, S.PLAN, S.SKETCH, S.INSPECT, S.STOP]
SIZE = 48


def close(got, want, tolerance=1e-4):
    assert got.shape == want.shape and (got - want).abs().max() <= tolerance


@pytest.fixture
def policy(memorised):
    return memorised.policy()


class TestConformance(PolicyConformance):
    budget = 12

    @pytest.fixture(autouse=True)
    def _given(self, memorised):
        self.memorised = memorised

    def make_policy(self):
        return self.memorised.policy()


def opened(policy, memorised, *seeds):
    transcripts = [Transcript(prompt=memorised.prompt, size=SIZE) for _ in seeds]
    return [policy.start(transcript, SIZE, (seed,)) for transcript, seed in zip(transcripts, seeds, strict=True)]


def advance(policy, sessions, num=1):
    """``num`` emissions of each session, recorded; the replies of the last."""
    replies = []
    for _ in range(num):
        open_ = [session for session in sessions if not session.transcript.ended]
        replies = policy.act(open_, [session.transcript.mask() for session in open_])
        for session, reply in zip(open_, replies, strict=True):
            session.transcript.record(reply.emission)
    return replies


def next_logits(policy, session):
    """What the context predicts, brought up to date."""
    policy.reader.read([session])
    return policy.contexts.logits([session.row])[0]


def from_scratch(policy, transcript):
    """The same prediction by a session that has to encode everything."""
    twin = policy.start(transcript, transcript.size, (0,))
    logits = next_logits(policy, twin)
    policy.close([twin])
    return logits


def test_it_draws_what_it_has_learnt_stage_by_stage_and_stops(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    advance(policy, [session], len(ORDER))
    entries = session.transcript.emissions
    assert [entry.stage for entry in entries] == ORDER and not any(entry.error for entry in entries)
    assert (
        tuple(entry.content for entry in entries if isinstance(entry.content, str) and entry.content) == memorised.texts
    )
    assert session.transcript.ended == "stop"


def test_a_batch_of_canvases_at_different_stages_equals_single_ones(memorised):
    together, starts = memorised.policy(temperature=1.0), (0, 3, 1, 4)
    singles = [memorised.policy(temperature=1.0) for _ in starts]
    sessions = opened(together, memorised, *range(len(starts)))
    others = [opened(single, memorised, k)[0] for k, single in enumerate(singles)]
    for step in range(6):
        going = [k for k in range(len(starts)) if step >= starts[k] and not sessions[k].transcript.ended]
        batch = together.act([sessions[k] for k in going], [sessions[k].transcript.mask() for k in going])
        for k, reply in zip(going, batch, strict=True):
            (alone,) = singles[k].act([others[k]], [others[k].transcript.mask()])
            assert reply.tokens == alone.tokens and reply.emission.stage is alone.emission.stage
            assert reply.logps == pytest.approx(alone.logps, abs=1e-4)
            if reply.emission.stage.is_image:
                apart = np.abs(np.asarray(reply.emission.content, int) - alone.emission.content)
                assert apart.max() <= 1 and (apart > 0).mean() < 1e-2
            for session in (sessions[k], others[k]):
                session.transcript.record(reply.emission)


def test_nothing_is_encoded_twice(memorised):
    policy = memorised.policy()
    (session,) = opened(policy, memorised, 0)
    encoded = sum(advance(policy, [session])[0].cost.encoded for _ in ORDER)
    texts = [len(memorised.tokenizer.encode(text)) + 2 for text in (memorised.prompt, *memorised.texts)]
    per_image = 2 * (9 + 2)  # 3 x 3 latents and as many patches, each with two markers
    assert encoded == sum(texts) + 3 * per_image == policy.contexts.mark(session.row).length


def test_costs_count_steps_branches_and_decodes(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    costs = [advance(policy, [session])[0].cost for _ in range(2)]
    assert costs[0].tokens == len(memorised.tokenizer.encode(memorised.texts[0])) + 2  # a switch, a closing marker
    assert (costs[0].nfe, costs[0].decodes) == (0, 0)
    # times 1, 2/3, 1/3: guided where t > .4
    assert (costs[1].steps, costs[1].nfe, costs[1].decodes, costs[1].tokens) == (3, 5, 1, 1)
    assert min(cost.seconds for cost in costs) > 0


def test_the_context_is_that_of_the_transcript(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    for _ in ORDER[:-1]:
        advance(policy, [session])
        close(next_logits(policy, session), from_scratch(policy, session.transcript))


def test_replies_carry_what_learning_needs(memorised):
    policy = memorised.policy(temperature=0.8, is_recorded=True)
    (session,) = opened(policy, memorised, 0)
    plan, sketch = advance(policy, [session])[0], advance(policy, [session])[0]
    ids = memorised.tokenizer.ids
    assert plan.tokens[0] == ids.bos_token_id and plan.allowed[0] == (ids.bos_token_id,) and plan.logps[0] == 0
    assert plan.tokens[-1] == ids.eos_token_id and plan.temperature == 0.8
    assert memorised.tokenizer.decode(plan.tokens[1:-1]) == plan.emission.content
    assert sketch.tokens == (ids.start_of_image,) and len(sketch.path) == 3
    assert torch.equal(sketch.path[0].x_next, sketch.path[1].x)
    image = torch.from_numpy(sketch.emission.content).permute(2, 0, 1)[None] / 255 * 2 - 1
    close(sketch.latent, policy.model.encode_images(image)[0])
    # Log-probs are those of a forward over the sampled ids.
    contexts = Contexts(policy.model, ids)
    prompt = Text(ids=memorised.tokenizer.encode(memorised.prompt))
    hidden = contexts.extend(contexts.open(1), [[prompt, Text(ids=plan.tokens[1:-1])]])[0]
    logits = policy.model.logits(hidden[len(prompt.ids) + 2 : -1]) / 0.8
    for logit, token, logp, allowed in zip(logits, plan.tokens[1:], plan.logps[1:], plan.allowed[1:], strict=True):
        among = list(range(len(logit))) if allowed is None else list(allowed)
        assert torch.log_softmax(logit[among], 0)[among.index(token)].item() == pytest.approx(logp, abs=1e-4)


def test_the_switch_is_sampled_among_what_is_legal(memorised):
    policy, ids = memorised.policy(temperature=50.0), memorised.tokenizer.ids
    transcript = Transcript(prompt=memorised.prompt, size=SIZE)
    transcript.record(Emission(S.PLAN, memorised.texts[0]))
    transcript.record(Emission(S.SKETCH, np.zeros((SIZE, SIZE, 3), np.uint8)))
    transcript.record(Emission(S.INSPECT, "It is right."))
    sessions = [policy.start(transcript, SIZE, (seed,)) for seed in range(8)]
    replies = policy.act(sessions, [transcript.mask()] * 8)
    assert {reply.allowed[0] for reply in replies} == {tuple(sorted((ids.bos_token_id, ids.eos_token_id)))}
    assert {reply.emission.stage for reply in replies} == {S.PLAN, S.STOP}
    assert all(reply.logps[0] < 0 for reply in replies)
    assert all(is_plan(r.emission.content) for r in replies if r.emission.stage is S.PLAN)


def test_a_text_at_the_limit_is_illegal_and_closed(memorised):
    policy = memorised.policy(max_tokens=6)
    (session,) = opened(policy, memorised, 0)
    (reply,) = policy.act([session], [session.transcript.mask()])
    assert reply.emission.content.endswith(CUT) and len(reply.tokens) == 1 + 6
    assert session.transcript.record(reply.emission)
    logits = next_logits(policy, session)
    contexts = Contexts(policy.model, memorised.tokenizer.ids)
    contexts.extend(
        [row := contexts.open(1)[0]],
        [[Text(ids=memorised.tokenizer.encode(memorised.prompt)), Text(ids=reply.tokens[1:])]],
    )
    close(logits, contexts.logits([row])[0])


def test_sampled_ids_are_kept_though_the_words_could_be_spelt_otherwise(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    (reply,) = policy.act([session], [session.transcript.mask()])
    before = policy.contexts.logits([session.row])[0]
    policy.reader.tokenizer = None  # whoever asks it now fails
    session.transcript.record(reply.emission)
    close(next_logits(policy, session), before, 0)


def test_words_and_pictures_from_outside_enter_the_context(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    advance(policy, [session], 2)
    transcript = session.transcript
    before = next_logits(policy, session)
    transcript.interject("Look <|im_end|> again.")
    transcript.record(Emission(S.INSPECT, "It is wrong.<refine>Draw it.</refine>"), source="human")
    transcript.record(Emission(S.STOP, ""))  # illegal: nothing to encode
    transcript.record(Emission(S.REFINE, np.full((SIZE, SIZE, 3), 9, np.uint8)), source="human")
    after = next_logits(policy, session)
    assert (after - before).abs().max() > 1e-3
    close(after, from_scratch(policy, transcript))


def test_an_emission_that_was_not_recorded_or_was_changed_leaves_no_trace(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    policy.act([session], [session.transcript.mask()])
    policy.act([session], [session.transcript.mask()])
    session.transcript.record(Emission(S.PLAN, "<ins>Other.</ins><des>words</des>"), source="human")
    close(next_logits(policy, session), from_scratch(policy, session.transcript))
    advance(policy, [session], 2)
    del session.transcript.emissions[1:]
    close(next_logits(policy, session), from_scratch(policy, session.transcript))
    session.transcript.emissions.clear()
    close(next_logits(policy, session), from_scratch(policy, session.transcript))


def test_image_guidance_reads_the_texts_alone(memorised):
    policy = memorised.policy(sampling=Sampling(num_timesteps=3, cfg_text_scale=2.0, cfg_img_scale=1.5))
    (session,) = opened(policy, memorised, 0)
    advance(policy, [session], 4)
    policy.reader.read([session])
    contexts = Contexts(policy.model, memorised.tokenizer.ids)
    (row,) = contexts.open(1)
    texts = [memorised.prompt, *(e.content for e in session.transcript.emissions if isinstance(e.content, str))]
    contexts.extend([row], [[Text(ids=memorised.tokenizer.encode(text)) for text in texts]])
    close(policy.contexts.logits([session.texts])[0], contexts.logits([row])[0])
    assert policy.contexts.mark(session.texts)[:2] == contexts.mark(row)[:2]
    policy.close([session])
    assert policy.contexts.cache.num_rows == 0


def test_special_strings_in_prompts_are_ordinary_words(policy, memorised):
    prompt = "a <|im_end|><|vision_start|> circle <ins>"
    session = policy.start(Transcript(prompt=prompt, size=SIZE), SIZE, (0,))
    advance(policy, [session])
    ids = memorised.tokenizer.encode(neutralise(prompt))
    assert not set(ids) & set(asdict(memorised.tokenizer.ids).values())
    assert policy.contexts.trail(session.row)[1].length == len(ids) + 2


def test_a_canvas_that_the_model_cannot_draw_is_refused(policy):
    for size in (40, 256):
        with pytest.raises(ValueError, match=f"multiple of 16 up to 128.* got {size}"):
            policy.start(Transcript(prompt="x", size=size), size, (0,))


def test_a_finished_episode_and_a_strange_session_are_refused(policy, memorised):
    (session,) = opened(policy, memorised, 0)
    with pytest.raises(ValueError, match="at least one legal stage"):
        policy.act([session], [np.zeros(5, np.int8)])
    with pytest.raises(ValueError, match="session of this policy"):
        policy.act([object()], [np.ones(5, np.int8)])


def test_any_spelling_begins_a_plan_and_none_an_inspection(memorised):
    tokenizer = memorised.tokenizer
    prefixes, encode = Prefixes(tokenizer, 600), tokenizer.encode
    spellings = [encode("<ins>Draw"), [encode(c)[0] for c in "<ins>"]]
    for ids in spellings:
        for k, token in enumerate(ids):
            allowed = prefixes.plan(ids[:k])
            assert allowed is None or token in allowed.ids
        assert prefixes.plan(ids) is None
    last = spellings[1]
    assert all(token in prefixes.other(last[:k]).ids for k, token in enumerate(last[:-1]))
    assert last[-1] not in prefixes.other(last[:-1]).ids
    space = encode(" ")[0]
    assert last[-1] not in prefixes.other([space, *last[:-1]]).ids
    assert prefixes.other(encode("It")) is None and prefixes.other(encode("<refine>")) is None


def test_a_given_canvas_is_in_the_context_from_the_start(policy, memorised):
    env = TestConformance().make_env()
    canvas = np.full((SIZE, SIZE, 3), 200, np.uint8)
    env.reset(options={"prompt": memorised.prompt, "canvas": canvas})
    session = policy.start(env.transcript, SIZE, (0,))
    (reply,) = policy.act([session], [env.transcript.mask()])
    assert reply.emission.stage is S.PLAN
    # prompt, latent, what the encoder sees, plan
    assert len(policy.contexts.trail(session.row)) == 1 + 4


def test_a_policy_is_loaded_from_a_checkpoint_directory(memorised, tmp_path):
    save(tmp_path, memorised.model)
    memorised.tokenizer.save(tmp_path)
    ours = memorised.policy()
    loaded = Interleaved.load(tmp_path, ours.pictures.sampling, max_tokens=ours.max_tokens)
    one, two = (play(policy, TestConformance().make_env(), prompt=memorised.prompt) for policy in (ours, loaded))
    assert one == two


def test_it_continues_the_drawing_of_others(policy, memorised):
    env = TestConformance().make_env()
    start = Transcript(prompt=memorised.prompt, size=SIZE)
    start.record(Emission(S.PLAN, memorised.texts[0]), source="human")
    done = play(policy, env, transcript=start)
    assert [entry.stage for entry in done.emissions] == ORDER and done.emissions[0].source == "human"
