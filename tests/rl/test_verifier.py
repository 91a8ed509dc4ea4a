"""A policy's understanding learns to answer, goes on where it stood, and answers as it learnt."""

import json
import threading
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_module
from safetensors.torch import load_file

from strokes.agents.command import settings_from
from strokes.agents.load import NANO, SHIPPED
from strokes.agents.understanding import Understanding
from strokes.envs.archive import encode_png
from strokes.envs.protocols import Look, Opinion
from strokes.rewards.parm import AnsweringVerifier
from strokes.rl import verifier
from strokes.rl.verifier import train
from strokes.rl.verifier_examples import Example, Examples
from strokes.rl.verifier_report import Report, examine, not_learnt
from strokes.rl.verifier_settings import Settings

SMALL = ("policy=bagel-nano", "batch=8", "micro_batch=4", "lr=1e-2", "epochs=1")
SMALL += ("save_every=2", "log_every=1", "keep=20", "policy.dtype=float32")


def settings(*overrides, out="unused"):
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("verifier", [*SMALL, *overrides, f"out={out}"])
    return settings_from(config, Settings, "verifier")


def test_a_question_that_may_as_well_be_guessed_is_not_learnt():
    class Guesses:
        """Knows outcomes; says of all else what has nothing to do with it."""

        def ask(self, question, looks):
            p = [float(look.image[0, 0, 0 if question == "outcome" else 1]) / 255 for look in looks]
            return [Opinion(said=each >= 0.5, p_yes=each, p_no=1 - each) for each in p]

    rng, examples = np.random.default_rng(0), []
    for k in range(120):
        image = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        question = ("outcome", "potential")[k % 2]
        label = bool(image[0, 0, 0] > 127)
        examples.append(Example(image=image, question=question, prompt=f"p{k // 4}", label=label, painter="one-shot"))
    report = Report({"after": examine(Guesses(), examples)})
    assert not_learnt(report.looks["after"]) == [("potential", "all"), ("potential", "one-shot")]
    words = "Not learnt, for AUC within prompts may be .5 or is not known: potential, potential of one-shot."
    assert words in report.to_markdown()


