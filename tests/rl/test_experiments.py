"""The grid of experiments: which cell is next, who is at it, and what the table says of those that are done."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_module

from strokes.agents.command import settings_from
from strokes.rl import experiments
from strokes.rl.experiments import EXPERIMENTS, SEEDS, main, table
from strokes.rl.grid import claimed, missing, path_of
from strokes.rl.settings import Settings

HELD = """
from pathlib import Path
from strokes.rl.grid import claimed
with claimed(Path({!r})) as mine:
    print(mine, flush=True)
    input()
"""


def composed(*overrides):
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("rl", [*overrides, "out=unused"])
    return settings_from(config, Settings, "rl")


def evaluated(strict, difference, low, high, images):
    """One evaluation of a cell, with a row that the table has to pass over."""
    interval = {"mean": difference, "low": low, "high": high}
    other = {"task": "position", "strict": {"mean": 9.0}, "images": 9.0}
    rows = [other, {"task": "overall", "strict": {"mean": strict}, "images": images}]
    paired = [{"task": "position", "difference": {}}, {"task": "overall", "difference": interval}]
    return {"rows": rows, "against the start": {"strict": paired}}


def write(results, experiment, seed, **record):
    path = path_of(results, experiment, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work and results in a folder of their own, and what was run there, which all fails with code 7."""
    monkeypatch.setattr(experiments, "WORK", tmp_path / "work")
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "evaluate_start", lambda: None)
    commands = []

    def failing(command, **_):
        commands.append(command[3:])
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(experiments.subprocess, "run", failing)
    return SimpleNamespace(work=tmp_path / "work", results=tmp_path / "results", commands=commands)


def test_the_first_seeds_of_all_experiments_come_first(tmp_path):
    cells = missing(tmp_path, EXPERIMENTS, SEEDS)
    assert cells == [(experiment, seed) for seed in SEEDS for experiment in EXPERIMENTS]
    for cell in (cells[0], cells[2], cells[-1]):
        write(tmp_path, *cell)
    assert missing(tmp_path, EXPERIMENTS, SEEDS) == [cells[1], *cells[3:-1]]
    for cell in cells:
        write(tmp_path, *cell)
    assert missing(tmp_path, EXPERIMENTS, SEEDS) == []


def test_a_folder_has_one_holder_until_it_leaves(tmp_path):
    folder = tmp_path / "text-only" / "0"
    with claimed(folder) as mine:
        assert mine
        with claimed(folder) as second, claimed(tmp_path / "text-only" / "1") as other:
            assert not second and other
        with claimed(folder) as third:
            assert not third
    with claimed(folder) as again, pytest.raises(RuntimeError, match="lost"):
        assert again
        with claimed(tmp_path / "lost"):
            raise RuntimeError("lost")
    with claimed(tmp_path / "lost") as mine:
        assert mine


