"""Sampling texts and images: batched equals single, log-probs are those of what was sampled from."""

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Text, TokenIds
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.generate import Allowed, choose, decode_text
from strokes.agents.bagel.sample import Branches, Sampling, sample_images

TOKENS = TokenIds(bos_token_id=60, eos_token_id=61, start_of_image=62, end_of_image=63)
NUM = 6
LIMIT = 12


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(BagelConfig.nano(vocab_size=64)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        model.language_model.lm_head.weight[61] *= 8  # texts end at different lengths
    return model


def prompts(num=NUM):
    rng = np.random.default_rng(1)
    return [[Text(ids=rng.integers(0, 50, rng.integers(1, 9)).tolist())] for _ in range(num)]


def begin(model, items):
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(len(items))
    contexts.extend(rows, items)
    return contexts, rows


def uniforms(num=NUM):
    return np.random.default_rng(2).random((num, LIMIT))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_a_batch_of_texts_equals_single_ones(model, close, temperature):
    contexts, rows = begin(model, prompts())
    decoded = decode_text(contexts, rows, uniforms(), temperature=temperature)
    assert len({len(d.tokens) for d in decoded}) > 1
    for i, prompt in enumerate(prompts()):
        single, row = begin(model, [prompt])
        (alone,) = decode_text(single, row, uniforms()[i : i + 1], temperature=temperature)
        assert (alone.tokens, alone.is_cut) == (decoded[i].tokens, decoded[i].is_cut)
        assert alone.logps == pytest.approx(decoded[i].logps, abs=1e-4)
        assert contexts.mark(rows[i])[:4] == single.mark(row[0])[:4]
        close(contexts.logits(rows)[i], single.logits(row)[0])


def test_decoded_texts_become_part_of_their_contexts(model, close):
    contexts, rows = begin(model, prompts())
    decoded = decode_text(contexts, rows, uniforms())
    whole, others = begin(model, [[*p, Text(ids=d.ids)] for p, d in zip(prompts(), decoded, strict=True)])
    close(contexts.logits(rows), whole.logits(others))
    assert [contexts.mark(row)[:4] for row in rows] == [whole.mark(row)[:4] for row in others]


def test_log_probs_are_those_of_the_tempered_distribution(model):
    contexts, rows = begin(model, prompts())
    decoded = decode_text(contexts, rows, uniforms(), temperature=0.7)
    for prompt, text in zip(prompts(), decoded, strict=True):
        single = Contexts(model, TOKENS)
        hidden = single.extend(single.open(1), [[*prompt, Text(ids=text.ids)]])[0][len(prompt[0].ids) + 2 :]
        logps = torch.log_softmax(model.logits(hidden) / 0.7, -1)
        want = [logps[i, token].item() for i, token in enumerate(text.tokens)]
        assert text.logps == pytest.approx(want, abs=1e-4)


def test_a_text_at_the_limit_is_cut_and_closed(model):
    contexts, rows = begin(model, prompts())
    decoded = decode_text(contexts, rows, uniforms()[:, :3], temperature=1.5)
    cut = [i for i, d in enumerate(decoded) if d.is_cut]
    assert cut
    for i in cut:
        assert len(decoded[i].tokens) == len(decoded[i].ids) == 3
        before = len(prompts()[i][0].ids) + 2
        assert contexts.mark(rows[i]).length == before + 1 + 3 + 1


def test_constraints_bind_their_own_row_until_they_let_go(model):
    first = Allowed([5])
    either = Allowed([7, 9])
    contexts, rows = begin(model, prompts(2))
    plain, others = begin(model, prompts(2))
    free = decode_text(plain, others, uniforms(2))[1]
    bound, loose = decode_text(
        contexts,
        rows,
        uniforms(2),
        constraints=[lambda ids: (first, either)[len(ids)] if len(ids) < 2 else None, None],
    )
    assert bound.tokens[0] == 5 and bound.logps[0] == 0
    assert bound.tokens[1] in (7, 9) and bound.logps[1] < 0
    assert bound.allowed[:2] == ((5,), (7, 9)) and set(bound.allowed[2:]) <= {None}
    assert loose.tokens == free.tokens and set(loose.allowed) == {None}


def test_choices_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, 0.5]])
    grid = (np.arange(4000) + 0.5) / 4000
    ids, logps = choose(logits.expand(4000, 4), grid, 0.5, [Allowed([0, 2, 3])] * 4000)
    shares = np.bincount(ids.numpy(), minlength=4) / 4000
    want = torch.softmax(torch.tensor([0.0, -torch.inf, 4.0, 1.0]), 0)
    assert shares == pytest.approx(want.numpy(), abs=1e-3)
    assert logps.exp().numpy() == pytest.approx(want[ids].numpy(), rel=1e-5)


