"""Checkpoints: round trips, the official layout without config.json, tied heads, damage, memory."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from strokes.agents.bagel import Bagel, BagelConfig, load, save
from strokes.agents.bagel.checkpoint import read_config

CONFIG = BagelConfig.nano(vocab_size=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Bagel(CONFIG)


@pytest.fixture
def folder(tmp_path, model):
    save(tmp_path, model)
    return tmp_path


def equal(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def edit(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_saved_model_loads_as_it_was(folder, model):
    loaded = load(folder)
    assert equal(loaded, model) and not loaded.training
    assert loaded.config.to_dict() == model.config.to_dict() | {"architectures": ["Bagel"]}
    assert {k for k, p in loaded.named_parameters() if p.requires_grad} == {
        k for k, p in model.named_parameters() if p.requires_grad
    }
    assert not (loaded.vae.kl.encoder.conv_in.weight.requires_grad or loaded.vit_pos_embed.pos_embed.requires_grad)


def test_the_methods_of_a_pretrained_model_use_the_same_format(tmp_path, model):
    model.save_pretrained(tmp_path)
    assert equal(Bagel.from_pretrained(tmp_path), model)
    halved = {k: v / 2 for k, v in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=halved)
    assert torch.equal(load(tmp_path).vae2llm.weight, model.vae2llm.weight / 2)


def test_a_loaded_model_can_be_saved_over_itself(folder, model):
    save(folder, load(folder))
    assert equal(load(folder), model)
    assert not list(folder.glob("*.partial"))


def test_half_precision_on_disk(tmp_path, model):
    save(tmp_path, model, dtype=torch.bfloat16)
    stored, upcast = load(tmp_path), load(tmp_path, dtype=torch.float32)
    assert stored.vae2llm.weight.dtype == torch.bfloat16 and stored.vae.dtype == torch.float32
    assert upcast.vae2llm.weight.dtype == torch.float32
    assert torch.equal(upcast.latent_pos_embed.pos_embed, model.latent_pos_embed.pos_embed.bfloat16().float())


def test_a_tied_head_is_not_in_the_file(tmp_path):
    config = BagelConfig.nano(vocab_size=32, llm_config=replace(CONFIG.llm_config, tie_word_embeddings=True))
    save(tmp_path, Bagel(config))
    assert "language_model.lm_head.weight" not in load_file(tmp_path / "ema.safetensors")
    loaded = load(tmp_path)
    assert loaded.language_model.lm_head.weight is loaded.language_model.model.embed_tokens.weight
    edit(tmp_path / "ema.safetensors", lambda t: t.update({"language_model.lm_head.weight": torch.ones(32, 64)}))
    untied = load(tmp_path)  # a head in the file prevails over the flag
    assert torch.equal(untied.language_model.lm_head.weight, torch.ones(32, 64))
    assert not torch.equal(untied.language_model.model.embed_tokens.weight, torch.ones(32, 64))


def test_without_config_json_the_official_constants_hold(tmp_path):
    """The released checkpoint: the table's size is read off the table, all else is what the code says."""
    llm = replace(CONFIG.llm_config, vocab_size=8)
    vit = replace(CONFIG.vit_config, patch_size=14, image_size=980)
    config = BagelConfig(llm_config=llm, vit_config=vit, max_latent_size=16)
    with torch.device("meta"):
        shapes = Bagel(config).state_dict()
    weights = {k: torch.zeros(v.shape) for k, v in shapes.items() if not k.startswith("vae.")}
    save_file(weights, tmp_path / "ema.safetensors")
    (tmp_path / "llm_config.json").write_text(json.dumps(config.to_dict()["llm_config"]))
    (tmp_path / "vit_config.json").write_text(json.dumps(config.to_dict()["vit_config"]))
    got = read_config(tmp_path)
    assert got.max_latent_size == 16 and got.vae_config == BagelConfig.bagel_7b().vae_config
    assert (got.vit_max_num_patch_per_side, got.timestep_shift, got.latent_patch_size) == (70, 1.0, 2)


# Damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ema.safetensors", "ae.safetensors", "llm_config.json", "vit_config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    if name.endswith(".json"):
        (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=rf"(?s)Expected {name} in .*got no such file"):
        load(folder)


@pytest.mark.parametrize("name", ["ema.safetensors", "ae.safetensors"])
@pytest.mark.parametrize("size", [0, 4, 100, -8])
def test_a_truncated_file_is_named(folder, name, size):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:size])
    with pytest.raises(ValueError, match=rf"complete safetensors file, got .*{name}"):
        load(folder)


def test_a_broken_json_file_is_named(folder):
    (folder / "llm_config.json").write_text('{"hidden_size": ')
    with pytest.raises(ValueError, match=r"Expected JSON, got .*llm_config.json"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"JSON object in .*llm_config.json, got \[1\]"),
        ('{"hidden_size": "64"}', "to configure a BAGEL"),
        ('{"num_attention_heads": 0}', "to configure a BAGEL"),
        ('{"num_attention_heads": 7}', "Expected hidden_size divisible"),
    ],
)
def test_json_that_configures_no_model_is_refused(folder, text, message):
    (folder / "llm_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("name", "key", "change", "message"),
    [
        ("ema.safetensors", "vae2llm.weight", torch.zeros(3, 4), r"expected \(64, 64\), got \(3, 4\)"),
        ("ema.safetensors", "vae2llm.weight", None, r"expected \(64, 64\), got no such tensor"),
        ("ema.safetensors", "surplus", torch.zeros(2), r"expected no such tensor, got \(2,\)"),
        ("ema.safetensors", "latent_pos_embed.pos_embed", torch.zeros(63, 64), r"expected \(64, 64\), got \(63, 64\)"),
        ("ae.safetensors", "encoder.conv_in.weight", torch.zeros(16, 3, 1, 1), r"expected \(16, 3, 3, 3\)"),
        ("ae.safetensors", "decoder.mid.attn_1.q.weight", None, r"expected \(64, 64, 1, 1\), got no such"),
    ],
)
def test_a_wrong_tensor_is_named_with_file_key_and_shapes(folder, name, key, change, message):
    edit(folder / name, lambda t: t.pop(key) if change is None else t.update({key: change}))
    with pytest.raises(ValueError, match=rf"(?s){name}.*{key}: {message}.*Check that"):
        load(folder)


def test_an_interrupted_save_leaves_the_old_file(folder, model, monkeypatch):
    def fail(tensors, path, **_):
        shutil.copy(folder / "ema.safetensors", path)
        raise OSError("disk full")

    monkeypatch.setattr("strokes.agents.bagel.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(folder, Bagel(CONFIG))
    assert equal(load(folder), model)


# Memory ---------------------------------------------------------------------------------------------

MEASURE = """
import sys, torch
from strokes.agents.bagel import Bagel, load
from strokes.agents.bagel import checkpoint
def rss():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return int(fields["VmRSS"].split()[0]) * 1024
load(sys.argv[1] + "/small")
before = rss()
model = load(sys.argv[1])
total = sum(float(p.detach().sum(dtype=torch.float32)) for p in model.parameters())  # touches every page
print(rss() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_two_gigabytes_takes_little_more_than_the_file(tmp_path):
    config = BagelConfig.tiny(
        vocab_size=32000,
        llm_config=replace(
            BagelConfig.tiny().llm_config,
            hidden_size=1536,
            intermediate_size=8192,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=12,
            vocab_size=32000,
        ),
    )
    with torch.device("meta"):
        model = Bagel(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.detach())
    save(tmp_path, model)
    del model
    save(tmp_path / "small", Bagel(CONFIG))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert size >= 2e9
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    grown = int(done.stdout)
    assert grown <= 1.2 * size + 100e6, f"file {size / 1e9:.2f} GB, memory grew by {grown / 1e9:.2f} GB"
