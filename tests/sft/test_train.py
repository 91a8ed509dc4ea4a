"""The command: what can be set, what is refused and how, the paper's settings, the dry run."""

import json

import pytest
from small_runs import composed, make_samples, settings, write_data

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.load import NANO
from strokes.sft.collator import Picture, Words
from strokes.sft.cost import num_tokens
from strokes.sft.estimate import load_of, memory, meta_model
from strokes.sft.job import checkpoint_of, make_validation, read_data
from strokes.sft.sample import Subset
from strokes.sft.store import write_shard
from strokes.sft.train import main, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 20)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.copies=0"], "data.copies"),
        (["data.latents=later"], "data.latents among ahead, forward"),
        (["data.latents=forward"], "data.changed_weight=0"),
        (["data.drop_all=0.7", "data.drop_last_text=0.5"], "at most 1 together"),
        (["data.multi_turn.share=1.0"], "a share for every subset"),
        (["data.multi_turn.path=null", "data.conflict.path=null", "data.alignment.path=null"], "at least one subset"),
        (["view=half"], "view among process, final"),
        (["view=final", "data.at_once.path=there"], "data.at_once.path=null with view=final"),
        (
            [
                *(f"data.{name}.path=null" for name in ("multi_turn", "conflict", "alignment")),
                "data.at_once.path=there",
            ],
            "a subset beside data.at_once, got 'there' alone",
        ),
        (["precision=fp8"], "precision among"),
        (["fsdp=true"], "heldout=0 with fsdp"),
        (["fsdp=true", "evaluation.heldout=0", "lora={rank: 4, alpha: 8, experts: both}"], "fsdp=false with lora"),
        (["ema=1.0"], "ema below 1"),
        (["keep=1"], "keep"),
        (["lora=4"], "lora with the keys"),
        (["model.vae_transform=[48, 48]"], "three integers"),
    ],
)
def test_wrong_settings_are_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        composed(*overrides)


def test_packs_are_shared_out_evenly_over_processes():
    assert composed("packs=8").accumulation(4) == 2
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        composed("packs=8").accumulation(3)


def test_experiments_leave_subsets_out_and_choose_the_view():
    assert list(composed("experiment=table7/conflict").data.subsets) == ["multi_turn", "conflict"]
    assert composed("experiment=table4/one-shot").view == "final"
    assert set(composed("experiment=table7/both").data.subsets) == {"multi_turn", "conflict", "alignment"}


def test_final_images_are_learnt_at_once_beside_the_process(data, tmp_path):
    chosen = settings(data, f"data.at_once.path={data / 'multi_turn'}", "steps=2", "evaluation.every=2")
    model, tokenizer = load(NANO), Tokenizer.load(NANO)
    sources, validation = read_data(chosen, model, tokenizer)
    process, _, at_once = sources
    assert [source.name for source in sources] == ["multi_turn", "alignment", "at_once"]
    assert any(isinstance(segment, Words) and segment.loss for segment in process[0])
    assert [type(segment) for segment in at_once[0]] == [Words, Picture]
    assert at_once[0][0] == Words(process[0][0].ids, False, tokenizer.ids.start_of_image)
    examined = make_validation(chosen, validation, model, tokenizer, tmp_path)
    assert [source.name for source in examined.losses.packs.sources] == ["multi_turn", "alignment"]
    assert train(chosen, tmp_path / "run")
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"]) == {s.name for s in sources}


def test_drawings_that_are_not_finished_are_not_learnt_at_once(data, tmp_path):
    samples = make_samples(4)
    for sample in samples:
        for entry in sample.transcript.emissions:
            entry.loss = entry.loss and not entry.stage.is_image
    write_shard(tmp_path / "0.parquet", samples)
    with pytest.raises(ValueError, match=r"under data.at_once.path that end in an image .* take data of multi_turn"):
        read_data(settings(data, f"data.at_once.path={tmp_path}"), load(NANO), Tokenizer.load(NANO))


def test_no_checkpoint_is_named():
    with pytest.raises(ValueError, match="bagel-tiny, bagel-nano, got 'nowhere'"):
        checkpoint_of("nowhere")
    with pytest.raises(ValueError, match="only dry_run=true works"):
        checkpoint_of("bagel-7b")


def test_a_trajectory_longer_than_a_pack_stops_the_run_or_is_counted(data, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"of at most 300 tokens, got sample 'multi_turn-\d+' of"):
        train(settings(data, "tokens=300"), tmp_path)
    assert not (tmp_path / "run.json").exists(), "the folder is still free"
    assert train(settings(data, "tokens=300", "data.on_long=skip", "steps=1"), tmp_path)
    assert "longer samples left out" in capsys.readouterr().out


def test_data_of_another_canvas_is_refused_by_the_command(tmp_path, capsys, monkeypatch):
    write_shard(tmp_path / "data" / "0.parquet", make_samples(3, Subset.MULTI_TURN, size=64))
    words = [f"data.multi_turn.path={tmp_path / 'data'}", "data.conflict.path=null", "data.alignment.path=null"]
    monkeypatch.setattr("sys.argv", ["strokes-sft", *words, f"out={tmp_path / 'run'}"])
    assert main() == 1
    assert "strokes-sft: Expected images of the size that the model draws, 48 x 48" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["multi_turn", "full"])
def test_the_paper_s_settings_resolve(name):
    paper = composed(f"experiment=paper/{name}")
    assert (paper.steps, paper.tokens, paper.packs, paper.lr, paper.lr_schedule) == (10_000, 33_000, 8, 2e-5, "cosine")
    assert list(paper.data.subsets) == ["multi_turn", "conflict", "alignment"][: 1 if name == "multi_turn" else 3]


def test_the_dry_run_reckons_without_weights(capsys, monkeypatch, tmp_path):
    arguments = ["strokes-sft", "experiment=paper/full", "dry_run=true", f"out={tmp_path}"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    told = capsys.readouterr().out
    assert "14,691,079,811" in told and "at most 264,000" in told and "hidden states" in told
    host = 8 * 14_691_079_811 * 4 / 2**30
    assert f"{host:8.2f} GiB: each process" in told


def test_memory_is_shared_by_shards_and_spared_by_adapters():
    paper = composed("experiment=paper/full")
    model = meta_model(paper)
    assert all(weight.is_meta for weight in model.parameters())
    load = load_of(paper, model.config)
    lengths = [num_tokens(example, 1, model.config, load.sizes) for example in load.examples]
    assert load.packing.lengths[0].tolist() == lengths and 0.9 * 33_000 < load.filled <= 33_000
    eight = memory(paper, model, load)
    learnt = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert eight["optimizer"] * 2**30 == pytest.approx(learnt * 8 / 8)
    assert eight["kept activations"] * 2**30 == 33_000 * 3584 * 28 * 2, "of a pack that is full"
    whole, lora = (
        composed("experiment=paper/full", "fsdp=false"),
        composed("experiment=paper/full", "fsdp=false", "lora={rank: 16, alpha: 32, experts: both}"),
    )
    assert memory(lora, meta_model(lora), load)["together"] < memory(whole, model, load)["together"] / 2


def test_what_never_fits_is_named_before_anything_is_loaded():
    paper = composed("experiment=paper/full", "tokens=20000", "data.on_long=raise")
    with pytest.raises(ValueError, match="at most 20000 tokens, got sample 'of 4 images'"):
        load_of(paper, meta_model(paper).config)