def test_the_ends_of_the_unit_interval_choose_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, 4)
    ids, _ = choose(logits, np.array([0.0, np.nextafter(1, 0)]), 1.0)
    assert ids.tolist() == [1, 2]


def test_a_batch_of_images_equals_single_ones(model, close):
    contexts, rows = begin(model, prompts(3))
    texts = contexts.open(3)
    contexts.extend(texts, [[Text(ids=[3])]] * 3)
    grids = [(3, 3), (2, 3), (3, 3)]
    noise = [torch.randn(h * w, 64, generator=torch.Generator().manual_seed(i)) for i, (h, w) in enumerate(grids)]
    sampling = Sampling(num_timesteps=5, cfg_text_scale=3.0, cfg_img_scale=1.5)

    def branches(places):
        return Branches(
            [contexts.view(rows[i]) for i in places],
            [contexts.base(rows[i]) for i in places],
            [contexts.view(texts[i]) for i in places],
        )

    together = sample_images(contexts, branches(range(3)), noise, grids, sampling, is_recorded=True)
    for i in range(3):
        alone = sample_images(contexts, branches([i]), noise[i : i + 1], grids[i : i + 1], sampling)
        close(together.latents[i], alone.latents[0])
        path = together.paths[i]
        assert len(path) == 4 and torch.equal(path[0].x, noise[i]) and torch.equal(path[-1].x_next, together.latents[i])
        assert [step.t_next for step in path[:-1]] == [step.t for step in path[1:]]
        assert {step.eta for step in path} == {0.0}
    # shift 3 puts 1, .9, .75 and .5 into the interval (.4, 1]: three branches each
    assert together.nfe == [4 * 3] * len(noise)


def test_guidance_outside_its_interval_costs_nothing(model):
    contexts, rows = begin(model, prompts(1))
    noise, views = [torch.zeros(9, 64)], Branches([contexts.view(rows[0])], [contexts.base(rows[0])])
    sampling = Sampling(num_timesteps=5, timestep_shift=1.0, cfg_interval=(0.5, 1.0))
    assert sample_images(contexts, views, noise, [(3, 3)], sampling).nfe == [2 * 2 + 2]
    unguided = Sampling(num_timesteps=5, cfg_text_scale=1.0)
    assert sample_images(contexts, views, noise, [(3, 3)], unguided).nfe == [4]


def test_what_cannot_be_sampled_is_said(model):
    contexts, rows = begin(model, prompts(1))
    with pytest.raises(ValueError, match="at least one token"):
        decode_text(contexts, rows, np.zeros((1, 0)))
    with pytest.raises(ValueError, match="temperature"):
        decode_text(contexts, rows, np.zeros((1, 1)), temperature=-1.0)
    with pytest.raises(ValueError, match="at least one allowed"):
        Allowed([])
    with pytest.raises(ValueError, match="Expected noise for grids"):
        sample_images(contexts, Branches([contexts.view(rows[0])]), [torch.zeros(4, 64)], [(3, 3)], Sampling())
