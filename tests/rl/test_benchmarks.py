"""Benchmarks by the command: knowledge, WISE and GenEval, judged here or by a server, resumed, in Ray's hands."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs.scenes.graph import TAGS
from strokes.envs.scenes.knowledge import knowledge_items
from strokes.envs.scenes.tasks import heldout
from strokes.rewards.geneval_folder import GenevalFolder
from strokes.rewards.geneval_prompts import geneval_prompts, to_jsonl
from strokes.rewards.geneval_results import read_results
from strokes.rewards.knowledge import KnowledgeJudge
from strokes.rewards.question import Verdict
from strokes.rewards.wise import CATEGORIES
from strokes.rl import benchmark_settings, evaluate, evaluation_run
from strokes.rl.evaluation_folder import EvaluationFolder
from strokes.rl.geneval_benchmark import Geneval

sys.path.insert(0, str(Path(__file__).parents[1] / "rewards"))  # for the server that tells the truth

from truthful import MODEL, Truthful


@pytest.fixture
def strokes_evaluate(monkeypatch, tmp_path):
    """Runs the command as the shell would, in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["strokes-evaluate", "policy=random", "size=48", *arguments])
        return evaluate.main()

    return call


PRICED = (f"judge.model={MODEL}", f"+judge.prices.{MODEL}={{input: 1, output: 4}}", "judge.backoff_s=0.01")


@pytest.fixture
def server():
    with Truthful() as truthful:
        yield truthful


def metrics(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def test_knowledge_is_scored_as_wise_is(strokes_evaluate, tmp_path):
    assert strokes_evaluate("benchmark=knowledge", "limit=2", "out=run") == 0
    found = metrics("run")
    assert [row["category"] for row in found["wise"]["rows"]] == list(CATEGORIES)
    assert all(row["prompts"] == row["images"] == 2 for row in found["wise"]["rows"])
    assert set(found["wise"]["overall"]) == {"official_weighted", "bagel_unweighted"}
    ids = {item.prompt_id for item in knowledge_items("heldout", 2)}
    assert {int(path.stem) for path in (tmp_path / "run" / "images").glob("*.png")} == ids
    table = (tmp_path / "run" / "table.md").read_text()
    assert "Overall WiScore (wise_v1)" in table and found["rows"][-1]["strict"] is not None
    assert "out" not in found["settings"] and "seconds" not in found["conduct"][0]


def test_a_server_that_tells_the_truth_gives_the_same_metrics_and_is_asked_once(strokes_evaluate, server):
    remote = ("benchmark=knowledge", "limit=2", "benchmark.judge=remote", f"judge.base_url={server.url}", *PRICED)
    assert strokes_evaluate("benchmark=knowledge", "limit=2", "out=exact") == 0
    assert strokes_evaluate(*remote, "out=remote") == 0
    assert metrics("remote")["wise"] == metrics("exact")["wise"]
    asked = server.counts["all"]
    assert asked == 12  # one for each image
    assert strokes_evaluate(*remote, "out=remote") == 0
    assert server.counts["all"] == asked


class Fails(KnowledgeJudge):
    """Has no verdict on the first images it is asked about."""

    left = 3
    asked = 0

    def ask(self, requests):
        verdicts = super().ask(requests)
        for k in range(len(verdicts)):
            Fails.asked += 1
            if Fails.left:
                Fails.left -= 1
                verdicts[k] = Verdict(status="timeout", error="60 s")
        return verdicts


def test_what_a_judge_failed_on_is_missing_and_asked_about_again(strokes_evaluate, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_settings, "KnowledgeJudge", Fails)
    monkeypatch.setattr(Fails, "left", 3)
    monkeypatch.setattr(Fails, "asked", 0)
    assert strokes_evaluate("benchmark=knowledge", "limit=2", "out=run") == 0
    first = metrics("run")["wise"]
    assert set(first["missing"].values()) == {"timeout: 60 s"}
    assert capsys.readouterr().err == "not judged: timeout: 60 s\n"  # once
    assert len(first["missing"]) == 3 and first["overall"] == {"official_weighted": None, "bagel_unweighted": None}
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "transcripts").rglob("*") if path.is_file()}
    assert strokes_evaluate("benchmark=knowledge", "limit=2", "out=run") == 0
    assert Fails.asked == 12 + 3 and metrics("run")["wise"]["missing"] == {}
    assert drawn == {path: path.stat().st_mtime_ns for path in drawn}  # nothing was drawn again
    assert strokes_evaluate("benchmark=knowledge", "limit=2", "out=whole") == 0
    assert metrics("run") == metrics("whole")


