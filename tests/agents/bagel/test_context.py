"""Contexts: batched equals single, incremental equals packed, looking back costs nothing."""

import copy

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, StateImage, Text, TokenIds, VaeImage, VitImage, cached, pack
from strokes.agents.bagel.config import LLMConfig
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.queries import Decoder, Denoiser

TOKENS = TokenIds(bos_token_id=60, eos_token_id=61, start_of_image=62, end_of_image=63)
T = 0.6


@pytest.fixture(autouse=True, params=["masked", "in runs"])
def attention(request, monkeypatch):
    """Everything holds for small forwards and for large ones, which attend run by run."""
    if request.param == "in runs":
        monkeypatch.setattr(cached, "DENSE", 0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=["nano", "grouped"])
def model(request):
    """A random model; the second with grouped heads, a tied head and 8 latent channels."""
    config = BagelConfig.nano(vocab_size=64)
    if request.param == "grouped":
        llm = LLMConfig(
            hidden_size=96,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            vocab_size=64,
            tie_word_embeddings=True,
        )
        config = BagelConfig.nano(vocab_size=64, llm_config=llm, latent_patch_size=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(config).eval()
    generator = seeded(0)
    with torch.no_grad():
        for weight in model.parameters():  # nothing zero, nothing equal to its neighbour
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def latents(model, seed, grid):
    return torch.randn(grid[0] * grid[1], model.config.latent_dim, generator=seeded(seed))


def image(model, seed, grid):
    """An image as it enters a context."""
    pixels = torch.rand(3, 16 * grid[0], 16 * grid[1], generator=seeded(seed)) * 2 - 1
    return [VaeImage(latent=latents(model, seed, grid), grid=grid), VitImage(pixels=pixels)]


@pytest.fixture(scope="module")
def samples(model):
    """Ragged, mixed contexts."""
    return [
        [Text(ids=[1, 2, 3])],
        [Text(ids=[7]), *image(model, 1, (3, 3)), Text(ids=[4, 5, 6, 7, 8, 9])],
        [Text(ids=[7, 8]), *image(model, 2, (2, 3)), Text(ids=[]), *image(model, 3, (3, 1))],
        [VitImage(pixels=torch.zeros(3, 16, 32)), Text(ids=[11, 12, 13, 14])],
    ]


GRIDS = [(3, 3), (2, 3), (3, 1), (1, 1)]


def one_by_one(model, items):
    contexts = Contexts(model, TOKENS)
    (row,) = contexts.open(1)
    hidden = [contexts.extend([row], [[item]])[0] for item in items]
    return contexts, row, torch.cat(hidden)


@torch.no_grad()
def ask(contexts, rows, grids, x):
    """Velocities under both text branches, (2, canvases, tokens, channels)."""
    branches = [[contexts.view(row) for row in rows], [contexts.base(row) for row in rows]]
    padded = torch.nn.utils.rnn.pad_sequence(x, batch_first=True)
    return Denoiser(contexts, branches, grids)(padded, torch.tensor(T))


def test_a_batch_of_ragged_contexts_equals_single_ones(model, samples, close):
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(4)
    hidden = contexts.extend(rows, samples)
    x = [latents(model, 9 + i, grid) for i, grid in enumerate(GRIDS)]
    v = ask(contexts, rows, GRIDS, x)
    for i, items in enumerate(samples):
        single, row, alone = one_by_one(model, items)
        close(hidden[i], alone)
        close(contexts.logits(rows)[i], single.logits([row])[0])
        assert contexts.mark(rows[i])[:4] == single.mark(row)[:4]
        want = ask(single, [row], [GRIDS[i]], [x[i]])[:, 0]
        close(v[:, i, : len(x[i])], want)
        assert not v[:, i, len(x[i]) :].any()


def test_incremental_contexts_equal_the_packed_forward(model, samples, close):
    x = [latents(model, 9 + i, grid) for i, grid in enumerate(GRIDS)]
    packed = []
    for items, state, grid in zip(samples, x, GRIDS, strict=True):
        last = max(i for i, item in enumerate(items) if isinstance(item, Text))
        base = last if last == len(items) - 1 else len(items)
        noisy = [StateImage(state=state, time=T, grid=grid, sees=sees) for sees in (None, base)]
        packed.append([*items, *noisy])
    with torch.no_grad():
        out = model(pack(packed, model.config, TOKENS))
    velocities = iter(out.velocity.split([len(state) for state in x for _ in range(2)]))
    for items, state, grid in zip(samples, x, GRIDS, strict=True):
        contexts, row, _ = one_by_one(model, items)
        for v in ask(contexts, [row], [grid], [state])[:, 0]:
            close(v, next(velocities))


def test_any_subset_may_be_extended_in_any_order(model, samples, close):
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(4)
    contexts.extend([rows[3], rows[1]], [samples[3], samples[1][:1]])
    contexts.extend([rows[2], rows[0], rows[1]], [samples[2], [], samples[1][1:]])
    contexts.extend([rows[0]], [samples[0]])
    together = Contexts(model, TOKENS)
    together.extend(together.open(4), samples)
    close(contexts.logits(rows), together.logits(rows))


def test_tokens_fed_one_by_one_equal_a_text_encoded_at_once(model, samples, close):
    texts = [[5, 6], [9], [3, 3, 3, 8]]
    contexts, want = Contexts(model, TOKENS), Contexts(model, TOKENS)
    for c in (contexts, want):
        c.extend(c.open(4), samples)
    chosen = [3, 0, 2]
    want.extend(chosen, [[Text(ids=ids)] for ids in texts])
    decoder = Decoder(contexts, chosen)
    fed = [[60, *ids, 61] for ids in texts]
    hidden, alive = {}, [0, 1, 2]
    for step in range(6):
        last = decoder.step(torch.tensor([fed[i][step] for i in alive]))
        hidden |= {i: last[place] for place, i in enumerate(alive) if step == len(fed[i]) - 1}
        going = [place for place, i in enumerate(alive) if step < len(fed[i]) - 1]
        if 0 < len(going) < len(alive):
            decoder.keep(going)
            alive = [alive[place] for place in going]
    decoder.close(chosen, [len(ids) for ids in fed], [hidden[i] for i in range(3)])
    close(contexts.logits(range(4)), want.logits(range(4)))
    x = [latents(model, 9 + i, grid) for i, grid in enumerate(GRIDS)]
    close(ask(contexts, range(4), GRIDS, x), ask(want, range(4), GRIDS, x))


def test_a_decoder_outgrows_its_room(model, samples, close):
    ids = np.random.default_rng(0).integers(0, 50, 150).tolist()
    contexts, want = Contexts(model, TOKENS), Contexts(model, TOKENS)
    for c in (contexts, want):
        c.extend(c.open(4), samples)
    want.extend([0, 2], [[Text(ids=ids)], [Text(ids=ids)]])
    decoder = Decoder(contexts, [0, 2])
    for token in [60, *ids, 61]:
        last = decoder.step(torch.tensor([token, token]))
    decoder.close([0, 2], [152, 152], list(last))
    close(contexts.logits([0, 2]), want.logits([0, 2]))


def test_a_cut_context_continues_as_if_the_rest_had_never_been(model, samples, close):
    contexts = Contexts(model, TOKENS)
    (row,) = contexts.open(1)
    contexts.extend([row], [samples[2][:1]])
    mark = contexts.mark(row)
    contexts.extend([row], [samples[2][1:]])
    contexts.cut(row, mark)
    contexts.extend([row], [[Text(ids=[1, 2])]])
    single, other, _ = one_by_one(model, [samples[2][0], Text(ids=[1, 2])])
    close(contexts.logits([row]), single.logits([other]))
    with pytest.raises(ValueError, match="Expected a mark within"):
        contexts.cut(row, contexts.mark(row)._replace(length=99))


def test_looking_does_not_change_a_context(model, samples, close):
    contexts, row, _ = one_by_one(model, samples[1])
    before = contexts.logits([row]), [k[row, : contexts.mark(row).length].clone() for k in contexts.cache.keys]
    x = [latents(model, 9, GRIDS[0])]
    close(ask(contexts, [row], GRIDS[:1], x), ask(contexts, [row], GRIDS[:1], x), 0)
    close(contexts.logits([row]), before[0], 0)
    for k, want in zip(contexts.cache.keys, before[1], strict=True):
        close(k[row, : len(want)], want, 0)


def test_closed_contexts_give_their_rows_and_at_last_their_memory_back(model, samples):
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(3)
    contexts.extend(rows, samples[:3])
    contexts.close(rows[1:2])
    assert contexts.open(2) == [rows[1], 3]
    contexts.close([0, 1, 2, 3])
    assert contexts.cache.num_rows == contexts.cache.capacity == 0


def test_what_cannot_be_asked_is_said(model):
    contexts = Contexts(model, TOKENS)
    (row,) = contexts.open(1)
    with pytest.raises(ValueError, match="at least one item"):
        contexts.logits([row])
    with pytest.raises(ValueError, match="encode them first"):
        contexts.extend([row], [[VaeImage(pixels=torch.zeros(3, 16, 16))]])


def test_bfloat16_is_close_to_float32(model, samples):
    half = copy.deepcopy(model).to(torch.bfloat16)
    x = [latents(model, 9 + i, grid) for i, grid in enumerate(GRIDS)]
    velocities, logits = [], []
    for each in (model, half):
        contexts = Contexts(each, TOKENS)
        rows = contexts.open(4)
        contexts.extend(rows, samples)
        velocities.append(ask(contexts, rows, GRIDS, x))
        logits.append(contexts.logits(rows))
        assert contexts.cache.keys[0].dtype == each.dtype and velocities[-1].dtype == torch.float32
    for want, got in (velocities, logits):  # measured: one to two percent
        assert (got - want).norm() / want.norm() < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(model, samples, close):
    there = copy.deepcopy(model).cuda()
    x = [latents(model, 9 + i, grid) for i, grid in enumerate(GRIDS)]
    velocities, logits = [], []
    for each in (model, there):
        contexts = Contexts(each, TOKENS)
        rows = contexts.open(4)
        contexts.extend(rows, samples)
        velocities.append(ask(contexts, rows, GRIDS, [state.to(each.device) for state in x]).cpu())
        logits.append(contexts.logits(rows).cpu())
    close(*velocities, 1e-3)
    close(*logits, 1e-3)
