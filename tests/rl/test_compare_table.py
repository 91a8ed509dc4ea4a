"""What the table and the plot of a comparison say of made-up drawings, and what training runs tell of themselves."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest

from strokes.rl.compare_plot import draw_plot
from strokes.rl.compare_policy import ORACLE
from strokes.rl.compare_settings import Training
from strokes.rl.compare_table import Line, measured, to_csv, to_markdown
from strokes.rl.compare_training import NOTHING, Learnt, averaged, learnt, learnt_in, together
from strokes.rl.drawings import Drawing


def drawing(task, prompt, strict, number=0, **values):
    facts = dict(id=f"{task}-{prompt}-{number}", chunk=0, seen=False, plans=(), repairs=(), sketches=(), emissions=4)
    facts |= dict(illegal=0, steps=12, nfe=24, tokens=0, calls=0, remote_tokens=0, seconds=0.5, decodes=1, questions=0)
    given = {"official": strict, "strict": strict, **facts, **values}
    return Drawing(task=task, prompt_id=prompt, seed=number, **given)


def line(name, *evaluations, searcher="", learnt=NOTHING):
    return Line(name=name, evaluations=[measured(each) for each in evaluations], searcher=searcher, learnt=learnt)


@pytest.fixture
def lines():
    """A cheap one with two seeds, and a search with one, all of whose questions were counted."""
    cheap = line(
        "cheap",
        [drawing("colors", "a", 1.0), drawing("colors", "b", 0.0), drawing("position", "c", 1.0, steps=24)],
        [drawing("colors", "a", 1.0), drawing("colors", "b", 1.0), drawing("position", "c", None, official=0.0)],
    )
    told = Learnt(drawings=3200, examples=0, seconds=90.0, judge="exact, soft")
    drawn = [
        drawing("colors", "a", 1.0, steps=240, questions=60),
        drawing("position", "c", 0.0, steps=120, questions=30),
    ]
    return [cheap, line("dear", drawn, searcher="exact (oracle)", learnt=told)]


def test_seeds_are_pooled_and_tasks_weigh_the_same(lines):
    scores = lines[0].scores("strict")
    assert (scores["colors"].mean, scores["position"].mean, scores["overall"].mean) == (0.75, 1.0, 0.875)
    assert scores["colors"].low < 0.75 < scores["colors"].high  # two prompts, of which one is always right
    assert lines[0].scores("official")["position"].mean == 0.5
    assert (lines[0].cost("steps", "colors"), lines[0].cost("steps", "position"), lines[0].drawings()) == (12, 18, 6)
    assert lines[0].cost("steps") == 15  # of the tasks, not of the drawings
    assert lines[0].of_the_seeds("strict") == [0.75, 1.0]


def test_a_cost_that_was_not_counted_of_one_drawing_is_not_told():
    old = line("old", [drawing("colors", "a", 1.0), drawing("colors", "b", 1.0, questions=None)])
    assert old.cost("questions") is None and old.cost("nfe") == 24
    assert "| - |" in to_markdown([old], "somebody").splitlines()[2]
    (row, _) = csv.DictReader(StringIO(to_csv([old])))
    assert (row["questions"], row["nfe"]) == ("", "24.0")


def test_the_table_has_a_row_for_each_entry_and_says_who_judged(lines):
    text = to_markdown(lines, "scenes, the truth")
    header, rule, cheap, dear, *_ = text.splitlines()
    assert header.count("|") == rule.count("|") == cheap.count("|") == dear.count("|")
    cells = dict(zip(header.split(" | "), dear.split(" | "), strict=True))
    assert (cells["sampling steps"], cells["judge calls"]) == ("180.0", "45.0")
    assert (cells["drawings learnt from"], cells["examples learnt from"]) == ("3200", "0")
    assert (cells["strict, of the seeds"], cheap.split(" | ")[4]) == ("0.500", "0.750, 1.000")
    assert (cells["training minutes"], cells["searched by"], cells["trained by |"]) == (
        "1.5",
        "exact (oracle)",
        "exact, soft |",
    )
    assert "Judged by: scenes, the truth." in text and "| cheap | 13.5" not in text
    steps = text.split("Sampling steps by task:")[1].strip().splitlines()
    assert steps[0] == "| entry | colors | position |" and steps[2] == "| cheap | 12.0 | 18.0 |"


def test_csv_has_a_row_for_each_task(lines):
    rows = list(csv.DictReader(StringIO(to_csv(lines))))
    assert [(row["entry"], row["task"]) for row in rows] == [
        (name, task) for name in ("cheap", "dear") for task in ("colors", "position", "overall")
    ]
    assert (rows[0]["strict"], rows[0]["drawings"], rows[1]["strict_low"]) == ("0.75", "4", "")
    assert (rows[5]["questions"], rows[5]["training_seconds"], rows[5]["searched_by"]) == (
        "45.0",
        "90.0",
        "exact (oracle)",
    )


def test_a_task_that_an_entry_did_not_draw_is_left_open(lines):
    text = to_markdown([*lines, line("narrow", [drawing("colors", "a", 1.0)])], "somebody")
    assert text.count("| narrow | 1.000 | - |") == 2 and "| narrow | 12.0 | - |" in text


def test_the_plot_has_panels_of_all_tasks_beside_those_of_the_whole(lines, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []

    def errorbar(axis, x, y, **style):
        drawn.append((x[0], y[0], style["label"]))

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    draw_plot(lines, tmp_path / "plot.png")
    overall, tasks = [(15.0, 0.875, "cheap"), (180.0, 0.5, "dear")], [(12.0, 0.75, "cheap"), (240.0, 1.0, "dear")]
    asked = [(0.0, 0.875, "cheap"), (45.0, 0.5, "dear")]
    assert drawn == [*overall, *asked, *tasks, (18.0, 1.0, "cheap"), (120.0, 0.0, "dear")]
    drawn.clear()
    draw_plot(lines[:1], tmp_path / "plot.png")
    assert [x for x, *_ in drawn] == [15.0, 12.0, 18.0]  # nobody was asked


def test_a_search_by_the_truth_has_the_mark_of_the_same_search_by_another_judge(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    styles = {}
    monkeypatch.setattr(Axes, "errorbar", lambda axis, x, y, **style: styles.setdefault(style["label"], style))
    asked = [drawing("colors", "a", 1.0, questions=4)]
    names = ["other", "other-oracle", "beam"]  # of the first two, none searches
    drawn = [*(line(name, asked) for name in names), line("beam-oracle", asked, searcher=ORACLE)]
    draw_plot(drawn, tmp_path / "plot.png")
    marks = {name: (style["fmt"], style["color"]) for name, style in styles.items()}
    assert marks["beam"] == marks["beam-oracle"] and len(set(marks.values())) == 3
    assert [style.get("markerfacecolor") for style in styles.values()] == [None, None, None, "white"]


def test_the_plot_is_a_picture(lines, tmp_path):
    from PIL import Image

    draw_plot(lines, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > plot.height > 300 and len(plot.convert("L").getcolors()) > 10


def test_entries_that_sample_nothing_or_were_not_judged_do_not_break_the_plot(tmp_path):
    drawn = [line("free", [drawing("colors", "a", 1.0, steps=0)]), line("unjudged", [drawing("colors", "a", None)])]
    draw_plot(drawn, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_drawings_of_earlier_versions_are_read():
    record = json.loads(json.dumps(drawing("colors", "a", 1.0).to_record()))
    del record["decodes"], record["questions"]
    old = Drawing.from_record(record)
    assert (old.decodes, old.questions, old.nfe) == (None, None, 24)
    with pytest.raises(ValueError, match="missing or unknown: nfe"):
        Drawing.from_record({key: value for key, value in record.items() if key != "nfe"})


@pytest.fixture
def run(tmp_path):
    """Writes a finished run; gives its folder."""

    def write(name, settings, times=(1.0, 5.0), **metrics):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(settings))
        (folder / "log.jsonl").write_text("".join(json.dumps({"seconds": each}) + "\n" for each in times))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return str(folder)

    return write


SCENE = {"name": "scene", "critic": None, "outcome": "soft", "target": None}
GROUPS = {"steps": 50, "prompts": 8, "group": 4, "judge": {"model": "Qwen"}, "preference": None}


def test_runs_tell_what_they_learnt_from(run):
    rl = run("rl", {**GROUPS, "reward": SCENE}, times=(1.0, 9.0, 2.0, 4.0))  # killed after 9 seconds, and gone on
    assert learnt_in(rl) == Learnt(drawings=1600, examples=0, seconds=13.0, judge="exact, soft")
    verifier = run("verifier", {"drawings": {"judge": "me"}}, examples=300, drawings=80, seconds=70.0)
    told = Learnt(drawings=80, examples=300, seconds=70.0, judge="labels of the verifier: me")
    assert learnt_in(verifier) == told
    sft = run("sft", {"view": "process"}, seconds=7.5)
    assert (learnt_in(sft).drawings, learnt_in(sft).examples, learnt_in(sft).seconds) == (0, None, 7.5)
    remote = {"name": "judge", "critic": "remote", "outcome": None, "target": None}
    assert learnt_in(run("remote", {**GROUPS, "reward": remote})).judge == "Qwen"
    guided = {**GROUPS, "preference": {"guidance": {"adapter": "a"}}, "reward": SCENE}
    assert learnt_in(run("guided", guided)).judge == "exact, soft, guided by a verifier"


@pytest.mark.parametrize(
    ("critic", "adapter", "who"),
    [
        ("exact", None, "exact verifier, the verdict that evaluates scenes"),
        ("policy", None, "own understanding"),
        ("policy", "a", "own understanding, trained"),
        ("remote", None, "Qwen"),
    ],
)
def test_a_verifier_that_judges_learning_is_told(run, critic, adapter, who):
    reward = {"name": "parm", "critic": critic, "adapter": adapter, "outcome": None, "target": None}
    assert learnt_in(run("parm", {**GROUPS, "reward": reward})).judge == who


def test_runs_and_what_is_said_add_up(run):
    rl = run("rl", {**GROUPS, "reward": SCENE})
    assert learnt(None, []) == NOTHING
    said = learnt(Training(drawings=400, seconds=60.0, judge="Qwen"), [rl])
    assert said == Learnt(drawings=2000, examples=0, seconds=65.0, judge="exact, soft, Qwen")
    assert learnt(Training(examples=400), []) == Learnt(drawings=None, examples=400, seconds=None, judge="")
    first = Learnt(drawings=2, examples=8, seconds=1.0, judge="a")
    unknown = Learnt(drawings=None, examples=1, seconds=3.0, judge="")
    assert together([first, unknown]) == Learnt(drawings=None, examples=9, seconds=4.0, judge="a")
    second = Learnt(drawings=4, examples=2, seconds=3.0, judge="a")
    assert averaged([first, second]) == Learnt(drawings=3, examples=5, seconds=2.0, judge="a")


def test_what_learns_from_the_verdict_of_the_evaluation_is_marked(run):
    strict = run("strict", {**GROUPS, "reward": {**SCENE, "outcome": "strict"}})
    labels = run("labels", {"drawings": {"judge": "exact"}}, examples=1)
    for folder in (strict, labels):
        assert learnt_in(folder).judge.endswith("exact, the verdict that evaluates scenes")


def test_a_run_that_is_not_finished_tells_nothing(run):
    rl = run("rl", {**GROUPS, "reward": SCENE})
    (Path(rl) / "metrics.json").unlink()
    with pytest.raises(ValueError, match="folders of finished runs"):
        learnt_in(rl)
