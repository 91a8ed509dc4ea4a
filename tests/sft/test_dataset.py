"""Packs of a data set on disk: pure, whole, of the right images, refused where they do not fit the model."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import make_samples, write_data

from strokes.agents.bagel import BagelConfig, Tokenizer
from strokes.agents.bagel.items import NoisyImage, Text, VaeImage, VitImage
from strokes.agents.bagel.sequence import pack
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import GIVEN, Entry, Transcript
from strokes.sft import latents as latents_module
from strokes.sft import sources
from strokes.sft.collator import Collator, ImageTable, Picture, Words, from_transcript, images_of
from strokes.sft.cost import num_flops, num_tokens
from strokes.sft.dataset import Drawing, PackDataset
from strokes.sft.examples import Examples
from strokes.sft.packing import Packing
from strokes.sft.sources import Reading, open_source
from strokes.sft.store import DataSet, write_shard

AHEAD = Reading(view="process", latents="ahead", resize=False, on_bad="raise", cache=None)
FORWARD, FINAL = replace(AHEAD, latents="forward"), replace(AHEAD, view="final")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 40) / "multi_turn"


@pytest.fixture(scope="module")
def source(data, nano, tokenizer):
    return open_source("multi_turn", data, nano, tokenizer, AHEAD)[0]


def packs(source, nano, tokenizer, seed=0, drawing=None):
    drawing = drawing or Drawing(copies=2, drop_last_text=0.3, drop_all=0.1, changed_weight=2.0)
    packing = Packing([source.lengths(drawing.copies)], 1200, seed=seed)
    return PackDataset([source], packing, drawing, nano.config, tokenizer.ids, num=30, seed=seed, row_length=128)


def test_examples_as_arrays_are_the_examples(tokenizer, tmp_path):
    table = ImageTable()
    examples = [from_transcript(sample.transcript, tokenizer, table) for sample in make_samples(20)]
    examples.append((Picture(3, loss=False, context=True, before=0, switch=0), Words((), True, None)))
    found = Examples.of(examples)
    assert list(found) == examples
    assert [s.stage for e in found for s in e] == [s.stage for e in examples for s in e]
    assert found[-1] == examples[-1] and found[2:5] == examples[2:5]


def test_a_pack_is_a_pure_function_of_its_number(source, nano, tokenizer):
    one, other = packs(source, nano, tokenizer), packs(source, nano, tokenizer)
    for number in (17, 0, 29):
        a, b = one[number], other[number]
        assert a["seed"] == b["seed"] and torch.equal(a["pack"].text_ids, b["pack"].text_ids)
        assert torch.equal(a["pack"].times, b["pack"].times) and torch.equal(a["pack"].latents, b["pack"].latents)
        assert torch.equal(a["pack"].visibility.limit, b["pack"].visibility.limit), "condition dropout"
    assert one[0]["seed"] != one[1]["seed"] != packs(source, nano, tokenizer, seed=1)[1]["seed"]


def test_a_pack_holds_as_many_tokens_as_reckoned(source, nano, tokenizer):
    dataset = packs(source, nano, tokenizer)
    for number in range(5):
        batch = dataset[number]
        assert len(batch["pack"].positions) == batch["tokens"] <= 1200
        chosen = [source[k] for _, k in dataset.choices(number)]
        assert batch["flops"] == sum(num_flops(example, 2, nano.config) for example in chosen)


def test_only_the_asked_split_is_read(data, source, nano, tokenizer):
    validation = open_source("multi_turn", data, nano, tokenizer, AHEAD)[1]
    assert (len(source), len(validation)) == (36, 4)
    assert not {source.names[k] for k in source.rows} & {validation.names[k] for k in validation.rows}


def test_latents_ahead_are_those_of_the_model(data, source, nano):
    pixels = torch.stack([source.images.pixels(row) for row in range(5)])
    with torch.no_grad():
        expected = nano.encode_images(pixels)
    assert torch.allclose(torch.stack([source.images.clean(row)["latent"] for row in range(5)]), expected, atol=1e-4)


def test_images_are_encoded_once_however_many_ask(nano, tokenizer, tmp_path, monkeypatch):
    write_shard(tmp_path / "0.parquet", make_samples(5))
    DataSet(tmp_path)  # unpacked by one process at a time, which threads are not
    calls = []
    encode = latents_module._encode
    monkeypatch.setattr(latents_module, "_encode", lambda *args: (calls.append(1), encode(*args)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_source("a", tmp_path, nano, tokenizer, AHEAD)[0], range(4)))
    assert len(calls) == 1
    assert all(torch.equal(each.images.latents, found[0].images.latents) for each in found)


def test_another_autoencoder_has_latents_of_its_own(nano, tokenizer, tmp_path):
    write_shard(tmp_path / "0.parquet", make_samples(3))
    first = open_source("a", tmp_path, nano, tokenizer, AHEAD)[0].images.latents.clone()
    weight = nano.vae.kl.encoder.conv_out.bias
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(1.0)
        second = open_source("a", tmp_path, nano, tokenizer, AHEAD)[0].images.latents
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert not torch.allclose(first, second)


def test_pixels_for_the_forward_pass_give_the_same_losses_as_latents_ahead(data, source, nano, tokenizer):
    forward = open_source("multi_turn", data, nano, tokenizer, FORWARD)[0]
    drawing, losses = Drawing(copies=1), []
    assert forward.lengths(1).tolist() == source.lengths(1).tolist()
    for each in (source, forward):
        batch = packs(each, nano, tokenizer, drawing=drawing)[0]["pack"]
        assert bool(batch.pixels) == (each is forward)
        with torch.no_grad():
            output = nano(batch, flow_noise=torch.ones_like(batch.latents))
        losses.append(torch.stack([output.ce_loss, output.mse_loss]))
    assert torch.allclose(*losses, atol=1e-5)


def test_the_final_view_is_the_prompt_and_the_last_image(data, source, nano, tokenizer):
    final = open_source("multi_turn", data, nano, tokenizer, FINAL)[0]
    whole = source[0]
    last = [s for s in whole if isinstance(s, Picture)][-1]
    start = tokenizer.ids.start_of_image
    assert final[0] == (Words(whole[0].ids, False, start), Picture(last.row, loss=True, context=False))


def test_the_final_view_leaves_out_what_does_not_end_in_a_target(nano, tokenizer, tmp_path):
    samples = make_samples(4)
    for entry in samples[1].transcript.emissions:
        entry.loss = entry.loss and not entry.stage.is_image
    write_shard(tmp_path / "0.parquet", samples)
    final = open_source("a", tmp_path, nano, tokenizer, FINAL)[0]
    assert [final.names[row] for row in final.rows] == [s.transcript.id for k, s in enumerate(samples) if k != 1]


def blank(size=48):
    return np.full((size, size, 3), 255, np.uint8)


def test_a_given_canvas_is_context_and_an_empty_prompt_is_nothing(tokenizer):
    transcript = Transcript(prompt="", size=48)
    transcript.emissions.append(Entry(stage=Stage.SKETCH, content=blank(), source=GIVEN))
    transcript.record(Emission(Stage.PLAN, "<ins>add a red circle</ins><des>a red circle</des>"))
    transcript.record(Emission(Stage.SKETCH, blank()))
    table = ImageTable()
    given, plan, sketch = from_transcript(transcript, tokenizer, table)
    assert given == Picture(0, loss=False, context=True, switch=tokenizer.ids.bos_token_id)
    assert isinstance(plan, Words) and plan.loss and sketch == Picture(1, loss=True, context=False, before=0)
    table.latents = torch.zeros(2, 9, 64)
    (items,) = Collator(table=table, copies=1)([(given, plan, sketch)], np.random.default_rng(0))
    assert [type(item) for item in items] == [VaeImage, VitImage, Text, NoisyImage]


def of_64_pixels(tmp_path):
    write_shard(tmp_path / "0.parquet", make_samples(3, size=64))
    return tmp_path


def test_images_of_another_size_are_refused_or_scaled(nano, tokenizer, tmp_path):
    data = of_64_pixels(tmp_path)
    with pytest.raises(ValueError, match=r"48 x 48, got 64 x 64 .* data.resize=true"):
        open_source("a", data, nano, tokenizer, AHEAD)
    for latents in ("ahead", "forward"):
        source = open_source("a", data, nano, tokenizer, replace(AHEAD, latents=latents, resize=True))[0]
        assert source.images.pixels(0).shape == (3, 48, 48)


def test_an_image_is_resized_alone_however_many_a_sample_has(tokenizer, nano, tmp_path):
    data = of_64_pixels(tmp_path)
    config = BagelConfig.nano(vocab_size=len(tokenizer), vae_transform=(1344, 1344, 16), vit_transform=(48, 48, 16))
    source = open_source("a", data, type(nano)(config), tokenizer, replace(FORWARD, resize=True))[0]
    assert max(len([s for s in example if isinstance(s, Picture)]) for example in source) > 1
    area = 84 * 84  # 1344 pixels are the largest area of an image, in latents of 16 pixels
    assert set(source.sizes.values()) == {(area, 9)}
    assert {source.images.clean(row)["pixels"].shape for row in source.sizes} == {(3, 1344, 1344)}


def test_a_pack_of_images_of_another_size_holds_as_many_tokens_as_reckoned(tokenizer, nano, tmp_path):
    data = of_64_pixels(tmp_path)
    config = BagelConfig.nano(vocab_size=len(tokenizer), vae_transform=(128, 16, 16), vit_transform=(128, 16, 16))
    source = open_source("a", data, type(nano)(config), tokenizer, FORWARD)[0]
    batch = PackDataset([source], Packing([source.lengths(1)], 4000), Drawing(), config, tokenizer.ids, num=1)[0]
    assert len(batch["pack"].positions) == batch["tokens"]


def test_a_tokenizer_without_the_words_is_refused(nano, tokenizer, tmp_path):
    samples = make_samples(2)
    write_shard(tmp_path / "0.parquet", samples)

    class Forgetful(Tokenizer):
        def decode(self, ids):
            return ""

    with pytest.raises(ValueError, match="tokenizer that can write the data"):
        open_source("a", tmp_path, nano, Forgetful(tokenizer.base), AHEAD)


def test_a_text_that_is_learnt_and_cannot_be_written_is_refused(nano, tokenizer, tmp_path):
    samples = make_samples(2)
    plan = next(e for e in samples[1].transcript.emissions if e.stage is Stage.PLAN)
    write_shard(tmp_path / "0.parquet", samples)

    class Forgetful(Tokenizer):
        def decode(self, ids):
            return super().decode(ids).replace(plan.content, "")

    with pytest.raises(ValueError, match="multi_turn-1"):
        open_source("a", tmp_path, nano, Forgetful(tokenizer.base), AHEAD)


def test_a_file_is_summed_once_until_it_changes(nano, tokenizer, tmp_path, monkeypatch):
    paths = [tmp_path / f"{k}.parquet" for k in range(2)]
    for path in paths:
        write_shard(path, make_samples(2))
    read, whole = [], sources.file_sha256
    monkeypatch.setattr(sources, "file_sha256", lambda path: (read.append(path.name), whole(path))[1])
    first, again = (open_source("a", tmp_path, nano, tokenizer, AHEAD)[0].sha256 for _ in range(2))
    assert first == again and read == ["0.parquet", "1.parquet"]
    write_shard(paths[1], make_samples(3, seed=5))
    assert open_source("a", tmp_path, nano, tokenizer, AHEAD)[0].sha256 != first
    assert read == ["0.parquet", "1.parquet", "1.parquet"]


def test_images_are_those_of_the_examples(tokenizer):
    for sample in make_samples(20):
        transcript, table = sample.transcript, ImageTable()
        image = next(e for e in transcript.emissions if e.stage.is_image)
        transcript.emissions.insert(2, replace(image, error="illegal"))
        transcript.emissions.append(image)  # after the end
        from_transcript(transcript, tokenizer, table)
        found = images_of(transcript)
        assert len(found) == len(table.images) and all(map(np.array_equal, found, table.images))


def test_a_model_with_fewer_embeddings_than_its_tokenizer_is_refused(nano, tokenizer, tmp_path):
    write_shard(tmp_path / "0.parquet", make_samples(2))
    small = type(nano)(BagelConfig.nano(vocab_size=30))
    with pytest.raises(ValueError, match="an embedding for every id of its tokenizer, got 30"):
        open_source("a", tmp_path, small, tokenizer, AHEAD)


def test_a_pack_has_the_losses_of_its_samples(source, nano, tokenizer):
    """Packed together or one by one: the same cross entropies and flow losses."""
    dataset = packs(source, nano, tokenizer)
    items = dataset.items(dataset.choices(0), np.random.default_rng(0))
    whole = pack(items, nano.config, tokenizer.ids, row_length=128)
    noise = torch.randn(whole.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = nano(whole, flow_noise=noise)
        ce, mse, start = [], [], 0
        for each in items:
            alone = pack([each], nano.config, tokenizer.ids)
            output = nano(alone, flow_noise=noise[start : start + len(alone.latents)])
            start += len(alone.latents)
            ce.append(output.ce)
            mse.append(output.mse * alone.mse_weights)
    assert torch.allclose(together.ce, torch.cat(ce), atol=1e-5)
    assert abs(together.mse_loss - torch.cat(mse).mean()) <= 1e-5
    assert abs(together.ce_loss - torch.cat(ce).mean()) <= 1e-5


def test_the_data_of_the_mini_world_fills_its_packs(nano, tokenizer):
    examples = [from_transcript(sample.transcript, tokenizer, ImageTable()) for sample in make_samples(300)]
    lengths = np.array([num_tokens(example, 4, nano.config) for example in examples])
    assert Packing([lengths], 2400).waste() <= 0.05
