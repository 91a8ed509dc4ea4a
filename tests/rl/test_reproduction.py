"""The paper's tables as cells: what a cell runs and in which order, and what the tables say of those that are there."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from strokes.rl import reproduction
from strokes.rl.grid import claimed, path_of
from strokes.rl.reproduction import Bench, main
from strokes.rl.reproduction_cells import DATA, EXPERIMENTS, SAMPLER, SHARES, SIZES
from strokes.rl.reproduction_tables import FINDINGS, TABLES, differences, read, scores, tables
from strokes.sft.table1 import PAPER


def cell(seed, **tasks):
    """A record with these strict values, task by task; prompts are a, b, c …"""
    rows = [{"task": "overall", "strict": {"mean": 0.5}, "images": 2.0, "steps": 24.0}]
    conduct = [{"task": "overall", "plans": 0.75, "sketches": None}]
    looked, redone = {"precision": 0.5, "recall": 0.25}, {"judged": 8, "helped": 0.5, "hurt": 0.125}
    evaluation = {"rows": rows, "conduct": conduct, "inspections": looked, "refinements": redone}
    strict = {task: list(zip("abcdefgh", values, strict=False)) for task, values in tasks.items()}
    return {"seed": seed, "strict": strict, "evaluation": evaluation}


def write(results, experiment, record):
    path = path_of(results, experiment, record["seed"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work and results in a folder of their own; commands are noted, and leave what the next step looks for."""
    monkeypatch.setattr(reproduction, "WORK", tmp_path / "work")
    monkeypatch.setattr(reproduction, "RESULTS", tmp_path / "results")
    commands = []

    def run(command, **_):
        module, words = command[2], command[3:]
        commands.append((module.removeprefix("strokes."), words))
        out = Path(next(word for word in words if word.startswith("out=")).removeprefix("out="))
        out.mkdir(parents=True, exist_ok=True)
        done = "table1.json" if module.endswith("build") else "metrics.json"
        (out / done).write_text('{"audit": {"findings": []}}')
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(reproduction.subprocess, "run", run)
    return SimpleNamespace(work=tmp_path / "work", results=tmp_path / "results", commands=commands)


def test_a_cell_makes_its_base_its_sampler_and_its_data_once(place):
    bench = Bench(name="nano", size=SIZES["nano"])
    bench.evaluated("table7/conflict", 1)
    modules = [module for module, _ in place.commands]
    # base, multi-turn data and the model that self-samples come before the data that it samples
    assert modules == ["sft.build", *["sft.pretrain"] * 3, "sft.train", "sft.build", "sft.train", "rl.evaluate"]
    sampler, own = (words for module, words in place.commands if module == "sft.train")
    assert f"experiment={SAMPLER['edits']}" in sampler and "seed=0" in sampler
    assert "experiment=table7/conflict" in own and "seed=1" in own
    drawn, critique = (words for module, words in place.commands if module == "sft.build")
    assert "subset=multi_turn" in drawn and "subset=conflict" in critique
    assert f"sampler.path={bench.checkpoint(SAMPLER['edits'], 0)}" in critique
    place.commands.clear()
    bench.evaluated("table7/conflict", 1)
    assert place.commands == []
    bench.evaluated("table7/both", 1)
    assert [module for module, _ in place.commands] == ["sft.build", "sft.train", "rl.evaluate"]


@pytest.mark.parametrize("experiment", DATA)
def test_data_are_of_the_kind_that_the_experiment_names(experiment, place):
    Bench(name="nano", size=SIZES["nano"]).trained(experiment, 0)
    builds = [words for module, words in place.commands if module == "sft.build"]
    additive = experiment.startswith("table5/")
    assert all(("multi_turn.detour_rate=0.0" in words) is additive for words in builds)
    assert any("conflict.source=symbolic" in words for words in builds) is (experiment == "table6/symbolic")


