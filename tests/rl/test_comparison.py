"""The comparison as cells: what a cell runs and in which order, and what the tables say of those that are there."""

import json
from os.path import relpath
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import pytest

from strokes.agents.load import NANO, fingerprint
from strokes.rl import comparison, grid
from strokes.rl.compare_table import measured
from strokes.rl.comparison import Bench, main
from strokes.rl.comparison_methods import METHODS, RUNS, SIZES
from strokes.rl.comparison_tables import findings, lines_of
from strokes.rl.drawings import Drawing
from strokes.rl.evaluation_folder import EvaluationFolder
from strokes.rl.evaluation_settings import Settings as EvaluationSettings
from strokes.rl.grid import claimed, path_of
from strokes.rl.settings import Settings as TrainingSettings
from strokes.rl.verifier_settings import Settings as VerifierSettings

LABELS = "labels of the verifier: exact, the verdict that evaluates scenes"
SCENE = {"name": "scene", "critic": None, "outcome": "soft", "target": None}


def drawings(*values, images=2):
    facts = dict(chunk=0, seen=False, plans=(), repairs=(), sketches=(), emissions=4, illegal=0, tokens=0, calls=0)
    facts |= dict(remote_tokens=0, seconds=0.5, decodes=images, questions=0, steps=12 * images, nfe=24 * images)
    return [
        Drawing(id=str(k), task="position", prompt_id=f"p{k}", seed=0, strict=v, official=v, images=images, **facts)
        for k, v in enumerate(values)
    ]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work and results in a folder of their own; commands are noted, and leave what the next step looks for."""
    monkeypatch.setattr(comparison, "WORK", tmp_path / "work")
    monkeypatch.setattr(comparison, "RESULTS", tmp_path / "results")
    commands = []

    def run(command, **_):
        module, words = command[2].removeprefix("strokes.rl."), command[3:]
        commands.append((module, words))
        out = Path(next(word for word in words if word.startswith("out=")).removeprefix("out="))
        settings = {"steps": 50, "prompts": 8, "group": 8, "reward": SCENE, "judge": {}}
        if module == "verifier":
            settings = {"drawings": {"judge": "exact"}}
        if module == "evaluate":
            policy = {"name": words[0].removeprefix("policy="), "verifier": {"name": "exact", "adapter": None}}
            policy |= dict(word.removeprefix("policy.").split("=") for word in words if word.startswith("policy.l"))
            if "policy.verifier.name=policy" in words:
                policy["verifier"] = {"name": "policy", "adapter": "there"}
            policy["judge"] = "verifier"
            EvaluationFolder(out).add(0, drawings(1.0, 0.0), [], {"policy": policy, "judge": {"model": "somebody"}})
        (out / "run.json").write_text(json.dumps(settings))
        (out / "log.jsonl").write_text('{"seconds": 30.0}\n')
        (out / "metrics.json").write_text('{"examples": 300, "drawings": 80, "seconds": 30.0}')
        if module == "verifier":
            (out / "report.md").write_text("weak\n")
            (out / "adapter").mkdir()
            for name in ("adapter_config.json", "adapter_model.safetensors", "training_args.bin"):
                (out / "adapter" / name).write_text(name)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(grid.subprocess, "run", run)
    return SimpleNamespace(work=tmp_path / "work", results=tmp_path / "results", commands=commands)


def record(place, method, seed=0):
    return json.loads(path_of(place.results / "nano", method, seed).read_text())


def test_a_search_trains_its_verifier_once(place):
    assert main(["parm-20", "1"]) == 0
    (first, words), (second, evaluation) = place.commands
    assert (first, second) == ("verifier", "evaluate") and "seed=1" in words
    assert {f"policy.path={relpath(NANO)}", "policy=bagel-nano"} <= set(words)
    verifier, kept = (each / "nano" / "verifier" / "1" for each in (place.work, place.results))
    assert f"out={verifier}" in words and f"policy.verifier.adapter={kept / 'adapter'}" in evaluation
    assert {"policy=parm", "policy.n=20", f"policy.path={NANO}", f"policy.verifier.path={NANO}"} <= set(evaluation)
    found = record(place, "parm-20", 1)
    assert found["searcher"] == "own understanding, trained"
    assert found["learnt"] == {"drawings": 80, "examples": 300, "seconds": 30.0, "judge": LABELS}
    assert found["evaluation"]["position"]["strict"] == [1.0, 0.0]
    place.commands.clear()
    rmtree(place.work)  # as on another machine
    assert main(["parm-pruned-20", "1"]) == 0 and [module for module, _ in place.commands] == ["evaluate"]
    made = [record(place, name, 1)["made_with"] for name in ("parm-20", "parm-pruned-20")]
    assert made[0]["verifier"] == made[1]["verifier"] == fingerprint(kept / "adapter")
    assert {path.name for path in (kept / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_an_oracle_needs_no_training(place):
    assert main(["parm-20-oracle", "0"]) == 0
    ((module, words),) = place.commands
    assert module == "evaluate" and not [word for word in words if word.startswith("policy.verifier")]
    found = record(place, "parm-20-oracle")
    assert found["searcher"] == "exact (oracle)" and found["learnt"]["drawings"] == found["learnt"]["examples"] == 0


def test_what_learns_is_evaluated_with_what_it_learnt(place):
    assert main(["dpo-guided", "2"]) == 0
    assert [module for module, _ in place.commands] == ["verifier", "train", "evaluate"]
    work, kept = place.work / "nano", place.results / "nano" / "verifier" / "2"
    _, (_, train), (_, evaluation) = place.commands
    assert train[0] == "+experiment=dpo-guided" and {"seed=2", "reward.outcome=soft"} <= set(train)
    assert f"preference.guidance.adapter={kept / 'adapter'}" in train
    assert evaluation[0] == "policy=bagel-nano"
    assert f"policy.adapter={work / 'trained' / 'dpo-guided' / '2' / 'adapter'}" in evaluation
    told = record(place, "dpo-guided", 2)["learnt"]
    assert (told["drawings"], told["examples"], told["seconds"]) == (50 * 8 * 8 + 80, 300, 60.0)
    assert told["judge"] == f"exact, soft, {LABELS}"


def test_a_search_at_the_cost_of_another_method_waits_for_what_tells_it(place):
    assert main(["joint-stages-search", "0"]) == 0
    modules = [module for module, _ in place.commands]
    assert sorted(modules) == ["evaluate", "evaluate", "evaluate", "train", "verifier"] and modules[-1] == "evaluate"
    words = place.commands[-1][1]
    work = place.work / "nano"
    matched = [
        f"policy.like={work}/parm-20-oracle/0/evaluation",
        f"policy.unit={work}/joint-stages-sampled/0/evaluation",
    ]
    assert {"policy=best-of-n", "policy.painter=strokes", *matched} <= set(words)
    place.commands.clear()
    assert main(["joint-stages-sampled", "0"]) == 0 and place.commands == []  # what it draws was needed for that
    assert record(place, "joint-stages-sampled")["searcher"] == ""


def test_a_killed_cell_goes_on_where_it_stood(place, monkeypatch):
    running = grid.subprocess.run

    def killed(command, **_):
        return SimpleNamespace(returncode=143) if "evaluate" in command[2] else running(command)

    monkeypatch.setattr(grid.subprocess, "run", killed)
    assert main(["dpo", "0"]) == 143 and not path_of(place.results / "nano", "dpo", 0).exists()
    place.commands.clear()
    monkeypatch.setattr(grid.subprocess, "run", running)
    assert main(["dpo", "0"]) == 0 and [module for module, _ in place.commands] == ["evaluate"]


def test_the_next_missing_cell_is_run(place, capsys):
    assert main([]) == 0 and main([]) == 0
    assert [words[0] for _, words in place.commands if _ == "evaluate"] == ["policy=one-shot", "policy=bagel-nano"]
    with claimed(place.work / "nano" / "best-of-3-oracle" / "0"):
        assert main(["best-of-3-oracle", "0"]) == 1
    assert "somebody is at best-of-3-oracle 0" in capsys.readouterr().err


def test_without_the_inspect_loop_the_same_weights_draw(place):
    assert main(["sft", "0"]) == 0 and main(["sft-inspect", "0"]) == 0
    (_, without), (_, loop) = place.commands
    assert set(without) - set(loop) == {"heeds_refine=false", *(word for word in without if word.startswith("out="))}


@pytest.mark.parametrize("words", ["size=huge", "parm-20", "parm-20 x", "parmm 0", "tables now"])
def test_wrong_arguments_are_refused(words, place, capsys):
    assert main(words.split()) == 1 and "Expected" in capsys.readouterr().err and place.commands == []


def cell(method, seed, *values, start="a", **made):
    learnt = {"drawings": 0, "examples": 0, "seconds": 0.0, "judge": ""}
    shared = {"method": method, "seed": seed, "start": start, "searcher": "", "learnt": learnt}
    made = {
        "benchmark": "b",
        "evaluation": method,
        "training": None,
        "verifier_training": None,
        "verifier": None,
        **made,
    }
    return {**shared, "made_with": made, "evaluation": measured(drawings(*values))}


def test_findings_are_differences_of_the_seeds_that_both_have():
    cells = {"parm-20": [cell("parm-20", 0, 1.0, 0.0), cell("parm-20", 1, 1.0, 1.0)], "best-of-20": []}
    assert "parm" not in findings(cells)
    cells["best-of-20"] = [cell("best-of-20", 1, 0.0, 1.0), cell("best-of-20", 2, 0.0, 0.0)]
    (row,) = [line for line in findings(cells).splitlines() if "`parm-20`" in line]
    assert "(`parm-20` - `best-of-20`) | 1 | +0.500 [+0.000, +1.000] | +0.500 |" in row


def test_tables_are_written_anew_with_every_cell(place, capsys):
    assert main(["tables"]) == 0 and "no cell is there yet" in capsys.readouterr().out
    assert main(["sft-inspect", "0"]) == 0 and main(["one-shot", "0"]) == 0
    capsys.readouterr()
    assert main(["tables"]) == 0
    table = (place.results / "nano" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| sft-inspect | 1 | 0.500" in table and "(`sft-inspect` - `one-shot`) | 1 | +0.000" in table
    assert (place.results / "nano" / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (cell("dpo", 0, 1.0, start="b"), "one start, got 2: parm-20 0; dpo 0"),
        (cell("dpo", 0, 1.0, benchmark="c"), "one benchmark, got 2"),
        (cell("parm-20", 1, 1.0, evaluation="other"), "one evaluation, got 2: parm-20 0; parm-20 1"),
        (cell("parm-20", 1, 1.0, training="other"), "one training, got 2"),
        (cell("best-of-20", 1, 1.0, verifier_training="other"), "one verifier training, got 2"),
        (cell("best-of-20", 0, 1.0, verifier="other"), "one verifier, got 2"),
        (cell("best-of-20", 1, 1.0, verifier="other"), ""),  # another seed has a verifier of its own
        (cell("dpo", 0, 1.0, training="other"), ""),
    ],
)
def test_cells_that_were_made_differently_are_in_no_table(second, words):
    first = cell("parm-20", 0, 1.0, training="t", verifier_training="v", verifier="w")
    cells = {first["method"]: [first]}
    cells.setdefault(second["method"], []).append(second)
    if not words:
        assert sum(len(line.evaluations) for line in lines_of(cells)) == 2
        return
    with pytest.raises(ValueError, match=words):
        lines_of(cells)


def test_a_cell_keeps_what_it_was_made_with(place):
    for method, seed in (("parm-20", 0), ("parm-20", 1), ("parm-pruned-20", 0), ("dpo", 0)):
        assert main([method, str(seed)]) == 0
    first, second, pruned = (
        record(place, *name)["made_with"] for name in (("parm-20", 0), ("parm-20", 1), ("parm-pruned-20", 0))
    )
    assert first["evaluation"] == second["evaluation"] != pruned["evaluation"] and first["training"] is None
    assert first["verifier_training"] == second["verifier_training"] == pruned["verifier_training"] is not None
    learnt = record(place, "dpo")["made_with"]
    assert learnt["training"] is not None and learnt["verifier"] is None
    file = place.work / "nano" / "dpo" / "0" / "evaluation" / "settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "limit": 3}))
    path_of(place.results / "nano", "dpo", 0).unlink()
    assert main(["dpo", "0"]) == 1  # other tasks than those of the other cells
    assert not path_of(place.results / "nano", "dpo", 0).exists()


def test_an_evaluation_that_asked_another_verifier_is_none_of_this_one(place, capsys):
    assert main(["parm-20", "0"]) == 0
    file = place.work / "nano" / "parm-20" / "0" / "evaluation" / "settings.json"
    for asked, code in ((fingerprint(place.results / "nano" / "verifier" / "0" / "adapter"), 0), ("other", 1)):
        file.write_text(json.dumps({**json.loads(file.read_text()), "verifier_adapter": asked}))
        assert main(["parm-20", "0"]) == code
    assert "got another's answers" in capsys.readouterr().err


@pytest.mark.parametrize("size", SIZES)
def test_what_cells_run_can_be_run(size, place, composed):
    bench = Bench(name=size, size=SIZES[size])
    for method in METHODS:
        bench.evaluated(method, 0)
    kinds = {"train": ("rl", TrainingSettings), "evaluate": ("evaluate", EvaluationSettings)}
    kinds["verifier"] = ("verifier", VerifierSettings)
    alike = {(module, *(word for word in words if "/" not in word)): words for module, words in place.commands}
    found = [(module, composed(*kinds[module], words)) for (module, *_), words in alike.items() if module in kinds]
    assert {Path(each.policy["path"]).resolve() for _, each in found} == {SIZES[size].start}
    trained = [each for module, each in found if module == "train"]
    assert len(trained) == len(RUNS) and {each.policy["name"] for each in trained} == {SIZES[size].policy}
    assert len({each.steps * each.prompts * each.group for each in trained}) == 1  # the same drawings to learn from