def test_a_folder_is_held_against_other_processes_until_they_are_gone(tmp_path):
    command = [sys.executable, "-c", HELD.format(str(tmp_path))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as holder:
        try:
            assert holder.stdout.readline() == "True\n"
            with claimed(tmp_path) as mine:
                assert not mine
            with claimed(tmp_path) as still_not:
                assert not still_not
        finally:
            holder.kill()
    with claimed(tmp_path) as mine:
        assert mine
        told = subprocess.run(command, input="\n", capture_output=True, text=True, check=True).stdout
        assert told == "False\n"


def test_the_table_is_the_mean_over_seeds_and_of_their_bounds(tmp_path):
    greedy = [evaluated(0.25, 0.125, -0.05, 0.3, 1.5), evaluated(0.5, 0.25, 0.1, 0.4, 2.0)]
    sampled = [evaluated(0.1, -0.125, -0.5, -0.01, 7.0), evaluated(0.2, -0.25, -0.4, 0.02, 7.0)]
    for seed, minutes in ((0, 2.0), (2, 5.0)):
        of = {"greedy": greedy[seed // 2], "sampled": sampled[seed // 2], "seconds": {"cpu": 60 * minutes}}
        write(tmp_path, "price", seed, **of)
    write(tmp_path, "text-only", 1, greedy=greedy[0], sampled=sampled[0], seconds={"cpu": 30.0})
    write(tmp_path, "no-experiment", 0)
    header, rule, *rows = [line for line in table(tmp_path).splitlines() if line.startswith("|")]
    assert header.count("|") == rule.count("|") == rows[0].count("|") == 10
    assert rows == [
        "| text-only | 1 | 0.250 | +0.125 [-0.050, +0.300] | 1.50 | 0.100 | -0.125 [-0.500, -0.010] | 7.00 | 0.5 |",
        "| price | 2 | 0.375 | +0.188 [+0.025, +0.350] | 1.75 | 0.150 | -0.188 [-0.450, +0.005] | 7.00 | 3.5 |",
    ]


def test_without_cells_the_table_is_its_head(tmp_path):
    lines = table(tmp_path / "nowhere").splitlines()
    assert [line.startswith("|") for line in lines[:3]] == [True, True, False] and "make experiments" in lines[-1]


def test_the_table_is_printed(place, capsys):
    write(
        place.results,
        "price",
        0,
        **dict.fromkeys(("greedy", "sampled"), evaluated(0.1, 0, 0, 0, 1)),
        seconds={"cpu": 0},
    )
    assert main(["table"]) == 0
    assert capsys.readouterr().out == table(place.results) + "\n" and place.commands == []


@pytest.mark.parametrize("words", ["tables", "table 0", "price", "price -1", "price a", "start 0", "price 0 1"])
def test_wrong_arguments_are_refused(words, place, capsys):
    assert main(words.split()) == 1
    assert f"and a seed, got {words}." in capsys.readouterr().err
    assert place.commands == [] and not place.work.exists()


def test_the_next_missing_cell_is_run_and_its_failure_is_told(place):
    write(place.results, *missing(place.results, EXPERIMENTS, SEEDS)[0])
    assert main([]) == 7
    (command,) = place.commands
    assert command == [f"+experiment={EXPERIMENTS[1]}", "seed=0", f"out={place.work / EXPERIMENTS[1] / '0'}"]
    assert main(["price", "12"]) == 7 and place.commands[-1][:2] == ["+experiment=price", "seed=12"]
    assert not path_of(place.results, EXPERIMENTS[1], 0).exists()


def test_a_cell_that_somebody_is_at_is_passed_over(place, capsys):
    with claimed(place.work / EXPERIMENTS[0] / "0"):
        assert main([EXPERIMENTS[0], "0"]) == 1 and "somebody is at this cell" in capsys.readouterr().err
        assert main([]) == 7
    assert [command[:2] for command in place.commands] == [[f"+experiment={EXPERIMENTS[1]}", "seed=0"]]


def test_with_every_cell_there_nothing_is_run(place, capsys):
    for cell in missing(place.results, EXPERIMENTS, SEEDS):
        write(place.results, *cell)
    assert main([]) == 0
    assert "every cell is there" in capsys.readouterr().out and place.commands == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_settings_of_nano_that_differ_in_what_is_learnt_alone(experiment):
    found = composed(f"+experiment={experiment}", "seed=2")
    assert found.seed == 2 and found.policy["name"] == "bagel-nano" and found.gradient_accumulation(1) == 2
    cell = composed("+experiment=cell", "seed=2")
    changed = {name for name in Settings.__slots__ if getattr(found, name) != getattr(cell, name)}
    assert changed <= {"text", "flow", "credit", "reward", "lora", "prefix"}


def test_experiments_learn_and_credit_what_their_names_say():
    found = {name: composed(f"+experiment={name}") for name in EXPERIMENTS}
    coefs = {name: (each.text.coef, each.flow.coef, each.lora.experts) for name, each in found.items()}
    assert coefs.pop("text-only") == (1.0, 0.0, "und") and coefs.pop("image-only") == (0.0, 1.0, "gen")
    assert set(coefs.values()) == {(1.0, 1.0, "both")}
    credits = {name: found[name].credit.name for name in EXPERIMENTS if name.startswith("joint-")}
    assert all(name == f"joint-{credit}" for name, credit in credits.items())
    assert [name for name, each in found.items() if each.credit.price] == ["price"]


def test_who_is_refused_leaves_the_holders_name(tmp_path):
    with claimed(tmp_path), claimed(tmp_path) as second:
        assert not second and (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
