"""strokes-data: chunks that depend on nothing else, builds that go on."""

import hashlib
import json
import re
import sys

import pytest
from data_settings import RULES, SMALL, composed
from genref_tar import record, shard

from strokes.sft import build
from strokes.sft.build import main
from strokes.sft.sample import Subset
from strokes.sft.store import DataSet


@pytest.fixture
def strokes_data(monkeypatch, tmp_path):
    """The command; returns its exit code."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["strokes-data", *arguments])
        monkeypatch.chdir(tmp_path)
        return main()

    return call


def digests(folder) -> dict[str, str]:
    files = sorted(folder.rglob("*.parquet"))
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_multi_turn_is_built_and_goes_on(strokes_data, tmp_path, capsys):
    assert strokes_data(*SMALL, "out=whole") == 0
    whole = digests(tmp_path / "whole")
    dataset = DataSet(tmp_path / "whole")
    assert len(whole) == 4 and len(dataset) == 42 and len(set(dataset.column("id"))) == 42
    assert len(dataset.select(split="validation")) == 4
    graphs = {split: set(dataset.select(split=split).column("graph_hash")) for split in ("train", "validation")}
    assert not graphs["train"] & graphs["validation"]

    (tmp_path / "whole/multi_turn/train-00001.parquet").unlink()
    (tmp_path / "whole/multi_turn/train-00002.json").write_text("")
    cut = tmp_path / "whole/multi_turn/validation-00000.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    before = (tmp_path / "whole/multi_turn/train-00000.parquet").stat().st_mtime_ns
    capsys.readouterr()
    assert strokes_data(*SMALL, "out=whole") == 0
    said = capsys.readouterr().out
    assert "1 of 4 shards are there" in said and "train-00001" in said and "train-00000" not in said
    assert digests(tmp_path / "whole") == whole
    assert (tmp_path / "whole/multi_turn/train-00000.parquet").stat().st_mtime_ns == before


def test_another_build_is_refused(strokes_data, tmp_path, capsys):
    assert strokes_data(*SMALL, "out=x") == 0
    built = digests(tmp_path / "x")
    changed = ("seed=1", "scale=0.002", "multi_turn.detour_rate=0", "chunk_size=8", "size=64")
    assert strokes_data(*SMALL, *changed, "out=x") == 1
    said = capsys.readouterr().err
    assert all(change.split("=")[0] in said for change in changed)
    assert strokes_data(*SMALL, "workers=2", "conflict.source=symbolic", "out=x") == 0
    assert digests(tmp_path / "x") == built


def test_a_kill_between_shards_costs_one_shard(strokes_data, tmp_path, monkeypatch):
    assert strokes_data(*SMALL, "out=whole") == 0
    write, written = build.write_bytes, []

    def killed(path, content):
        if len(written) == 2 and path.suffix == ".parquet":
            raise KeyboardInterrupt
        written.extend([path] if path.suffix == ".parquet" else [])
        write(path, content)

    monkeypatch.setattr(build, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        strokes_data(*SMALL, "out=killed", "hydra.output_subdir=null")
    assert len(digests(tmp_path / "killed")) == 2
    monkeypatch.setattr(build, "write_bytes", write)
    assert strokes_data(*SMALL, "out=killed") == 0
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_without_detours_the_prompts_are_the_same(strokes_data, tmp_path):
    for name, options in (("edits", ()), ("additive", ("multi_turn.detour_rate=0",))):
        assert strokes_data(*SMALL, *options, f"out={name}") == 0
    edits, additive = (DataSet(tmp_path / name) for name in ("edits", "additive"))
    assert edits.column("prompt") == additive.column("prompt")
    assert {kind for kinds in additive.column("kinds") for kind in kinds} == {"add"}
    assert len({kind for kinds in edits.column("kinds") for kind in kinds}) > 2


def test_table_audit_and_card(strokes_data, tmp_path, capsys):
    part = ("scale=0.0005", "chunk_size=8", *RULES, "out=x")
    assert strokes_data(*part, "subset=multi_turn") == 0
    assert strokes_data(*part) == 0  # the other subsets are added
    said, card = capsys.readouterr().out, (tmp_path / "x/README.md").read_text()
    told = json.loads((tmp_path / "x/table1.json").read_text())
    rows = {name: (row["total"], row["positive"], row["negative"]) for name, row in told["table"].items()}
    assert rows["multi_turn/train"] == (16, 0, 0) and rows["conflict/train"] == (8, 3, 5)
    assert rows["alignment/train"] == (8, 2, 6) and all(rows[f"{subset}/validation"][0] == 1 for subset in Subset)
    assert told["audit"]["samples"] == 35 == len(DataSet(tmp_path / "x")) and told["audit"]["states"] > 35
    assert not any(told["audit"][name] for name in ("wrong_states", "wrong_labels", "wrong_words", "test_graphs"))
    for text in (said, card):
        assert "| multi_turn | samples | 16 | 32,012 |" in text and "| wrong states | 0 |" in text
    assert "license: apache-2.0" in card and "Planned detours" in card and '"source": "symbolic"' in card


def test_what_the_audit_finds_fails_the_command(strokes_data, tmp_path, monkeypatch, capsys):
    class Wrong(build.make_maker(composed(*SMALL), Subset.MULTI_TURN, "train").__class__):
        def make(self, chunk, num):
            samples = super().make(chunk, num)
            samples[0].transcript.emissions[1].content[:] = 255
            return samples

    monkeypatch.setattr(build, "make_maker", lambda *_: Wrong(num=38, chunk_size=16))
    assert strokes_data(*SMALL, "validation=0", "audit=true", "out=x") == 1
    assert "audit that finds nothing, got" in capsys.readouterr().err
    assert json.loads((tmp_path / "x/table1.json").read_text())["audit"]["wrong_states"] >= 3
    assert strokes_data(*SMALL, "validation=0", "out=y") == 0
    told = json.loads((tmp_path / "y/table1.json").read_text())["audit"]
    assert (told["samples"], told["unaudited"], told["unchecked"]) == (38, 38, 0)
    before = digests(tmp_path / "y")
    capsys.readouterr()
    assert strokes_data(*SMALL, "validation=0", "audit=true", "out=y") == 1  # audited later
    said = capsys.readouterr()
    assert said.out.count(": audited") == 3 and "audit that finds nothing, got" in said.err
    told = json.loads((tmp_path / "y/table1.json").read_text())["audit"]
    assert (told["unaudited"], digests(tmp_path / "y")) == (0, before) and told["wrong_states"] >= 3


def test_what_a_maker_rejects_is_told(strokes_data, tmp_path, monkeypatch, capsys):
    make = build.make_maker

    class Picky:
        def __init__(self, *arguments):
            self.maker, self.split = make(*arguments), arguments[-1]

        def make(self, chunk, num):
            return self.maker.make(chunk, num)[chunk == 1 :] if self.split == "train" else []

    monkeypatch.setattr(build, "make_maker", Picky)
    assert strokes_data(*SMALL, "out=x") == 0
    said = capsys.readouterr().out
    assert "Rejected and not replaced: 1 of multi_turn/train, 4 of multi_turn/validation" in said
    assert len(DataSet(tmp_path / "x")) == 37


@pytest.mark.slow
def test_the_card_tells_datasets_how_to_read(strokes_data, tmp_path):
    datasets = pytest.importorskip("datasets")
    assert strokes_data("scale=0.0005", "chunk_size=8", *RULES, "out=x") == 0
    for subset in Subset:
        read = datasets.load_dataset(str(tmp_path / "x"), str(subset), cache_dir=str(tmp_path / "cache"))
        mine = DataSet(tmp_path / "x" / subset)
        assert {split: len(part) for split, part in read.items()} == {
            split: len(mine.select(split=split)) for split in ("train", "validation")
        }
        assert read["train"][0]["images"][0].size == (48, 48)


WRONG_LATE = {
    "multi_turn.detour_rate=2": "detour_rate in \\[0, 1\\]",
    "sampler.path=nowhere": "folder of a checkpoint, got 'nowhere'",
    "sampler.paht=x": "Did you mean 'sampler.path'",
    "multi_turn.backend=real": "multi_turn.real with path",
}
"""What is found out by the command alone, or by the makers."""


@pytest.mark.parametrize("wrong", WRONG_LATE)
def test_bad_input_is_answered_in_one_line(strokes_data, capsys, tmp_path, wrong):
    assert strokes_data("scale=0.001", "out=x", wrong) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("strokes-data: ") and "\n" not in said and re.search(WRONG_LATE[wrong], said), said
    assert not digests(tmp_path)


def test_help_is_readable(strokes_data, capsys):
    assert strokes_data("--help") == 0
    said = capsys.readouterr().out
    assert "strokes-data out=outputs/data" in said and "sampler" in said and "hydra.run" not in said


def test_a_full_disk_ends_the_build_in_one_line(strokes_data, tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_bytes", full)
    assert strokes_data(*SMALL, "out=x") == 1
    assert "No space left" in capsys.readouterr().err and not digests(tmp_path)


def test_genref_becomes_alignment_data(strokes_data, tmp_path, capsys):
    shard(tmp_path / "genref_0.tar", map(record, range(40)))
    options = ("subset=alignment", "alignment.source=genref", "validation=0", "alignment.genref=[genref_0.tar]")
    assert strokes_data(*options, "scale=0.0004", "out=x") == 0
    dataset = DataSet(tmp_path / "x")
    assert dataset.column("label").count(1) == 2 and dataset.column("label").count(0) == 4
    assert "| alignment | negative | 4 | 10,000 |" in capsys.readouterr().out
    assert "GenRef" in (tmp_path / "x/README.md").read_text().partition("## Licence")[2]
    kept = dataset.column("prompt")
    (tmp_path / "asked.txt").write_text(f"{kept[0].upper()}.\n\n{kept[1]}\n")
    assert strokes_data(*options, "scale=0.0004", "out=z", "alignment.excluded=[asked.txt]") == 0
    assert not set(kept[:2]) & set(DataSet(tmp_path / "z").column("prompt"))
    assert strokes_data(*options, "scale=0.4", "chunk_size=6000", "out=y") == 1
    assert "name more shards" in capsys.readouterr().err and not digests(tmp_path / "y")


@pytest.mark.slow
@pytest.mark.parametrize("options", [SMALL, ("scale=0.002", "chunk_size=16", *RULES)])
def test_shards_are_the_same_for_any_number_of_workers(strokes_data, tmp_path, options):
    for workers in (0, 2):
        assert strokes_data(*options, f"workers={workers}", f"out=w{workers}") == 0
    assert digests(tmp_path / "w0") == digests(tmp_path / "w2")
    assert json.loads((tmp_path / "w0/table1.json").read_text()) == json.loads(
        (tmp_path / "w2/table1.json").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["conflict", "alignment"])
def test_self_sampled_shards_are_the_same_too(strokes_data, tmp_path, subset):
    """Whoever samples them, and whatever was sampled before."""
    options = (f"subset={subset}", "scale=0.0006", "chunk_size=4", "validation=0")
    for workers in (0, 2):
        assert strokes_data(*options, f"workers={workers}", f"out=w{workers}") == 0
    built = digests(tmp_path / "w0")
    assert len(built) == 3 and built == digests(tmp_path / "w2")
    sources = {json.loads(each)["source"] for each in DataSet(tmp_path / "w0").column("provenance")}
    assert "self-sampled" in sources
    (tmp_path / f"w0/{subset}/train-00001.parquet").unlink()
    assert strokes_data(*options, "out=w0") == 0
    assert digests(tmp_path / "w0") == built
