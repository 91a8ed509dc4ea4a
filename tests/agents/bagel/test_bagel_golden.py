"""Parity with the official BAGEL: tokenizer, transforms, embeddings, autoencoder, image encoder, training."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from strokes.agents.bagel import (
    Dropped,
    ImageTransform,
    NoisyImage,
    Text,
    VaeImage,
    VitImage,
    pack,
)
from strokes.agents.bagel.attention import may_attend
from strokes.agents.bagel.embeddings import (
    PositionEmbedding,
    TimestepEmbedder,
    grid_position_ids,
    patchify,
    sincos_table,
    unpatchify,
)
from strokes.agents.bagel.transforms import to_pixels


def picture(array):
    return Image.fromarray(array.numpy())


def same(got, want):
    return torch.equal(torch.as_tensor(got), want)


# Tokenizer and transforms ---------------------------------------------------------------------------


def test_token_ids_are_the_official_ones(golden):
    case = golden.case("tok").params
    assert golden.tokenizer.num_added == case["num_new_tokens"]
    assert len(golden.tokenizer) == case["len_tokenizer"]
    ids = golden.tokenizer.ids
    assert {name: getattr(ids, name) for name in case["token_ids"]} == case["token_ids"]
    for example in case["examples"]:
        assert golden.tokenizer.encode(example["text"]) == example["ids"], example["text"]


def test_sizes_after_resizing_are_the_official_ones(golden):
    for row in golden.case("tf").params["size_table"]:
        transform = ImageTransform(*row["args"], max_pixels=row["max_pixels"])
        assert transform.size(row["w"], row["h"], row["img_num"]) == (row["out_w"], row["out_h"]), row


def test_pixels_after_resizing_are_the_official_ones(golden, close):
    case, i = golden.case("tf"), 0
    while f"img{i}_u8" in case:
        image = picture(case[f"img{i}_u8"])
        resized = golden.vae_transform.resize(image)
        want = case[f"img{i}_vae_u8"]
        assert same(np.array(resized), want)
        close(golden.vae_transform(image), case[f"img{i}_vae"])
        close(golden.vit_transform(image), case[f"img{i}_vit"])
        close(golden.vit_transform(resized), case[f"img{i}_vae_vit"])
        i += 1
    assert i


# Embeddings -----------------------------------------------------------------------------------------


def test_grid_position_ids_are_the_official_ones(golden):
    case = golden.case("pos")
    for key, spec in case.specs.items():
        if key.removeprefix("pos.").startswith(("extrapolate", "interpolate")):
            h, w, patch, side = map(int, re.findall(r"\w+=(\d+)", spec["desc"]))
            got = grid_position_ids(h // patch, w // patch, side, interpolate="interpolate" in key)
            assert same(got.copy(), case[key.removeprefix("pos.")]), spec["desc"]


def test_position_table_and_timesteps_are_the_official_ones(golden, close):
    case = golden.case("pos")
    want = case["table_rows"]
    side, width = round(len(want) ** 0.5), want.shape[1]
    close(torch.from_numpy(sincos_table(side, width)), want)
    table = PositionEmbedding(side, width)
    table.reset()
    close(table(torch.arange(len(want))), want)
    close(TimestepEmbedder.features(case["t"]), case["t_freq"])
    close(golden.model.time_embedder(case["t"]), case["t_emb"])


# Autoencoder and image encoder ----------------------------------------------------------------------


@torch.no_grad()
def test_autoencoder(golden, close):
    case, model = golden.case("a_vae"), golden.model
    x, patch = case["x"], golden.config.latent_patch_size
    close(to_pixels(case["image_u8"].numpy())[None], x)
    close(torch.cat(model.vae.moments(x), dim=1), case["moments"])
    close(model.vae.encode(x), case["z_mean"])
    close(model.vae.encode(x, noise=case["noise"]), case["z_sample"])
    tokens = model.encode_images(x, noise=case["noise"])
    close(tokens[0], case["z_sample_patched"])
    stride = golden.config.latent_stride
    close(unpatchify(tokens, patch, (x.shape[2] // stride, x.shape[3] // stride)), case["z_sample"])
    size = (x.shape[2], x.shape[3])
    close(model.decode_latents(tokens, size), case["decoded"])
    decoded = model.decode_latents(patchify(case["z_rand"], patch), size)
    close(decoded, case["decoded_rand"])
    levels = (model.to_uint8(decoded)[0].int() - case["decoded_rand_u8"].int()).abs()
    assert levels.max() <= 1 and (levels > 0).float().mean() < 1e-3


@torch.no_grad()
def test_image_encoder_alone_and_packed(golden, close):
    case, model, patch = golden.case("b_vit"), golden.model, golden.config.vit_config.patch_size
    images, i = [], 0
    while f"img{i}_u8" in case:
        image = to_pixels(case[f"img{i}_u8"].numpy())
        images.append(image)
        tokens = patchify(image[None], patch)[0]
        close(tokens, case[f"img{i}_tokens"])
        ids = case[f"img{i}_pos"]
        assert same(
            grid_position_ids(
                image.shape[1] // patch, image.shape[2] // patch, golden.config.vit_max_num_patch_per_side
            ).copy(),
            ids,
        )
        close(model.vit_model.vision_model.embeddings(tokens, ids), case[f"img{i}_emb"])
        features = model.vit_model(tokens, ids, [len(ids)])
        close(features, case[f"img{i}_feat"])
        close(model.connector(features), case[f"img{i}_conn"])
        close(model.embed_vit([image]), case[f"img{i}_out"])
        i += 1
    close(model.embed_vit(images), torch.cat([case[f"img{k}_out"] for k in range(i)]))


# Training -------------------------------------------------------------------------------------------


def samples_of(golden, *, dropped=False):
    """The two samples of the training case, as its parameters describe them."""
    case = golden.case("i_train")
    images = [picture(case[f"img{i}_u8"]) for i in range(3)]
    vae, vit = [golden.vae_transform(x) for x in images], [golden.vit_transform(x) for x in images]
    ids = {k: golden.tokenizer.encode(v) for k, v in case.params.items() if k.startswith(("prompt_", "inter_text"))}
    raw = case["timesteps_raw"]
    times = raw[raw.isfinite()].unique_consecutive().tolist()
    switch = golden.tokenizer.ids.start_of_image

    def context(i):
        return [Dropped(), Dropped()] if dropped else [VaeImage(pixels=vae[i]), VitImage(pixels=vit[i])]

    first = [
        *context(0),
        Text(ids=ids["prompt_edit"]),
        Text(ids=ids["inter_text1"], loss=True, switch=switch),
        NoisyImage(pixels=vae[1], t=times[0]),
    ]
    second = [
        Text(ids=ids["prompt_t2i"]),
        NoisyImage(pixels=vae[2], t=times[1]),
        *context(2),
        Text(ids=ids["prompt_und"]),
        Text(ids=ids["prompt_txt"], loss=True),
    ]
    return [first, second]


@pytest.fixture(scope="module")
def packed(golden):
    return pack(samples_of(golden), golden.config, golden.tokenizer.ids)


def test_packing_is_the_official_one(golden, packed, close):
    case = golden.case("i_train")
    order, text = packed.rows[0], len(packed.text_ids)
    und = text + len(packed.vit_patches)
    assert len(order) == case.params["sequence_length"]
    assert same(packed.text_ids, case["packed_text_ids"])
    assert same(packed.slots[:text], case["packed_text_indexes"])
    assert same(packed.slots[text:und], case["packed_vit_token_indexes"])
    assert same(packed.slots[und:], case["packed_vae_token_indexes"])
    assert same(packed.positions[order], case["packed_position_ids"])
    assert same(packed.vit_position_ids, case["packed_vit_position_ids"])
    assert same(packed.latent_position_ids, case["packed_latent_position_ids"])
    assert list(packed.vit_lengths) == case["vit_token_seqlens"].tolist()
    assert same(packed.slots[packed.ce.index], case["ce_loss_indexes"])
    assert same(packed.ce.labels, case["packed_label_ids"])
    assert same(packed.slots[und:][packed.noisy], case["mse_loss_indexes"])
    assert [span[1:] for span in packed.pixel_spans] == [tuple(x) for x in case.params["patchified_vae_latent_shapes"]]
    close(packed.vit_patches, case["packed_vit_tokens"])
    close(packed.ce.balance, case["ce_loss_weights"])
    close(packed.times[packed.latent_image], case["timesteps"])


def test_visibility_is_the_official_mask(golden, packed):
    case = golden.case("i_train")
    masks = [case[f"mask{i}"] for i in range(len(case.params["sample_lens"]))]
    assert same(may_attend(packed)[0], torch.block_diag(*masks).bool())


def test_dropped_images_leave_one_position(golden):
    case = golden.case("i_pack_drop")
    got = pack(samples_of(golden, dropped=True), golden.config, golden.tokenizer.ids)
    text = len(got.text_ids)
    assert same(got.text_ids, case["packed_text_ids"])
    assert same(got.slots[:text], case["packed_text_indexes"])
    assert same(got.positions[got.rows[0]], case["packed_position_ids"])
    assert same(got.slots[text:], case["packed_vae_token_indexes"])
    assert same(got.ce.labels, case["packed_label_ids"])
    assert same(got.slots[got.ce.index], case["ce_loss_indexes"])
    assert same(got.slots[text:][got.noisy], case["mse_loss_indexes"])


@pytest.fixture(scope="module")
def trained(golden, packed):
    """(input embeddings, output, gradients) of the training step."""
    case, model = golden.case("i_train"), golden.model
    seen = []
    hook = model.language_model.model.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.zero_grad()
    model.train()
    out = model(packed, flow_noise=case["flow_noise"], vae_noise=case["vae_noise"])
    out.loss.backward()
    hook.remove()
    grads = {k: p.grad for k, p in model.named_parameters() if not k.startswith("vae.")}
    model.eval()
    model.zero_grad()
    return seen[0], out, grads


def test_training_forward_and_losses(golden, packed, trained, close):
    case, (embeddings, out, _) = golden.case("i_train"), trained
    order = packed.rows[0]
    images = case["padded_images"]
    close(golden.model.vae.encode(images, noise=case["vae_noise"]), case["padded_latent"])
    close(embeddings[order], case["packed_sequence"])
    close(out.hidden[order], case["last_hidden"])
    close(out.velocity, case["velocity_pred"])
    close(out.ce, case["ce_per_token"])
    close(out.mse, case["mse_per_token"])
    close(torch.stack([out.ce_loss, out.mse_loss, out.loss]), case["losses"][:3])


def test_reweighted_cross_entropy(golden, packed, close):
    case = golden.case("i_train")
    with torch.no_grad():
        out = golden.model(packed, flow_noise=case["flow_noise"], vae_noise=case["vae_noise"], reweight_ce=True)
    close(out.ce_loss, case["losses"][3])


def test_training_gradients(golden, trained, close):
    case, (_, _, grads) = golden.case("i_train"), trained
    for name, want in case.params["grad_norms"].items():
        assert grads[name].norm().item() == pytest.approx(want, rel=1e-5), name
    total = torch.stack([g.norm() for g in grads.values() if g is not None]).norm().item()
    assert total == pytest.approx(case.params["total_grad_norm"], rel=1e-5)
    assert {k for k, g in grads.items() if g is None} == set(case.params["params_without_grad"])
    for key in case.specs:
        name = key.removeprefix("i_train.")
        if name.startswith("grad."):
            close(grads[name.removeprefix("grad.")], case[name])
