"""A policy is evaluated task by task, in chunks that survive a kill."""

import json
import sys
from pathlib import Path

import pytest

from strokes.agents.scripted import ScriptedPainter
from strokes.agents.trajectory import Trajectory
from strokes.envs import Cost, Emission, Reply, Stage, Transcript
from strokes.envs.scenes import render
from strokes.envs.scenes.render import Object, Scene
from strokes.envs.scenes.tasks import heldout
from strokes.rl import evaluate, evaluation_run
from strokes.rl.conduct import conducts, evaluation
from strokes.rl.drawings import Drawing, Errand, judged, soft_changes
from strokes.rl.evaluation_folder import EvaluationFolder

GOLDEN = Path(__file__).parents[1] / "golden" / "bagel" / "checkpoint"


def drawing(task="position", prompt="a", number=0, **values):
    facts = dict(id=f"{task}-{prompt}-{number}", chunk=0, seen=False, plans=(), repairs=(), sketches=())
    facts |= dict(emissions=4, illegal=0, nfe=0, tokens=0, calls=0, remote_tokens=0, seconds=0.0)
    return Drawing(task=task, prompt_id=prompt, seed=number, **{**facts, **values})


@pytest.fixture
def strokes_evaluate(monkeypatch, tmp_path):
    """Runs the command as the shell would, in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["strokes-evaluate", *arguments])
        return evaluate.main()

    return call


@pytest.fixture
def loaded(monkeypatch):
    """How often a policy was loaded, and a way to make the next one fail after some calls."""

    class Counted(ScriptedPainter):
        calls, limit, started = 0, None, []

        def start(self, transcript, size, seed):
            Counted.started.append(tuple(seed))
            return super().start(transcript, size, seed)

        def act(self, sessions, masks):
            if Counted.limit is not None and not Counted.limit:
                raise KeyboardInterrupt
            Counted.limit = None if Counted.limit is None else Counted.limit - 1
            Counted.calls += 1
            return super().act(sessions, masks)

    Counted.started = []
    monkeypatch.setattr(evaluation_run, "load_policy", lambda *args, **kwargs: Counted())
    return Counted


def test_the_scripted_painter_fulfils_every_task(strokes_evaluate, tmp_path, capsys):
    assert strokes_evaluate("policy=scripted", "limit=2", "batch=5", "out=run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["task"] for row in metrics["rows"]] == [*dict.fromkeys(t.tag for t in heldout()), "overall"]
    assert all(row["strict"]["mean"] == row["official"]["mean"] == row["soft"]["mean"] == 1 for row in metrics["rows"])
    assert metrics["rows"][-1]["drawings"] == 14
    assert metrics["inspections"]["precision"] == metrics["inspections"]["recall"] == 1
    assert metrics["conduct"][-1]["illegal"] == 0
    table = (tmp_path / "run" / "table.md").read_text()
    assert "| single_object (seen) | 2 | 2 | 1.000 [1.000, 1.000] |" in table and "| colors | 2 | 2 |" in table
    printed = capsys.readouterr().out
    assert table in printed and printed.startswith("2/14 drawings: strict 1.000, ")
    assert "the best and the worst of each task" in (tmp_path / "run" / "report.html").read_text()


def test_the_random_policy_is_the_floor(strokes_evaluate, tmp_path):
    assert strokes_evaluate("policy=random", "limit=1", "num_samples=2", "out=run") == 0
    (*_, overall) = json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"]
    assert overall["drawings"] == 14 and overall["strict"]["mean"] < 0.2


@pytest.mark.parametrize(("name", "options", "images"), [("one-shot", (), 1), ("best-of-n", ("policy.n=3",), 3)])
def test_a_model_is_evaluated_by_the_same_command(strokes_evaluate, tmp_path, name, options, images):
    settings = (f"policy={name}", f"policy.path={GOLDEN}", "steps=2", "limit=1", "threads=1")
    assert strokes_evaluate(*settings, *options, "out=run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    overall = metrics["conduct"][-1]
    assert (overall["images"], overall["steps"], metrics["rows"][-1]["drawings"]) == (images, 2 * images, 7)
    assert (overall["plans"], overall["illegal"]) == (None, 0)  # fixed words are not judged


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (("policy=beam", "policy.painter=one-shot", "policy.width=1"), 4),
        (("policy=best-of-n", "policy.n=3", "policy.judge=verifier"), 6),
        (("policy=parm", "policy.n=3", "policy.verifier.name=policy", f"policy.verifier.path={GOLDEN}"), 6),
    ],
)
def test_searches_are_evaluated_by_the_same_command(strokes_evaluate, tmp_path, options, steps):
    settings = (f"policy.path={GOLDEN}", "steps=2", "limit=1", "benchmark=scenes", "threads=1")
    assert strokes_evaluate(*options, *settings, "out=run") == 0
    overall = json.loads((tmp_path / "run" / "metrics.json").read_text())["conduct"][-1]
    assert (overall["steps"], overall["plans"], overall["inspections"]["judged"]) == (steps, None, 0)
    begun = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert ("verifier_path" in begun) == ("policy.verifier.name=policy" in options)


def test_a_model_that_never_draws_has_drawn_blank_canvases(strokes_evaluate, tmp_path):
    settings = ("policy=bagel-tiny", f"policy.path={GOLDEN}", "policy.max_tokens=1", "steps=2", "limit=1")
    assert strokes_evaluate(*settings, "out=run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    overall = metrics["rows"][-1]
    assert (overall["strict"]["mean"], overall["images"], overall["unjudged"]) == (0, 0, 0)
    assert metrics["conduct"][-1]["illegal"] == 1


def test_two_evaluations_are_compared_pair_by_pair(strokes_evaluate, tmp_path, capsys):
    for policy in ("scripted", "random"):
        assert strokes_evaluate(f"policy={policy}", "limit=1", "out=" + policy) == 0
    capsys.readouterr()
    assert strokes_evaluate("compare=[scripted,random]", "out=both") == 0
    printed = capsys.readouterr().out
    assert "First: scripted in scripted (0.0 sampling steps per drawing)." in printed
    record = json.loads((tmp_path / "both" / "compare.json").read_text())
    rows = {row["task"]: row for row in record["comparisons"]["strict"]["rows"]}
    assert rows["overall"]["pairs"] == 7 and rows["overall"]["difference"]["mean"] > 0.8
    assert rows["position, color_attr, composition"]["pairs"] == 3
    assert (tmp_path / "both" / "table.md").read_text() in printed


def test_a_killed_evaluation_goes_on_where_it_stood(strokes_evaluate, loaded, tmp_path):
    assert strokes_evaluate("limit=2", "batch=4", "out=whole") == 0
    whole, loaded.started[:] = EvaluationFolder(tmp_path / "whole").drawings(), []
    loaded.limit = 20
    with pytest.raises(KeyboardInterrupt):
        strokes_evaluate("limit=2", "batch=4", "out=run")
    kept = EvaluationFolder(tmp_path / "run").drawings()
    assert kept and len(kept) % 2 == 0 and len(kept) < 14
    with open(tmp_path / "run" / "results.jsonl", "a") as file:  # a chunk that was being written
        file.write((tmp_path / "whole" / "results.jsonl").read_text().splitlines(True)[len(kept)] + '{"task": "pos')
    loaded.limit, loaded.started[:] = None, []
    assert strokes_evaluate("limit=2", "batch=4", "out=run") == 0
    assert len(loaded.started) == 14 - len(kept)
    resumed = EvaluationFolder(tmp_path / "run").drawings()
    assert [(d.id, d.strict, d.images) for d in resumed] == [(d.id, d.strict, d.images) for d in whole]
    assert [t.emissions for t in EvaluationFolder(tmp_path / "run").transcripts(resumed)] == [
        t.emissions for t in EvaluationFolder(tmp_path / "whole").transcripts(whole)
    ]


def test_a_finished_evaluation_is_only_shown_again(strokes_evaluate, loaded, tmp_path):
    assert strokes_evaluate("limit=1", "out=run") == 0
    table = (tmp_path / "run" / "table.md").read_text()
    (tmp_path / "run" / "table.md").unlink()
    calls = loaded.calls
    assert strokes_evaluate("limit=1", "out=run") == 0
    assert loaded.calls == calls and (tmp_path / "run" / "table.md").read_text() == table


def test_other_settings_are_refused_in_the_same_folder(strokes_evaluate, tmp_path, capsys):
    assert strokes_evaluate("limit=1", "out=run") == 0
    for change in ("seed=1", "policy=random", "batch=3"):
        assert strokes_evaluate("limit=1", change, "out=run") == 1
        message = capsys.readouterr().err
        assert "was begun" in message and "another out" in message and message.count("\n") == 1


def test_weights_that_changed_are_refused(strokes_evaluate, loaded, tmp_path, capsys):
    weights = tmp_path / "checkpoint" / "ema.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    arguments = ("policy=bagel", f"policy.path={weights.parent}", "limit=1", "size=48", "out=run")
    assert strokes_evaluate(*arguments) == 0
    weights.write_bytes(b"two")
    assert strokes_evaluate(*arguments) == 1
    assert "checkpoint=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policy=scriptd"], "Did you mean 'scripted'?"),
        (["benchmark=scene"], "Did you mean 'scenes'?"),
        (["split=test"], "Expected split 'train' or 'heldout', got 'test'"),
        (["limt=3"], "Did you mean 'limit'?"),
        (["limit=0"], "limit to be an integer of at least 1, got 0"),
        (["batch=x"], "batch to be an integer"),
        (["size=50"], "multiple of 16"),
        (["guidance=-1"], "guidance"),
        (["compare=a"], "compare=[first,second]"),
        (["compare=[a,b]"], "Expected a folder that strokes-evaluate wrote, got 'a'"),
        (["policy=bagel", "policy.path=/nowhere"], "/nowhere"),
        (["out=file/deeper"], "can be written"),
    ],
)
def test_bad_input_is_answered_in_one_line(strokes_evaluate, tmp_path, capsys, arguments, words):
    (tmp_path / "file").touch()
    assert strokes_evaluate("limit=1", "out=run", *arguments) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (tmp_path / "run" / "settings.json").exists()  # the mistake is mended in the same folder


def test_a_prompt_has_its_own_noise_however_much_is_evaluated(strokes_evaluate, loaded, tmp_path):
    assert strokes_evaluate("limit=1", "num_samples=2", "seed=7", "out=few") == 0
    few, loaded.started[:] = set(loaded.started), []
    assert strokes_evaluate("limit=5", "seed=7", "out=many") == 0
    assert len(few) == 14 and len(few & set(loaded.started)) == 7
    assert {seeds[0] for seeds in few} == {7}


def test_every_drawing_of_an_evaluation_has_its_own_noise():
    errands = [Errand(task=task, sample=sample) for task in heldout() for sample in range(2)]
    assert len({errand.episode(0).seed for errand in errands}) == len(errands)
    assert len({(e.task.tag, e.task.prompt, e.number) for e in errands}) == len(errands)


def test_a_drawing_survives_its_record():
    one = drawing(inspections=((True, False),), refinements=(0.5,), plans=(1.0,), sketches=(0.25,), strict=1.0)
    assert Drawing.from_record(json.loads(json.dumps(one.to_record()))) == one
    with pytest.raises(ValueError, match="unknown: depth"):
        Drawing.from_record({**one.to_record(), "depth": 3})


def test_a_refinement_is_judged_by_the_soft_score_before_and_after():
    task = next(t for t in heldout() if t.prompt == "a blue square")
    red, blue = (render(Scene((Object("square", color, 24.0, 24.0, 8.0),), 48)) for color in ("red", "blue"))
    transcript = Transcript(prompt=task.prompt, size=48, meta=task.meta)
    plan = Emission(Stage.PLAN, "<ins>add a blue square in the middle</ins><des>a blue square</des>")
    fix = Emission(Stage.INSPECT, "the square is red <refine>paint the square blue</refine>")
    drawn = [plan, Emission(Stage.SKETCH, red), fix, Emission(Stage.REFINE, blue), Emission(Stage.STOP, "")]
    assert [transcript.record(emission) for emission in drawn] == [""] * 5
    assert soft_changes(transcript, task.meta) == (0.5,)
    replies = [Reply(emission=e, cost=Cost(steps=12, nfe=24) if e.stage.is_image else Cost()) for e in drawn]
    trajectory = Trajectory(transcript=transcript, replies=replies)
    one = judged(Errand(task=task, sample=1), trajectory, chunk=3, seconds=0.5)
    assert (one.strict, one.soft, one.images, one.steps, one.nfe, one.seed, one.chunk) == (1, 1, 2, 24, 48, 4, 3)
    assert one.refinements == (0.5,) and transcript.score == 1


def test_how_drawings_came_about_is_counted_by_hand():
    rows = conducts(
        [
            drawing(plans=(1.0, 0.0), sketches=(1.0, 0.5), inspections=((True, True), (True, False)), illegal=1),
            drawing(prompt="b", plans=(1.0,), sketches=(), inspections=((False, True),), refinements=(0.5, -0.1, 0.0)),
            drawing(task="colors", prompt="c", nfe=10, repairs=(0.5, 0.0), emissions=8),
        ]
    )
    position, colors, overall = rows
    assert [row.task for row in rows] == ["position", "colors", "overall"]
    assert (position.plans, position.sketches, position.illegal) == (pytest.approx(2 / 3), 0.5, 0.125)
    assert (position.inspections.precision, position.inspections.recall) == (0.5, 0.5)
    assert (position.refinements.helped, position.refinements.hurt) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (colors.plans, colors.repaired, colors.nfe, overall.nfe) == (None, 0.5, 10, pytest.approx(10 / 3))
    assert str(colors).startswith("| colors | - | - | 0 | - | - | 0 | - |")


def test_tasks_that_training_draws_too_are_marked():
    table = evaluation([drawing(task="counting", seen=True, strict=1.0), drawing(prompt="b", strict=0.0)])
    assert "| counting (seen) | 1 |" in table.to_markdown() and "| position | 1 |" in table.to_markdown()
    assert table.to_dict()["seen"] == ["counting"]