class Tired(ScriptedPainter):
    """Stops after some calls; errs sometimes."""

    left = -1

    def __init__(self):
        super().__init__(Habits(error_rate=0.5, plan_error_rate=0.3))

    def act(self, sessions, masks):
        Tired.left -= 1
        if Tired.left == 0:
            raise KeyboardInterrupt
        return super().act(sessions, masks)


OWN = ("benchmark.metadata=../own.jsonl", "detector=miniworld", "num_samples=2")
"""GenEval with prompts that can be drawn and seen."""


def own_prompts(path):
    """Tasks of the mini-world as GenEval's metadata."""
    tasks = [next(task for task in heldout() if task.tag == tag) for tag in TAGS[:6]]
    path.write_text(to_jsonl([{**task.meta, "tag": task.tag, "prompt": task.prompt} for task in tasks]))


@pytest.mark.parametrize("benchmark", [("knowledge",), ("geneval", *OWN), ("scenes",)])
def test_a_killed_run_ends_with_the_metrics_of_one_that_was_not(strokes_evaluate, monkeypatch, tmp_path, benchmark):
    name, *options = benchmark
    own_prompts(tmp_path.parent / "own.jsonl")
    monkeypatch.setattr(evaluation_run, "load_policy", lambda *args, **kwargs: Tired())
    arguments = (f"benchmark={name}", "limit=2", "batch=2", *options)
    monkeypatch.setattr(Tired, "left", -1)
    assert strokes_evaluate(*arguments, "out=whole") == 0
    calls = -1 - Tired.left
    monkeypatch.setattr(Tired, "left", calls // 2)
    with pytest.raises(KeyboardInterrupt):
        strokes_evaluate(*arguments, "out=run")
    assert 0 < len(EvaluationFolder("run").drawings()) < len(EvaluationFolder("whole").drawings())
    assert strokes_evaluate(*arguments, "out=run") == 0
    assert Path("run/metrics.json").read_bytes() == Path("whole/metrics.json").read_bytes()


def test_a_run_that_was_killed_while_it_was_judged_is_judged_and_not_drawn_again(
    strokes_evaluate, monkeypatch, tmp_path
):
    own_prompts(tmp_path / "own.jsonl")
    own = ("benchmark=geneval", "benchmark.metadata=own.jsonl", "detector=miniworld", "num_samples=1", "batch=1")
    assert strokes_evaluate(*own, "policy=scripted", "policy.error_rate=0.5", "out=whole") == 0
    judge, calls = Geneval.judge, []

    def killed(*arguments):
        calls.append(1)
        marked = judge(*arguments)  # the results of the benchmark are on the disk
        if len(calls) == 3:
            raise KeyboardInterrupt
        return marked

    monkeypatch.setattr(Geneval, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        strokes_evaluate(*own, "policy=scripted", "policy.error_rate=0.5", "out=run")
    drawn = EvaluationFolder("run").drawings()
    assert len(drawn) == 3 and [drawing.lacks_marks for drawing in drawn] == [False, False, True]
    assert strokes_evaluate(*own, "policy=random", "out=run") == 1  # another policy would be given its marks
    assert strokes_evaluate(*own, "policy=scripted", "policy.error_rate=0.5", "out=run") == 0
    assert len(calls) == 7  # one for each chunk, and the one that was interrupted
    assert Path("run/metrics.json").read_bytes() == Path("whole/metrics.json").read_bytes()
    assert Path("run/geneval.jsonl").read_bytes() == Path("whole/geneval.jsonl").read_bytes()


def test_a_results_file_that_was_cut_is_made_whole_again(strokes_evaluate, tmp_path):
    own_prompts(tmp_path / "own.jsonl")
    own = ("benchmark=geneval", "benchmark.metadata=own.jsonl", "detector=miniworld", "policy=scripted", "out=run")
    assert strokes_evaluate(*own, "num_samples=1") == 0
    results, whole = Path("run/geneval.jsonl"), Path("run/geneval.jsonl").read_bytes()
    results.write_bytes(whole[: len(whole) // 2])
    assert strokes_evaluate(*own, "num_samples=1") == 0
    assert results.read_bytes() == whole


def test_prompts_that_occur_again_are_drawn_again_and_not_too_often(strokes_evaluate, tmp_path, capsys):
    own_prompts(tmp_path / "own.jsonl")
    lines = (tmp_path / "own.jsonl").read_text().splitlines(True)
    own = ("benchmark=geneval", "benchmark.metadata=again.jsonl", "policy=scripted", "num_samples=1")
    (tmp_path / "again.jsonl").write_text("".join(lines[:1] * 4))
    assert strokes_evaluate(*own, "detector=miniworld", "out=run") == 0
    names = [sample.filename for sample in GenevalFolder(tmp_path / "run" / "images").samples()]
    assert names == [f"0000{k}/samples/0000.png" for k in range(4)] and metrics("run")["geneval"]["images"] == 4
    (tmp_path / "again.jsonl").write_text("".join(lines[:1] * 5))
    assert strokes_evaluate(*own, "out=more") == 1
    assert "each prompt at most 4 times" in capsys.readouterr().err


def test_geneval_writes_the_official_layout_and_says_what_scores_are_worth(strokes_evaluate, tmp_path):
    assert strokes_evaluate("benchmark=geneval", "detector=miniworld", "limit=1", "num_samples=2", "out=run") == 0
    samples = list(GenevalFolder(tmp_path / "run" / "images").samples())
    prompts = geneval_prompts()
    assert [sample.filename for sample in samples[:3]] == [
        "00000/samples/0000.png",
        "00000/samples/0001.png",
        "00080/samples/0000.png",
    ]
    assert [sample.metadata for sample in samples[::2]] == [prompts[k] for k in (0, 80, 179, 259, 353, 453)]
    assert len(read_results(tmp_path / "run" / "geneval.jsonl")) == 12
    table = (tmp_path / "run" / "table.md").read_text()
    assert table.startswith("**These scores mean nothing**")
    assert "**The detector knows none of 80 of the 80 classes**" in table
    assert metrics("run")["geneval"]["images"] == 12 and metrics("run")["geneval"]["overall"] == 0


def test_without_a_detector_the_images_are_written_and_nothing_is_judged(strokes_evaluate, tmp_path):
    assert strokes_evaluate("benchmark=geneval", "limit=1", "num_samples=1", "out=run") == 0
    assert len(list(GenevalFolder(tmp_path / "run" / "images").samples())) == 6
    found = metrics("run")
    assert found["geneval"] is None and found["rows"][-1]["official"] is None
    assert "No detector looked at them" in (tmp_path / "run" / "table.md").read_text()


def test_prompts_of_the_mini_world_in_geneval_form_are_drawn_and_seen_right(strokes_evaluate, tmp_path):
    own_prompts(tmp_path / "own.jsonl")
    own = ("benchmark=geneval", "benchmark.metadata=own.jsonl", "detector=miniworld", "policy=scripted")
    assert strokes_evaluate(*own, "num_samples=2", "out=run") == 0
    found = metrics("run")
    assert found["geneval"]["overall"] == 1 and found["rows"][-1]["strict"]["mean"] == 1
    assert (tmp_path / "run" / "table.md").read_text().startswith("| task |")  # nothing to be warned of


def test_wise_reads_its_prompts_from_where_they_are(strokes_evaluate, server, tmp_path):
    items = knowledge_items("heldout", 1)
    starts = {"CULTURE": 1, "TIME": 401, "SPACE": 568, "BIOLOGY": 701, "PHYSICS": 801, "CHEMISTRY": 901}
    rows = [{**item.to_json(), "prompt_id": starts[item.category]} for item in items]
    (tmp_path / "wise.json").write_text(json.dumps(rows))
    judge = (f"judge.base_url={server.url}", *PRICED)
    assert strokes_evaluate("benchmark=wise", "benchmark.path=wise.json", *judge, "out=run") == 0
    found = metrics("run")
    assert [row["images"] for row in found["wise"]["rows"]] == [1] * 6 and not found["wise"]["missing"]
    assert found["rows"][-1]["official"] is None  # the exact world knows nothing of these prompts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benchmark=wise"], "Expected benchmark.path, WISE's prompts as downloaded"),
        (["benchmark=wise", "benchmark.protocol=v3"], "benchmark.protocol among wise_v1, wise_verified, got 'v3'"),
        (["benchmark=wise", "benchmark.path=/nowhere.json"], "/nowhere.json"),
        (["benchmark=knowledge", "benchmark.judge=me"], "benchmark.judge to be exact or remote, got 'me'"),
        (["benchmark=geneval", "benchmark.metadata=bad.jsonl"], "bad.jsonl:2"),
        (["workers=2"], "Expected threads with workers"),
        (["workers=-1"], "workers to be an integer of at least 0"),
        (["policy=best-of-n", "policy.judge=coin"], "policy.judge among scene, verifier, remote, exact, policy, got"),
        (["policy=beam", "heeds_refine=false"], "heeds_refine=true with a search, got policy=beam"),
        (["policy=planner", "judge.base_url=ftp://x"], "judge.base_url to begin with http"),
        (["detector=camera"], "Expected detector to be one of"),
        (["detector=miniworld"], "Expected detector=miniworld with benchmark=geneval alone"),
        (["benchmark=geneval", "detector=miniworld", "detector.rule={size: 3}"], "detector.rule with names of"),
    ],
)
def test_bad_input_is_answered_in_one_line(strokes_evaluate, tmp_path, capsys, arguments, words):
    (tmp_path / "bad.jsonl").write_text(to_jsonl(geneval_prompts()[:1]) + '{"tag": "taste", "prompt": "x"}\n')
    assert strokes_evaluate(*arguments, "limit=1", "out=run") == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_a_server_that_is_down_ends_the_run_and_nothing_is_lost(strokes_evaluate, server, capsys, tmp_path):
    run = ("benchmark=knowledge", "limit=2", "batch=2", "benchmark.judge=remote", *PRICED, "out=run")
    dead = ("judge.base_url=http://127.0.0.1:9/v1", "judge.retries=0", "judge.max_failures=1")
    assert strokes_evaluate(*run, *dead) == 1
    message = capsys.readouterr().err
    assert "127.0.0.1:9" in message and message.count("\n") == 1
    assert strokes_evaluate(*run, f"judge.base_url={server.url}") == 0  # the same run, another address
    assert metrics("run")["wise"]["missing"] == {}


@pytest.mark.slow
def test_workers_of_ray_draw_the_same(strokes_evaluate):
    arguments = ("policy=bagel-nano", "benchmark=knowledge", "limit=2", "batch=3", "threads=1")
    assert strokes_evaluate(*arguments, "out=local") == 0
    assert strokes_evaluate(*arguments, "workers=2", "out=ray") == 0
    assert Path("local/metrics.json").read_bytes() == Path("ray/metrics.json").read_bytes()
    local, ray = (EvaluationFolder(name).transcripts(EvaluationFolder(name).drawings()) for name in ("local", "ray"))
    assert all(np.array_equal(a.canvas, b.canvas) for a, b in zip(local, ray, strict=True))
