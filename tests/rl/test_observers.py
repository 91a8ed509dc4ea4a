"""What a run shows of itself: samples, pages, curves, report, alarms."""

import io
import json

import numpy as np
import pytest

from strokes.agents.rollout import chunks, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs.scenes.tasks import heldout
from strokes.rewards.scenes import SceneReward
from strokes.rl.hacking import HackingMonitor, is_hacked
from strokes.rl.observers import Filmstrips, SampleTable
from strokes.rl.run_report import write_run_report


@pytest.fixture(scope="module")
def drawn():
    tasks = [(task.prompt, task.meta) for task in heldout("heldout", 2)]
    (chunk,) = chunks(tasks, seed=0, chunk_size=99)
    return rollout(ScriptedPainter(Habits(error_rate=0.5)), chunk, score_fn=SceneReward())


def _credits(drawn):
    return [np.zeros(len(t.replies), np.float32) for t in drawn]


def test_plain_lines_show_the_best_and_the_worst_every_so_often(drawn):
    stream = io.StringIO()
    table = SampleTable(every=2, num=2, stream=stream)
    for step in range(3):
        assert table.on_rollouts(step, drawn, _credits(drawn)) == {}
    lines = stream.getvalue().splitlines()
    totals = sorted(t.score.total for t in drawn)
    assert len(lines) == 4
    assert lines[0].startswith(f"{totals[-1]:.2f}") and lines[1].startswith(f"{totals[0]:.2f}")


def test_filmstrips_are_a_page_every_so_often(drawn, tmp_path):
    strips = Filmstrips(tmp_path, every=2, num=1)
    for step in (0, 1, 2):
        strips.on_rollouts(step, drawn, _credits(drawn))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.html", "000002.html"]
    worst = min(drawn, key=lambda t: t.score.total)
    assert worst.transcript.prompt in (tmp_path / "000000.html").read_text()


def _noisy(means, seed):
    return (np.array(means) + np.random.default_rng(seed).normal(0, 0.05, len(means))).tolist()


def test_a_policy_that_learns_the_judge_trips_the_alarm():
    up, down = np.linspace(0.5, 0.8, 60), np.linspace(0.5, 0.2, 60)
    for seed in range(20):
        assert is_hacked(_noisy(up, seed), _noisy(down, 100 + seed))


def test_honest_noisy_and_short_runs_do_not_trip_it():
    up, flat = np.linspace(0.5, 0.8, 60), np.full(60, 0.5)
    for seed in range(20):
        assert not is_hacked(_noisy(up, seed), _noisy(up, 100 + seed))
        assert not is_hacked(_noisy(flat[:39], seed), _noisy(flat[:39], 100 + seed))
    assert sum(is_hacked(_noisy(flat, seed), _noisy(flat, 1000 + seed)) for seed in range(400)) <= 4


def test_the_monitor_keeps_both_rewards_and_forgets_steps_that_are_taken_again(drawn, tmp_path):
    monitor = HackingMonitor(tmp_path / "hacking.jsonl", SceneReward(outcome="strict"))
    for step in (0, 1, 2, 1):
        found = monitor.on_rollouts(step, drawn, _credits(drawn))
    assert [line["step"] for line in monitor.history()] == [0, 1]
    strict = np.mean([t.score.terms["strict"] for t in drawn])
    assert found == {"hacking/held_out": pytest.approx(strict), "hacking/alarm": 0.0}


def test_the_report_has_reward_drift_and_the_held_out_set_on_one_page(tmp_path):
    log = [{"step": k, "reward": 0.1 * k, "drift/text_max": 1e-6, "drift/flow_max": 2e-5} for k in range(1, 4)]
    interval = {"mean": 0.4, "low": 0.3, "high": 0.5}
    rows = [{"task": task, "strict": interval, "soft": interval} for task in ("position", "overall")]
    for name, lines in (("log", log), ("heldout", [{"step": 0, "rows": rows}, {"step": 3, "rows": rows}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_run_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page and (tmp_path / "curves.png").stat().st_size > 10_000
    assert "held-out strict 0.400 to 0.400" in page and "drift alarms 0" in page and "position" in page
