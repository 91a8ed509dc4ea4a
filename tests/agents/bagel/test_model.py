"""The model apart from parity: routing, initialisation, checkpointing, precision, adapters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strokes.agents.bagel import Bagel, BagelConfig, NoisyImage, Text, TokenIds, VaeImage, VitImage, pack
from strokes.agents.bagel.layers import RMSNorm, Routing

IDS = TokenIds(bos_token_id=0, eos_token_id=1, start_of_image=2, end_of_image=3)
CONFIG = BagelConfig.nano(vocab_size=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Bagel(CONFIG).eval()
    torch.nn.init.normal_(model.llm2vae.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def packed():
    z, x = torch.randn(2, 9, CONFIG.latent_dim), torch.rand(3, 48, 48) * 2 - 1
    sample = [
        Text(ids=[5, 6, 7], loss=True, switch=2),
        NoisyImage(latent=z[0], t=0.2),
        VaeImage(latent=z[0]),
        VitImage(pixels=x, switch=0),
        Text(ids=[8, 9], loss=True),
        NoisyImage(latent=z[1], t=-0.5),
    ]
    return pack([sample, sample[:2]], CONFIG, IDS)


def causal(layer, q, k, v):
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1)


def test_any_order_of_experts_gives_the_same_result(model):
    """Tokens in the order of the sequence against tokens sorted by expert."""
    hidden, positions = torch.randn(12, 64), torch.arange(12)
    gen = torch.tensor([2, 3, 7, 8, 9])
    und = torch.tensor([0, 1, 4, 5, 6, 10, 11])
    order = torch.cat([und, gen])
    inverse = torch.argsort(order)

    def attend(layer, q, k, v):
        return causal(layer, *(x[inverse] for x in (q, k, v)))[order]

    core = model.language_model.model
    plain = core(hidden, positions, Routing(und, gen), causal)
    routing = Routing(torch.arange(7), torch.arange(7, 12), ordered=True)
    assert torch.allclose(core(hidden[order], positions[order], routing, attend)[inverse], plain, atol=1e-5)
    one = core(hidden, positions, Routing(torch.arange(12), torch.arange(0)), causal)
    assert torch.allclose(one[:2], plain[:2], atol=1e-5) and not torch.allclose(one[4:], plain[4:], atol=1e-2)
    only_gen = core(hidden, positions, Routing(torch.arange(0), torch.arange(12)), causal)
    assert only_gen.shape == one.shape and not torch.allclose(only_gen, one, atol=1e-2)


def test_norm_has_the_gradient_of_its_formula():
    torch.manual_seed(0)
    norm = RMSNorm(8, 1e-3).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(5, 3, 8, requires_grad=True)
    grad = torch.randn(5, 3, 8)
    norm = norm.float()
    want = norm.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3))
    inputs = (x, norm.weight)
    assert torch.allclose(norm(x), want, atol=1e-6)
    for a, b in zip(torch.autograd.grad(norm(x), inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_gradient_checkpointing_changes_nothing_but_memory(packed):
    torch.manual_seed(0)
    model = Bagel(CONFIG).train()
    noise = torch.randn(len(packed.latents), CONFIG.latent_dim)
    grads = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.activation_checkpointing_enable()
        out = model(packed, flow_noise=noise)
        out.loss.backward()
        grads.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    assert model.language_model.model.gradient_checkpointing
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][k], grads[1][k], atol=1e-6) for k in grads[0])


def test_a_fresh_model_predicts_no_velocity_and_uniform_words(packed):
    torch.manual_seed(0)
    model = Bagel(CONFIG)
    out = model(packed)
    assert (out.velocity == 0).all()
    layer, std = model.language_model.model.layers[0], CONFIG.llm_config.initializer_range
    assert layer.self_attn.q_proj_moe_gen.weight.std().item() == pytest.approx(std, rel=0.1)
    assert layer.mlp_moe_gen.down_proj.weight.std().item() == pytest.approx(std / 8**0.5, rel=0.1)
    assert out.ce.mean().item() == pytest.approx(np.log(32), abs=0.5)
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad and not k.startswith("vae.")}
    assert frozen == {"latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed"}
    assert not any(p.requires_grad for p in model.vae.parameters())


def test_a_step_of_training_lowers_the_loss(packed):
    torch.manual_seed(0)
    model = Bagel(CONFIG).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    noise = torch.randn(len(packed.latents), CONFIG.latent_dim)
    losses = []
    for _ in range(15):
        loss = model(packed, flow_noise=noise).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_half_precision_stays_close(model, packed):
    noise = torch.randn(len(packed.latents), CONFIG.latent_dim)
    with torch.no_grad():
        full = model(packed, flow_noise=noise)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(packed, flow_noise=noise)
    assert half.loss.dtype == torch.float32
    assert torch.allclose(full.loss, half.loss, rtol=0.02)


def test_a_model_of_other_sizes_in_bfloat16():
    """Grouped heads, a tied head, erf activations, images that are not square, pixels encoded inside."""
    config = BagelConfig(
        llm_config=dict(
            hidden_size=96,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            vocab_size=64,
            rms_norm_eps=5e-3,
            tie_word_embeddings=True,
        ),
        vit_config=dict(
            hidden_size=60, intermediate_size=80, num_attention_heads=3, num_hidden_layers=3, image_size=280
        ),
        vae_config=dict(ch=32, ch_mult=[1, 1, 1, 1], z_channels=8, scale_factor=0.5, shift_factor=0.05),
        max_latent_size=12,
        vit_max_num_patch_per_side=20,
        connector_act="gelu",
    )
    torch.manual_seed(0)
    model = Bagel(config).eval()
    vae, vit = torch.rand(3, 48, 80) * 2 - 1, torch.rand(3, 42, 84) * 2 - 1
    items = [VaeImage(pixels=vae), VitImage(pixels=vit), Text(ids=[5, 6], loss=True), NoisyImage(pixels=vae, t=0.1)]
    packed = pack([items, [Text(ids=[7]), NoisyImage(pixels=vae[:, :32, :32], t=0.1)]], config, IDS)
    assert [span[1:] for span in packed.pixel_spans] == [(3, 5), (3, 5), (2, 2)]
    noise = torch.randn(len(packed.latents), config.latent_dim)
    with torch.no_grad():
        full = model(packed, flow_noise=noise)
        half = model.to(torch.bfloat16)(packed, flow_noise=noise)
    assert half.hidden.dtype == torch.bfloat16 and half.loss.dtype == torch.float32
    assert torch.allclose(full.loss, half.loss, rtol=0.05)
    assert "language_model.lm_head.weight" not in dict(model.named_parameters())


def test_a_seed_decides_the_noise(model, packed):
    with torch.no_grad():
        a, b, c = (model(packed, generator=torch.Generator().manual_seed(s)).mse for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@torch.no_grad()
def test_latents_of_the_mean_and_of_samples(model):
    images = torch.rand(2, 3, 48, 32) * 2 - 1
    mean = model.encode_images(images)
    assert mean.shape == (2, 6, CONFIG.latent_dim)
    seeds = [torch.Generator().manual_seed(s) for s in (1, 1, 2)]
    a, b, c = (model.encode_images(images, g, "sample") for g in seeds)
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, mean)
    assert model.decode_latents(mean, (48, 32)).shape == images.shape
    with pytest.raises(ValueError, match="Expected 3 x 3 = 9 tokens"):
        model.decode_latents(mean, (48, 48))


def test_pixels_are_truncated_to_bytes():
    x = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0])[None, :, None].expand(3, 6, 1)
    assert Bagel.to_uint8(x)[:, 0, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_adapters_wrap_the_model(model, packed):
    peft = pytest.importorskip("peft")
    names = ["q_proj", "v_proj", "q_proj_moe_gen", "v_proj_moe_gen"]
    pattern = rf"language_model\..*\.({'|'.join(names)})"
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=pattern))
    trainable = {k for k, p in wrapped.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * len(names) * CONFIG.llm_config.num_hidden_layers
    noise = torch.randn(len(packed.latents), CONFIG.latent_dim)
    with torch.no_grad(), wrapped.disable_adapter():
        plain = wrapped(packed, flow_noise=noise).loss
    out = wrapped(packed, flow_noise=noise)
    assert torch.allclose(out.loss, plain)  # a fresh adapter adds nothing
    out.loss.backward()
    assert all(p.grad is not None for p in wrapped.parameters() if p.requires_grad)
    assert wrapped.unload() is not None


def test_the_embeddings_of_both_ends_are_named(model):
    """accelerate shards them apart; transformers' own search for the first ones knows no model of this shape."""
    vocabulary = model.config.llm_config.vocab_size
    assert torch.equal(model.get_input_embeddings()(torch.arange(4)), model.embed_text(torch.arange(4)))
    assert model.get_output_embeddings().weight.shape == model.get_input_embeddings().weight.shape
    assert len(model.get_input_embeddings().weight) == vocabulary


def test_presets_have_the_sizes_they_claim():
    def count(config):
        with torch.device("meta"):
            return sum(p.numel() for k, p in Bagel(config).named_parameters() if not k.startswith("vae."))

    tiny, nano = count(BagelConfig.tiny()), count(BagelConfig.nano())
    assert 2e6 < tiny < 4e6 and 0.1 < nano / tiny < 0.3


def test_a_configuration_survives_json():
    config = BagelConfig.tiny(vocab_size=77, timestep_shift=4.0)
    again = BagelConfig(**config.to_dict())
    assert again.to_dict() == config.to_dict() and again.llm_config == config.llm_config
    with pytest.raises(ValueError, match="vit_max_num_patch_per_side"):
        BagelConfig.tiny(vit_max_num_patch_per_side=5)