def write(path, num, rng):
    """Examples that the picture alone answers: dark ones are right."""
    rows = []
    for k in range(num):
        is_dark = bool(k % 2)
        image = rng.integers(0, 80, (48, 48, 3)) + (0 if is_dark else 170)
        rows.append(
            {
                "image": {"bytes": encode_png(image.astype(np.uint8)), "path": None},
                "question": ("clarity", "potential", "outcome")[k % 3],
                "prompt": f"prompt {k % 7}",
                "label": is_dark,
                "painter": ("one-shot", "strokes")[k // 2 % 2],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    write(folder / "train.parquet", 96, rng)
    write(folder / "test.parquet", 24, rng)
    write(folder / "validation.parquet", 12, rng)
    (folder / "spent.json").write_text('{"drawings": 60, "verdicts": 200, "looks": 90, "seconds": 1000.0}')
    return folder


@pytest.fixture(scope="module")
def learnt(data, tmp_path_factory):
    """The folder of a run that came to its end."""
    out = tmp_path_factory.mktemp("run")
    torch.manual_seed(5)  # nothing depends on what was drawn before
    assert train(settings(f"data={data}", out=out), out)
    return out


def test_it_learns_and_says_how_well(learnt, data):
    metrics, report = json.loads((learnt / "metrics.json").read_text()), (learnt / "report.md").read_text()
    for question in ("clarity", "potential", "outcome"):
        before, after = metrics["before"][question]["all"], metrics["after"][question]["all"]
        assert after["num"] == before["num"] == 8 and after["num_prompts"] == 7
        assert after["brier"]["mean"] < before["brier"]["mean"] - 0.03
        assert f"| {question} | all | before |" in report and f"| {question} | strokes | after |" in report
        painters = metrics["after"][question]
        assert set(painters) == {"all", "one-shot", "strokes"}
        assert painters["one-shot"]["num"] + painters["strokes"]["num"] == 8
        assert metrics["validation"][question]["all"]["num"] == 4
    lines = map(json.loads, (learnt / "log.jsonl").read_text().splitlines())
    lines = list(lines)
    assert (metrics["examples"], metrics["drawings"], metrics["verdicts"], metrics["looks"]) == (96, 60, 200, 90)
    assert metrics["seconds"] == pytest.approx(1000 + metrics["learning_seconds"], abs=0.01)
    assert metrics["learning_seconds"] == lines[-1]["seconds"] > 0
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 4


@pytest.mark.slow
def test_it_learns_to_tell_right_from_wrong(tmp_path):
    """The first dozens of steps go into saying yes or no at all, which bagel-nano never does."""
    rng = np.random.default_rng(1)
    write(tmp_path / "train.parquet", 640, rng)
    write(tmp_path / "test.parquet", 60, rng)
    assert train(settings(f"data={tmp_path}", out=tmp_path / "run"), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for found in (painters["all"] for painters in metrics["after"].values()):
        assert found["auc"]["mean"] > 0.99 and found["accuracy"]["mean"] > 0.9 and found["ece"] < 0.2


def test_the_adapter_answers_as_the_report_says(learnt, data):
    asked = AnsweringVerifier(Understanding.load(NANO, learnt / "adapter"))
    examples = [each for each in Examples(data / "test.parquet") if each.question == "outcome"]
    opinions = asked.ask("outcome", [Look(each.prompt, each.image) for each in examples])
    brier = np.mean([(o.p_yes - each.label) ** 2 for o, each in zip(opinions, examples, strict=True)])
    metrics = json.loads((learnt / "metrics.json").read_text())
    assert brier == pytest.approx(metrics["after"]["outcome"]["all"]["brier"]["mean"], abs=1e-4)
    plain = AnsweringVerifier(Understanding.load(NANO)).ask("outcome", [Look(e.prompt, e.image) for e in examples])
    assert [o.p_yes for o in plain] != [o.p_yes for o in opinions]


@pytest.mark.slow  # trains twice
def test_a_run_that_was_stopped_goes_on_exactly(learnt, data, tmp_path, monkeypatch):
    asked = threading.Event()
    asked.set()
    chosen = settings(f"data={data}", out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(verifier, "stop_requests", lambda: nullcontext(asked))  # after the first step
        assert not train(chosen, tmp_path)
    (tmp_path / "checkpoints" / "checkpoint-5").mkdir()  # as a kill while saving leaves it
    assert train(chosen, tmp_path)
    first, second = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (learnt, tmp_path))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items()) and len(first) == len(second)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and set(steps) == set(range(1, 13))
    assert train(chosen, tmp_path)  # is finished, and says so
    with pytest.raises(ValueError, match="lr"):
        train(settings(f"data={data}", "lr=1e-4", out=tmp_path), tmp_path)


def test_the_whole_of_it_is_one_command(tmp_path, monkeypatch, capsys):
    options = ["drawings.prompts=16", "drawings.members=2", "drawings.scale=1e-4", "drawings.flow_steps=[2]"]
    options += ["num_steps=4", "guidance=1", "policy.name=one-shot", f"policy.path={NANO}", "lr=1e-3"]
    monkeypatch.setattr("sys.argv", ["verifier", *SMALL[1:], *options, f"out={tmp_path}"])
    monkeypatch.chdir(tmp_path)
    assert verifier.main() == 0
    said = capsys.readouterr().out
    assert "64/64 drawings" in said and "| outcome | all | after |" in said and "is finished" in said
    assert {"run.json", "metrics.json", "report.md", "log.jsonl"} <= {path.name for path in tmp_path.iterdir()}
    told = (tmp_path / "data" / "README.md").read_text()
    assert "one-shot, weights" in told and "by one-shot and strokes" in told and "after steps [2] of 4" in told


def test_a_judge_out_of_reach_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    options = ["drawings.prompts=2", "drawings.members=2", "drawings.flow_steps=[]", "num_steps=2"]
    options += ["drawings.judge=remote", "judge.base_url=http://127.0.0.1:9/v1", "judge.model=none", "judge.retries=0"]
    options += ["+judge.prices.none={input: 0, output: 0}", "judge.max_failures=1"]
    monkeypatch.setattr("sys.argv", ["verifier", *SMALL, *options, f"out={tmp_path}"])
    assert verifier.main() == 1
    assert "strokes-verifier: " in capsys.readouterr().err
    assert (tmp_path / "data" / "looks" / "drawn-00000.parquet").exists() and (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("drawings.flow_steps=[12]", r"flow_steps in order, from 1 to num_steps - 1 \(11\)"),
        ("drawings.flow_steps=[4,2]", "flow_steps in order"),
        ("drawings.test=1.0", "shares that leave something to learn from"),
        ("drawings.validation=0.8", "shares that leave something to learn from"),
        ("drawings.painters=[flux]", "painters among one-shot, strokes"),
        ("drawings.painters=[]", "painters among one-shot, strokes"),
        ("policy=bagel", "Expected policy.path, the folder of a BAGEL checkpoint"),
        ("drawings.members=1", "Expected drawings.members to be .* at least 2"),
        ("drawings.judge=nobody", "exact, remote, or 'module:name'"),
        ("batch=18", "multiple of micro_batch, got 18 and 4"),
        ("lora.experts=gen", "lora.experts=und or both"),
        ("policy.name=random", "own understanding can learn"),
        ("lr=-1", "Expected lr to be a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(override, match):
    with pytest.raises(ValueError, match=match):
        settings(override)


@pytest.mark.parametrize("name, weights", [("bagel-nano", NANO), ("bagel-tiny", SHIPPED), ("one-shot", SHIPPED)])
def test_all_painters_draw_with_the_weights_of_the_policy(name, weights):
    made = settings(f"policy={name}")
    assert {made.painter(painter)["path"] for painter in made.drawings.painters} == {str(weights)}


def test_examples_that_are_missing_are_said(tmp_path):
    with pytest.raises(ValueError, match="Expected examples in"):
        Examples(tmp_path / "train.parquet")
    write(tmp_path / "train.parquet", 1, np.random.default_rng(0))
    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match=r"got 0 with.*draw more"):
        Examples(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="Expected examples in"):
        train(settings(f"data={tmp_path / 'nowhere'}", out=tmp_path), tmp_path)
