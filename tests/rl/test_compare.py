"""Ways to draw are evaluated side by side, once each, and set out with what they cost."""

import csv
import json
import sys

import pytest
from PIL import Image

from strokes.agents.load import NANO
from strokes.agents.scripted import ScriptedPainter
from strokes.rl import compare, evaluation_run
from strokes.rl.evaluation_folder import EvaluationFolder

ALONE = ("~entries", "+entries={plain: {policy: scripted}, wild: {policy: random}}")
"""Two entries that need no model."""


@pytest.fixture
def strokes_compare(monkeypatch, tmp_path):
    """Runs the command as the shell would, in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["strokes-compare", *arguments])
        return compare.main()

    return call


@pytest.fixture
def loaded(monkeypatch):
    """A painter of scenes for every policy, what it was asked to be, and a way to make one fail after some calls."""

    class Counted(ScriptedPainter):
        asked, limit = [], None

        def act(self, sessions, masks):
            if Counted.limit is not None and not Counted.limit:
                raise KeyboardInterrupt
            Counted.limit = None if Counted.limit is None else Counted.limit - 1
            return super().act(sessions, masks)

    def load(policy, **kwargs):
        Counted.asked.append(policy)
        return Counted()

    monkeypatch.setattr(evaluation_run, "load_policy", load)
    monkeypatch.setattr(evaluation_run, "matched", lambda *_: None)
    monkeypatch.setattr(compare, "draw_plot", lambda *_: None)
    return Counted


def tags(folder):
    return {drawing.task for drawing in EvaluationFolder(folder).drawings()}


def rows(folder):
    with (folder / "table.csv").open() as file:
        return {(row["entry"], row["task"]): row for row in csv.DictReader(file)}


def test_entries_and_seeds_are_evaluations_and_a_table(strokes_compare, tmp_path, capsys):
    assert strokes_compare(*ALONE, "limit=1", "seeds=[0,3]", "out=both") == 0
    folder = tmp_path / "both"
    assert [EvaluationFolder(folder / "wild" / seed).settings()["seed"] for seed in "03"] == [0, 3]
    found = rows(folder)
    assert len(found) == 16 and {row["seeds"] for row in found.values()} == {"2"}
    assert float(found["plain", "overall"]["strict"]) == 1 > float(found["wild", "overall"]["strict"])
    assert [found["plain", task]["drawings"] for task in ("position", "overall")] == ["2", "14"]
    table = (folder / "table.md").read_text()
    assert table in capsys.readouterr().out and "| plain | 2 | 1.000 | 1.000 | 1.000, 1.000 |" in table
    with Image.open(folder / "plot.png") as plot:
        assert min(plot.size) > 300 and len(plot.convert("L").getcolors()) > 10


def test_a_killed_comparison_goes_on_and_a_finished_one_draws_nothing(strokes_compare, loaded, tmp_path):
    arguments = (*ALONE, "limit=1", "batch=1", "out=run")
    loaded.limit = 60
    with pytest.raises(KeyboardInterrupt):
        strokes_compare(*arguments)
    kept = {name: EvaluationFolder(tmp_path / "run" / name / "0").drawings() for name in ("plain", "wild")}
    assert len(kept["plain"]) == 7 and 0 < len(kept["wild"]) < 7
    assert set(rows(tmp_path / "run")) == {("plain", task) for task in (*tags(tmp_path / "run/plain/0"), "overall")}
    loaded.limit = None
    loaded.asked.clear()
    assert strokes_compare(*arguments) == 0
    assert [policy["name"] for policy in loaded.asked] == ["random"]
    after = EvaluationFolder(tmp_path / "run/wild/0").drawings()
    assert len(after) == 7 and [d.id for d in after[: len(kept["wild"])]] == [d.id for d in kept["wild"]]
    table = (tmp_path / "run" / "table.md").read_text()
    loaded.limit = 0
    assert strokes_compare(*arguments) == 0 and (tmp_path / "run" / "table.md").read_text() == table


def test_an_entry_that_is_added_is_drawn_alone(strokes_compare, loaded, tmp_path):
    assert strokes_compare(*ALONE, "only=[plain]", "limit=1", "out=run") == 0
    loaded.asked.clear()
    assert strokes_compare(*ALONE, "limit=1", "out=run") == 0
    assert [policy["name"] for policy in loaded.asked] == ["random"]


def test_entries_share_the_weights_and_the_sampling_of_one_policy(strokes_compare, loaded, tmp_path):
    entries = (
        "+entries={a: {}, b: {policy: best-of-n, options: {n: 20, verifier: {name: policy}}}, c: {policy: random}}"
    )
    given = ("policy=bagel", f"policy.path={NANO}", "policy.steps=5", "policy.size=48", "policy.guidance=2.5")
    assert strokes_compare("~entries", entries, *given, "limit=1", "out=run") == 0
    own, search, other = loaded.asked
    assert (own["name"], search["name"], search["n"], search["judge"]) == ("bagel", "best-of-n", 20, "scene")
    assert search["verifier"] == {"name": "policy", "path": None, "adapter": None}
    assert all(own[key] == search[key] for key in ("path", "sampling", "steps", "guidance", "size", "dtype"))
    assert own["path"] == str(NANO) and "path" not in other
    settings = EvaluationFolder(tmp_path / "run/b-oracle/0").settings()
    assert (settings["steps"], settings["guidance"], settings["size"]) == (5, 2.5, 48)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("seed=1",), "Did you mean 'seeds'?"),
        (("policy.path=/nowhere",), "Expected policy.path to be the folder of a checkpoint, got '/nowhere'"),
        (("+entries.x={options: {adapter: 'no/{seed}'}}",), "Expected an adapter in 'no/0'"),
    ],
)
def test_bad_input_is_answered_in_one_line_before_anything_is_drawn(
    strokes_compare, loaded, tmp_path, capsys, arguments, words
):
    assert strokes_compare("out=run", *arguments) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not loaded.asked and not list(tmp_path.rglob("settings.json"))


def test_a_folder_that_was_begun_otherwise_is_told_before_anything_is_drawn(strokes_compare, loaded, tmp_path, capsys):
    assert strokes_compare(*ALONE, "only=[wild]", "limit=1", "out=run") == 0
    loaded.asked.clear()
    capsys.readouterr()
    assert strokes_compare(*ALONE, "limit=2", "out=run") == 1
    assert "Expected limit=1, with which" in capsys.readouterr().err
    assert not loaded.asked and not (tmp_path / "run" / "plain").exists()


@pytest.mark.slow
def test_what_ships_is_compared_by_one_command(strokes_compare, tmp_path):
    assert strokes_compare("limit=1", "threads=1", "out=run") == 0
    found = {name: row for (name, task), row in rows(tmp_path / "run").items() if task == "overall"}
    steps = {name: float(row["steps"]) for name, row in found.items()}
    assert (steps["one-shot"], steps["best-of-3-oracle"], steps["best-of-20-oracle"]) == (12, 36, 240)
    assert steps["parm-20-oracle"] == 240 > steps["parm-pruned-20-oracle"]
    assert steps["parm-pruned-like-20-oracle"] > steps["parm-pruned-20-oracle"]
    for name in ("best-of-like-strokes-oracle", "parm-like-strokes-oracle"):
        assert steps[name] == pytest.approx(steps["strokes"], rel=0.3)
    assert steps["strokes-search-oracle"] == pytest.approx(240, rel=0.2)
    asked = {name: float(row["questions"]) for name, row in found.items()}
    assert asked["one-shot"] == asked["strokes"] == 0
    assert asked["best-of-20-oracle"] == 20 < asked["parm-20-oracle"]
    settings = json.loads((tmp_path / "run/beam-oracle/0/settings.json").read_text())
    assert settings["policy"]["path"] == str(NANO)
