"""Packing: rows, visibility, losses, and what a wrong item gets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strokes.agents.bagel import (
    Bagel,
    BagelConfig,
    Dropped,
    NoisyImage,
    StateImage,
    Text,
    TokenIds,
    VaeImage,
    VitImage,
    pack,
)
from strokes.agents.bagel.attention import FlexAttention, PackedAttention, may_attend

IDS = TokenIds(bos_token_id=0, eos_token_id=1, start_of_image=2, end_of_image=3)
CONFIG = BagelConfig.nano(vocab_size=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Bagel(CONFIG).eval()
    torch.nn.init.normal_(model.llm2vae.weight, std=0.1)
    return model


def latent(seed, tokens=9):
    return torch.randn(tokens, CONFIG.latent_dim, generator=torch.Generator().manual_seed(seed))


def pixels(seed):
    return torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def drawing(seed, rounds=2):
    """A prompt, then per round a plan, two noisy copies, the clean image and an inspection."""
    rng = np.random.default_rng(seed)
    items = [Text(ids=rng.integers(4, 32, 5))]
    for k in range(rounds):
        z = latent(seed + k)
        items += [
            Text(ids=rng.integers(4, 32, 3 + k), loss=True, switch=2),
            NoisyImage(latent=z, t=0.3),
            NoisyImage(latent=z, t=-1.0, sees=1),
            VaeImage(latent=z),
            VitImage(pixels=pixels(seed + k), switch=0),
            Text(ids=rng.integers(4, 32, 2), loss=True),
        ]
    return items


def outputs(model, packed):
    """Losses per token with noise that depends on nothing but the token's place."""
    noise = torch.randn(len(packed.latents), CONFIG.latent_dim, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return model(packed, flow_noise=noise)


def test_binned_rows_equal_one_row(model):
    samples = [drawing(0), drawing(10, 1), drawing(20, 3), drawing(30, 1)]
    one = pack(samples, CONFIG, IDS)
    binned = pack(samples, CONFIG, IDS, row_length=200)
    assert one.rows.shape[0] == 1 and binned.rows.shape[0] > 1 and binned.rows.shape[1] <= 200
    assert sorted(binned.rows[binned.rows >= 0].tolist()) == list(range(len(binned.positions)))
    a, b = outputs(model, one), outputs(model, binned)
    assert torch.allclose(a.hidden, b.hidden, atol=1e-5)
    assert torch.allclose(a.ce, b.ce, atol=1e-5) and torch.allclose(a.mse, b.mse, atol=1e-5)


def test_long_and_short_rows_attend_as_one_row_does(model):
    samples = [drawing(0, 6), drawing(10, 1), [Text(ids=[7, 8, 9], loss=True)], drawing(30, 1)]
    one, mixed = pack(samples, CONFIG, IDS), pack(samples, CONFIG, IDS, row_length=64)
    assert len(PackedAttention(mixed).groups) > 1
    a, b = outputs(model, one), outputs(model, mixed)
    assert torch.allclose(a.hidden, b.hidden, atol=1e-5) and torch.allclose(a.mse, b.mse, atol=1e-5)


def test_samples_do_not_see_each_other(model):
    alone = outputs(model, pack([drawing(10, 1)], CONFIG, IDS))
    together = outputs(model, pack([drawing(10, 1), drawing(0)], CONFIG, IDS))
    assert torch.allclose(alone.ce, together.ce[: len(alone.ce)], atol=1e-5)
    assert torch.allclose(alone.mse, together.mse[: len(alone.mse)], atol=1e-5)


@pytest.mark.parametrize("sees", range(6))
def test_a_copy_that_sees_k_items_is_a_sample_without_the_others(model, sees):
    """The state of guidance's text-unconditional context: same positions, same keys, nothing hidden leaks."""
    items = drawing(0, 1)
    context = [*items[:2], *items[4:6], items[6]]
    noisy = NoisyImage(latent=latent(7), t=0.5)
    full = pack([[*context, replace(noisy, sees=sees)]], CONFIG, IDS)
    short = pack([[*context[:sees], noisy]], CONFIG, IDS)
    noise = torch.randn(9, CONFIG.latent_dim)

    def velocity(packed):
        flow = torch.zeros(len(packed.latents), CONFIG.latent_dim)
        flow[packed.noisy] = noise
        with torch.no_grad():
            return model(packed, flow_noise=flow).velocity

    assert torch.allclose(velocity(full), velocity(short), atol=1e-5)


def test_noisy_copies_are_invisible(model):
    with_copies, without = drawing(0, 2), [x for x in drawing(0, 2) if not isinstance(x, NoisyImage)]
    a, b = pack([with_copies], CONFIG, IDS), pack([without], CONFIG, IDS)
    assert torch.allclose(outputs(model, a).ce, outputs(model, b).ce, atol=1e-5)
    places = {i for i, k in enumerate(a.visibility.visible.tolist()) if k < 0}
    kept = [i for i in a.rows[0].tolist() if i not in places]
    assert a.positions[kept].tolist() == b.positions[b.rows[0]].tolist()


def test_a_state_at_a_known_time_replays_the_noised_image(model):
    z, noise = latent(0), latent(1)
    target = pack([[Text(ids=[5, 6]), NoisyImage(latent=z, t=0.4)]], CONFIG, IDS)
    t = target.times[0].item()
    state = pack([[Text(ids=[5, 6]), StateImage(state=(1 - t) * z + t * noise, time=t)]], CONFIG, IDS)
    with torch.no_grad():
        a, b = model(target, flow_noise=noise), model(state)
    assert torch.allclose(a.velocity, b.velocity, atol=1e-5)
    assert len(b.mse) == 0 and b.mse_loss == 0


def test_states_and_targets_mix(model):
    items = [Text(ids=[5]), StateImage(state=latent(0), time=0.5), NoisyImage(latent=latent(1), t=0.0)]
    out = outputs(model, pack([items], CONFIG, IDS))
    assert out.velocity.shape == (18, CONFIG.latent_dim) and out.mse.shape == (9,)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_sdpa():
    packed = pack([drawing(0, 1), drawing(10, 1)], CONFIG, IDS, row_length=120)
    q = torch.randn(len(packed.positions), 4, 16)
    k, v = torch.randn(2, len(packed.positions), 2, 16)
    sdpa, flex = PackedAttention(packed)(0, q, k, v), FlexAttention(packed)(0, q, k, v)
    assert torch.allclose(sdpa, flex, atol=1e-5)


def test_rows_pass_gradients_as_indexing_does():
    packed = pack([drawing(0, 1), drawing(10, 2)], CONFIG, IDS, row_length=160)
    q, k, v = (torch.randn(len(packed.positions), 2, 8, requires_grad=True) for _ in range(3))
    grad = torch.randn(len(packed.positions), 2, 8)
    got = torch.autograd.grad(PackedAttention(packed)(0, q, k, v), (q, k, v), grad)
    mask = torch.full((len(q), len(q)), False)
    rows, allowed = packed.rows, may_attend(packed)
    for r in range(len(rows)):
        used = rows[r] >= 0
        mask[rows[r][used][:, None], rows[r][used]] = allowed[r][used][:, used]
    scores = torch.einsum("ihd,jhd->hij", q, k) / 8**0.5
    out = torch.einsum("hij,jhd->ihd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v)
    for a, b in zip(got, torch.autograd.grad(out, (q, k, v), grad), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


# Losses ---------------------------------------------------------------------------------------------


def test_losses_are_predicted_where_they_should_be():
    items = [
        Text(ids=[5, 6, 7], loss=[False, True, False, True], switch=2, weight=0.5, switch_weight=3.0),
        VaeImage(latent=latent(0)),
        VitImage(pixels=pixels(0), switch=0),
    ]
    packed = pack([items], CONFIG, IDS)
    assert packed.slots[packed.ce.index].tolist() == [1, 3, 4, len(packed.positions) - 1]
    assert packed.ce.labels.tolist() == [6, 1, 2, 0]
    assert packed.ce.weights.tolist() == [0.5, 0.5, 3.0, 1.0]
    assert packed.ce.balance.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_weights_and_counts_scale_the_losses(model):
    weights = torch.linspace(0, 2, 9)
    items = [Text(ids=[5, 6], loss=True, weight=2.0), NoisyImage(latent=latent(0), t=0.1, weight=weights)]
    packed = pack([items], CONFIG, IDS)
    noise = latent(3)
    with torch.no_grad():
        out, halved = (model(packed, flow_noise=noise, ce_weight=0.5, counts=c) for c in (None, (6.0, 18.0)))
    assert torch.isclose(out.ce_loss, 2 * out.ce.mean()) and torch.isclose(out.mse_loss, (out.mse * weights).mean())
    assert torch.isclose(out.loss, 0.5 * out.ce_loss + out.mse_loss)
    assert torch.isclose(halved.loss, out.loss / 2)


def test_timesteps_are_drawn_from_the_generator_and_shifted():
    samples = [[Text(ids=[5]), NoisyImage(latent=latent(0)), NoisyImage(latent=latent(0))]] * 50
    a, b = (pack(samples, CONFIG, IDS, rng=np.random.default_rng(3)).times for _ in range(2))
    assert torch.equal(a, b) and len(a.unique()) == 100
    raw = torch.sigmoid(torch.from_numpy(np.random.default_rng(3).standard_normal(100))).float()
    assert torch.allclose(a, CONFIG.timestep_shift * raw / (1 + (CONFIG.timestep_shift - 1) * raw))


def test_images_given_as_pixels_or_as_latents_are_the_same(model):
    x = pixels(4)
    with torch.no_grad():
        z = model.encode_images(x[None])[0]
    a = pack([[VaeImage(pixels=x), NoisyImage(pixels=x, t=0.0)]], CONFIG, IDS)
    b = pack([[VaeImage(latent=z), NoisyImage(latent=z, t=0.0)]], CONFIG, IDS)
    assert torch.allclose(outputs(model, a).hidden, outputs(model, b).hidden, atol=1e-5)


def test_text_alone_and_images_alone(model):
    for items in ([Text(ids=[5, 6], loss=True)], [NoisyImage(latent=latent(0), t=0.0)], [VitImage(pixels=pixels(0))]):
        out = outputs(model, pack([items], CONFIG, IDS))
        assert out.loss.isfinite() and out.hidden.isfinite().all()


# Bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([Dropped()], "at least one item"),
        ([VaeImage()], "exactly one of latent and pixels"),
        ([NoisyImage(latent=latent(0))], "Expected rng"),
        ([NoisyImage(latent=latent(0), t=0.0, sees=1)], "sees in 0..0"),
        ([VaeImage(latent=latent(0, 8))], "grid="),
        ([VaeImage(latent=torch.zeros(9, 5))], "Expected latents"),
        ([Text(ids=[5, 6], loss=[True])], "3 loss flags"),
        ([VitImage(pixels=torch.zeros(3, 40, 48))], "divisible by 16"),
    ],
)
def test_a_malformed_item_is_refused(items, message):
    with pytest.raises(ValueError, match=message):
        pack([items], CONFIG, IDS, row_length=50)
