"""Inference against the official BAGEL: schedules, contexts, text, velocities, guidance, pictures.

Names, sizes and parameters come from the manifest, so that another golden set passes through the same tests.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from strokes.agents.bagel import flow
from strokes.agents.bagel.context import Contexts, View
from strokes.agents.bagel.embeddings import patchify
from strokes.agents.bagel.inferencer import Inferencer, infer
from strokes.agents.bagel.items import Text
from strokes.agents.bagel.queries import Decoder, Denoiser
from strokes.agents.bagel.sample import Sampling

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[2] / "golden")
CASES = json.loads((GOLDEN / "bagel" / "manifest.json").read_text())["cases"]
DRAWN = [name for name in CASES if name.startswith("f_t2i")]
EDITED = [name for name in CASES if name.startswith("g_edit")]


@pytest.fixture
def begin(golden):
    """A function that begins an input."""
    return lambda: Inferencer(golden.model, golden.tokenizer, (golden.vae_transform, golden.vit_transform))


@pytest.fixture
def replay():
    """A function that makes a source of noise out of given tensors, checking that the shapes asked for agree."""

    def source(*tensors):
        rest = iter(tensors)

        def draw(shape):
            tensor = next(rest)
            assert tuple(tensor.shape) == tuple(shape)
            return tensor

        return draw

    return source


def picture(tensor):
    return Image.fromarray(tensor.numpy())


def sampling(params):
    return Sampling(**{name: params[name] for name in Sampling.__dataclass_fields__ if name in params})


def times_of(case, prefix):
    """Times named in the keys of a case: ``v_t0.7`` is 0.7."""
    return {key.split(".", 1)[1]: float(key.rsplit("_t", 1)[1]) for key in case.specs if f".{prefix}_t" in key}


def check_cache(contexts, row, case, prefix, close):
    mark, cache = contexts.mark(row), contexts.cache
    layers = [layer for layer in range(len(cache.keys)) if f"{prefix}_k{layer}" in case]
    assert layers
    for layer in layers:
        close(cache.keys[layer][row, : mark.length], case[f"{prefix}_k{layer}"])
        close(cache.values[layer][row, : mark.length], case[f"{prefix}_v{layer}"])


def check_greedy(contexts, row, case, close):
    """Feed what is most probable, token by token; the context is as before afterwards."""
    want = case["greedy_ids"]
    decoder, got, logits = Decoder(contexts, [row]), [int(want[0])], []
    for _ in range(len(want) - 1):
        hidden = decoder.step(torch.tensor(got[-1:]))
        logits.append(contexts.model.logits(hidden)[0])
        got.append(int(logits[-1].argmax()))
    assert got == want.tolist()
    close(torch.stack(logits), case["greedy_logits"])


def check_path(sampled, case, params, close):
    path = sampled.paths[0]
    assert len(path) == params["num_function_evaluations"]
    close(torch.stack([path[0].x, *[step.x_next for step in path]]), case["x_all"])
    close(torch.tensor([step.t for step in path]), case["t_all"], 1e-6)
    if "v_all" in case:
        close(torch.stack([(s.x - s.x_next) / (s.t - s.t_next) for s in path]), case["v_all"])


def check_picture(golden, result, case, close):
    close(result.sampled.latents[0], patchify(case["latent"], golden.config.latent_patch_size)[0])
    size = result.image.shape[:2]
    if "image" in case:
        close(golden.model.decode_latents(result.sampled.latents[0][None], size), case["image"])
    apart = np.abs(result.image.astype(int) - case["image_u8"].numpy())
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3


def check_marks(run, params):
    full, texts = run.contexts.mark(run.full), run.contexts.mark(run.texts)
    assert (full.length, full.rope) == (params["gen_kv_len"], params["gen_rope"])
    assert (full.base_length, full.base_rope) == (params["cfg_text_kv_len"], params["cfg_text_rope"])
    assert (texts.length, texts.rope) == (params["cfg_img_kv_len"], params["cfg_img_rope"])


def test_schedule_is_the_official_one(golden, close):
    case = golden.case("sched")
    for key in case.specs:
        num, shift = key.removeprefix("sched.N").split("_shift")
        close(flow.schedule(int(num), float(shift)), case[key.removeprefix("sched.")], 1e-6)


@pytest.mark.parametrize("run", CASES["cfg"]["params"]["runs"], ids=lambda run: run["out"])
def test_guidance_combines_velocities_as_officially(golden, close, run):
    case = golden.case("cfg")
    for renorm in {run["cfg_renorm_type"], run["cfg_renorm_type"].replace("global", "pack")}:
        guided = flow.guide(
            case["v"],
            golden.tensors[run["v_text"]],
            case["v_img"],
            text_scale=run["cfg_text_scale"],
            img_scale=run["cfg_img_scale"],
            renorm=renorm,
            renorm_min=run["cfg_renorm_min"],
        )
        close(guided, golden.tensors[run["out"]])


def test_text_prefill_and_greedy_tokens(golden, begin, close):
    case, run = golden.case("c_text"), begin()
    hidden = run.contexts.extend([run.full], [[Text(ids=case["ids"].tolist()[1:-1])]])[0]
    close(golden.model.logits(hidden), case["logits"])
    assert golden.tokenizer.encode(case.params["text"]) == case["ids"].tolist()[1:-1]
    mark = run.contexts.mark(run.full)
    assert (mark.length, mark.rope) == (case.params["kv_len"], case.params["rope"])
    check_cache(run.contexts, run.full, case, "cache", close)
    check_greedy(run.contexts, run.full, case, close)


def test_understanding_an_image(golden, begin, close):
    case, run = golden.case("d_und"), begin()
    params = case.params
    run.add_image(picture(case["image_u8"]), None, is_seen_only=True)
    mark = run.contexts.mark(run.full)
    assert (mark.length, mark.rope) == (params["img_kv_len"], params["img_rope"])
    check_cache(run.contexts, run.full, case, "img_cache", close)
    before = mark
    run.add_text(params["text"])
    mark = run.contexts.mark(run.full)
    assert (mark.length, mark.rope) == (params["kv_len"], params["rope"])
    check_greedy(run.contexts, run.full, case, close)
    text, _ = run.write(len(case["greedy_ids"]))
    assert text == params["decoded_text"]
    run.contexts.cut(run.full, before)
    hidden = run.contexts.extend([run.full], [[Text(ids=case["ids"].tolist()[1:-1])]])[0]
    close(golden.model.logits(hidden), case["logits"])


def test_velocity_and_guided_velocity(golden, begin, close):
    case, run = golden.case("e_vel"), begin()
    run.add_text(case.params["text"])
    contexts, stride = run.contexts, golden.config.latent_stride
    grid = tuple(side // stride for side in case.params["hw"])
    denoiser = Denoiser(contexts, [[contexts.view(run.full)], [contexts.base(run.full)]], [grid])
    with torch.no_grad():
        for key, t in times_of(case, "v").items():
            close(denoiser(case["x_t"][None], torch.tensor(t))[0, 0], case[key])
            markers, latents = denoiser.hidden(case["x_t"][None], torch.tensor(t))
            hidden = torch.cat([markers[:1], latents[: len(case["x_t"])], markers[1:2]])
            close(hidden, case[key.replace("v_", "hidden_")])
        (uncond,) = [key.split(".", 1)[1] for key in case.specs if "v_uncond" in key]
        t = torch.tensor(float(uncond.rsplit("_t", 1)[1]))
        v, v_text = denoiser(case["x_t"][None], t)
    close(v_text[0], case[uncond])
    guided = [key.split(".", 1)[1] for key in case.specs if "v_cfg" in key]
    assert guided
    for key in guided:
        _, scale, renorm = key.split("_min")[0].split("_", 2)
        least = float(key.split("_min")[1].rsplit("_t", 1)[0])
        scale = float(scale.removeprefix("cfg"))
        got = flow.guide(v, v_text, None, text_scale=scale, img_scale=1.0, renorm=renorm, renorm_min=least)
        close(got[0], case[key])


def test_two_canvases_of_different_size_and_context_in_one_forward(golden, begin, close):
    case = golden.case("e_batch")
    contexts, stride = Contexts(golden.model, golden.tokenizer.ids), golden.config.latent_stride
    rows = contexts.open(len(case.params["texts"]))
    contexts.extend(rows, [[Text(ids=golden.tokenizer.encode(text))] for text in case.params["texts"]])
    grids = [(h // stride, w // stride) for h, w in case.params["hw"]]
    counts = [h * w for h, w in grids]
    x = torch.nn.utils.rnn.pad_sequence(case["x_t"].split(counts), batch_first=True)
    ((key, t),) = times_of(case, "v").items()
    with torch.no_grad():
        v = Denoiser(contexts, [[contexts.view(row) for row in rows]], grids)(x, torch.tensor(t))[0]
    close(torch.cat([part[:count] for part, count in zip(v, counts, strict=True)]), case[key])


@pytest.mark.parametrize("name", DRAWN)
def test_text_to_image(golden, begin, replay, close, name):
    case = golden.case(name)
    params = case.params
    noise = golden.tensors[params["init_noise"]]
    transforms = golden.vae_transform, golden.vit_transform
    result = infer(
        golden.model,
        golden.tokenizer,
        [params["text"]],
        replay(noise),
        sampling=sampling(params),
        size=tuple(params["image_shapes"]),
        transforms=transforms,
    )
    check_path(result.sampled, case, params, close)
    check_picture(golden, result, case, close)
    run = begin()
    run.add_text(params["text"])
    check_marks(run, params)


@pytest.mark.parametrize("name", EDITED)
def test_editing_an_image(golden, begin, replay, close, name):
    case, source = golden.case(name), golden.case("g_src")
    params, image = case.params, picture(source["image_u8"])
    assert np.array_equal(np.asarray(golden.vae_transform.resize(image)), source["image_resized_u8"].numpy())
    result = infer(
        golden.model,
        golden.tokenizer,
        [image, params["text"]],
        replay(source["vae_noise"], source["init_noise"]),
        sampling=sampling(params),
        transforms=(golden.vae_transform, golden.vit_transform),
    )
    check_path(result.sampled, case, params, close)
    check_picture(golden, result, case, close)
    run = begin()
    run.add_image(image, replay(source["vae_noise"]))
    run.add_text(params["text"])
    check_marks(run, params)
    if any("ctx_cache" in key for key in case.specs):
        check_cache(run.contexts, run.full, case, "ctx_cache", close)
    if "v0_cond" in case:
        contexts, stride = run.contexts, golden.config.latent_stride
        views = [[contexts.view(run.full)], [contexts.base(run.full)], [contexts.view(run.texts)]]
        grid = tuple(side // stride for side in params["image_hw"])
        with torch.no_grad():
            v = Denoiser(contexts, views, [grid])(source["init_noise"][None], torch.tensor(1.0))[:, 0]
        for branch, want in zip(v, ("cond", "cfg_text", "cfg_img"), strict=True):
            close(branch, case[f"v0_{want}"])


def test_interleaved_inputs(golden, begin, replay, close):
    case, run = golden.case("h_inter"), begin()
    params, contexts = case.params, run.contexts
    counters = iter(params["kv_len_and_rope_after_each_item"])
    for i, text in enumerate(params["texts"]):
        run.add_text(text)
        assert list(contexts.mark(run.full)[:2]) == next(counters)
        image = picture(case[f"img{i}_u8"])
        assert np.array_equal(np.asarray(golden.vae_transform.resize(image)), case[f"img{i}_resized_u8"].numpy())
        run.add_image(image, replay(case[f"img{i}_vae_noise"]))
        assert list(contexts.mark(run.full)[:2]) == next(counters)
    check_cache(contexts, run.full, case, "cache", close)
    check_greedy(contexts, run.full, case, close)
    ((key, t),) = times_of(case, "v").items()
    grid = tuple(side // golden.config.latent_stride for side in params["hw"])
    view = contexts.view(run.full)
    assert view == View(run.full, params["kv_len"], params["rope"])
    assert case["vel_position_ids"].unique().tolist() == [view.rope]
    with torch.no_grad():
        close(Denoiser(contexts, [[view]], [grid])(case["x_t"][None], torch.tensor(t))[0, 0], case[key])
    tail = contexts.extend([run.full], [[Text(ids=case["tail_ids"].tolist()[1:-1])]])[0]
    close(golden.model.logits(tail), case["tail_logits"])


def test_thinking_before_drawing(golden, begin, replay, close):
    case = golden.case("j_think")
    params = case.params
    result = infer(
        golden.model,
        golden.tokenizer,
        [params["text"]],
        replay(golden.tensors[params["init_noise"]]),
        thinks=True,
        max_tokens=params["max_think_token_n"],
        sampling=sampling(params),
        size=tuple(params["image_shapes"]),
        transforms=(golden.vae_transform, golden.vit_transform),
    )
    assert [golden.tokenizer.ids.bos_token_id, *result.decoded.ids] == case["think_ids"].tolist()
    assert result.text == params["think_text"]
    check_path(result.sampled, case, params, close)
    check_picture(golden, result, case, close)
    run = begin()
    run.add_text(params["system_prompt"])
    run.add_text(params["text"])
    run.add_text(result.text, is_thought=True)
    check_marks(run, params)