def test_all_train_for_the_same_steps_but_the_control_of_what_critique_takes_away(place):
    bench = Bench(name="nano", size=SIZES["nano"])
    for experiment in DATA:
        bench.trained(experiment, 0)
    trained = [words for module, words in place.commands if module == "sft.train"]
    steps = {
        words[0].removeprefix("experiment="): next(w for w in words if w.startswith("steps=")) for words in trained
    }
    assert len(steps) == len(DATA) and steps.pop("table7/both-longer") == f"steps={2 * SIZES['nano'].steps}"
    assert set(steps.values()) == {f"steps={SIZES['nano'].steps}"}


def test_best_of_n_costs_what_the_process_of_its_seed_costs(place):
    bench = Bench(name="nano", size=SIZES["nano"])
    bench.evaluated("table4/best-of-n", 2)
    module, words = place.commands[-1]
    assert module == "rl.evaluate" and words[0] == "policy=best-of-n"
    assert f"policy.like={bench.folder('table7/both', 2) / 'evaluation'}" in words
    assert f"policy.path={bench.checkpoint('table4/one-shot', 2)}" in words


def test_data_that_did_not_pass_their_audit_are_built_again(place):
    bench = Bench(name="nano", size=SIZES["nano"])
    folder = bench.data("edits").parent
    (folder / "table1.json").write_text('{"audit": {"findings": ["a wrong state"]}}')
    place.commands.clear()
    bench.data("edits")
    assert [module for module, _ in place.commands] == ["sft.build"]


def test_a_drawing_without_a_verdict_counts_in_no_difference():
    first, second = [cell(0, position=[1, None, 0])], [cell(0, position=[0, 1, None])]
    paired, seeds = differences(first, second)
    assert paired["position"].mean == 1 and seeds == [1]


def test_a_cell_that_somebody_is_at_is_not_done(place, capsys):
    with claimed(place.work / "nano" / "table7" / "both" / "0"):
        assert main(["table7/both", "0"]) == 1
    assert "somebody is at table7/both 0" in capsys.readouterr().err and place.commands == []


def test_a_command_that_fails_ends_the_cell_with_its_code(place, monkeypatch, capsys):
    monkeypatch.setattr(reproduction.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=5))
    assert main(["table7/both", "0"]) == 5 and not path_of(place.results / "nano", "table7/both", 0).exists()
    for words in (["table8"], ["table7/both"], ["table7/both", "x"], ["size=huge"]):
        assert main(words) == 1 and "Expected" in capsys.readouterr().err


def test_every_row_and_finding_is_an_experiment():
    named = {row.experiment for rows in TABLES.values() for row in rows}
    named |= {name for _, *pair in FINDINGS for name in pair}
    assert named == set(EXPERIMENTS)


def test_seeds_are_pooled_by_prompt_and_differences_are_paired():
    first = [cell(0, position=[1, 1, 0, 1], counting=[1, 0]), cell(1, position=[1, 0, 0, 1], counting=[1, 1])]
    second = [cell(1, position=[0, 0, 0, 1], counting=[1, 1]), cell(2, position=[1] * 4, counting=[1, 1])]
    found = scores(first)
    assert found["position"].mean == 5 / 8 and found["counting"].mean == 3 / 4 and found["overall"].mean == 11 / 16
    paired, seeds = differences(first, second)
    assert seeds == [1 / 8] and paired["position"].mean == 1 / 4 and paired["counting"].mean == 0


def test_tables_hold_what_is_there_and_leave_the_rest_open(tmp_path):
    assert "0.83" in tables(tmp_path) and not read(tmp_path)
    write(tmp_path, "table7/both", cell(0, position=[1, 1, 0, 1]))
    write(tmp_path, "table4/one-shot", cell(0, position=[0, 1, 0, 1]))
    text = tables(tmp_path)
    (row,) = [line for line in text.splitlines() if line.startswith("| ours (")]
    assert "0.750" in row and row.count("|") == 11
    (finding,) = [line for line in text.splitlines() if "same training" in line]
    assert "+0.250" in finding and finding.endswith("| +0.250 |")
    assert "| `table7/both` | 0.75 |  | 0.50 | 0.25 | 8.00 | 0.50 | 0.12 | 2.00 |" in text


def test_the_shares_are_the_papers_numbers():
    assert {subset: PAPER[subset]["total"] for subset in SHARES} == SHARES
