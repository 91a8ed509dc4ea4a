"""What can be compared, in which order, with whose weights, and what is refused before anything is drawn."""

import json
from collections.abc import Mapping

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.command import nested
from strokes.agents.load import NANO
from strokes.rl import compare_policy
from strokes.rl.compare import plans
from strokes.rl.compare_policy import searcher
from strokes.rl.compare_settings import Entry, Settings
from strokes.rl.compare_training import NOTHING


@pytest.fixture(scope="module")
def planned():
    """The plans of a comparison, by name: what ships, with some settings changed and entries added."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose("compare", ["out=unused"]), resolve=True)

        def call(folder, entries: Mapping = {}, **changes):
            settings = {**values, **changes}
            settings["entries"] = {**settings["entries"], **entries}
            found = plans(nested(Settings, settings, "compare"), folder)
            return {plan.name: plan for plan in found}

        yield call


def test_what_ships_has_its_budgets(planned, tmp_path):
    found = planned(tmp_path, seeds=[4])
    policies = {name: plan.evaluations[4].policy for name, plan in found.items()}
    own = {"one-shot", "strokes", "strokes-no-loop", "strokes-sampled"}
    assert {name for name in found if name.endswith("-oracle")} == set(found) - own
    assert {name for name, plan in found.items() if "oracle" in plan.searcher} == set(found) - own
    policies = {name.removesuffix("-oracle"): policy for name, policy in policies.items()}
    budgets = {name: policy["n"] for name, policy in policies.items() if policy.get("n") and not policy["like"]}
    assert budgets == {"best-of-3": 3, "best-of-20": 20, "parm-20": 20, "parm-pruned-20": 20, "parm-plus": 4}
    assert len({policy["path"] for policy in policies.values()}) == 1
    likes = {name: policy["like"] for name, policy in policies.items() if policy.get("like")}
    units = {name: policy["unit"] for name, policy in policies.items() if policy.get("unit")}
    drawn = ("strokes", "strokes-sampled", "best-of-20-oracle", "parm-pruned-20-oracle")
    at = {name: str(tmp_path / name / "4") for name in drawn}
    assert likes == {
        **dict.fromkeys(("best-of-like-strokes", "parm-like-strokes"), at["strokes"]),
        **dict.fromkeys(("parm-pruned-like-20", "strokes-search"), at["best-of-20-oracle"]),
    }
    assert units == {"parm-pruned-like-20": at["parm-pruned-20-oracle"], "strokes-search": at["strokes-sampled"]}


def test_one_word_lets_all_searches_ask_a_trained_verifier(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_policy, "read_adapter", lambda folder: folder)
    found = planned(tmp_path, verifier="verifier/{seed}/adapter", seeds=[1, 2])
    assert not [name for name in found if "oracle" in name]
    searches = {name: plan for name, plan in found.items() if plan.searcher}
    assert len(searches) == 10 and {plan.searcher for plan in searches.values()} == {"own understanding, trained"}
    for plan in searches.values():
        for seed, evaluation in plan.evaluations.items():
            verifier = evaluation.policy["verifier"]
            assert (verifier["name"], verifier["adapter"]) == ("policy", f"verifier/{seed}/adapter")
            assert verifier["path"] == str(NANO)
        assert (plan.learnt.drawings, plan.learnt.judge) == (None, "labels of a verifier")  # of no run that is here
    assert found["strokes"].learnt == NOTHING
    mine = {"x": {"policy": "parm", "options": {"verifier": {"name": "exact"}}}}
    found = planned(tmp_path, mine, verifier="a", only=["x"])
    assert list(found) == ["x-oracle"] and found["x-oracle"].learnt == NOTHING  # it asks another


def test_what_a_verifier_learnt_from_is_part_of_what_a_search_costs(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_policy, "read_adapter", lambda folder: folder)
    for seed, drawings in ((0, 100), (1, 300)):
        run = tmp_path / "verifier" / str(seed)
        run.mkdir(parents=True)
        (run / "run.json").write_text('{"drawings": {"judge": "remote"}}')
        (run / "metrics.json").write_text(json.dumps({"drawings": drawings, "examples": 50, "seconds": 60.0}))
    found = planned(
        tmp_path, verifier=f"{tmp_path}/verifier/{{seed}}/adapter", seeds=[0, 1], only=["strokes", "parm-20"]
    )
    told = found["parm-20"].learnt
    assert (told.drawings, told.examples, told.seconds) == (200, 50, 60.0) and "remote judge" in told.judge
    assert found["strokes"].learnt == NOTHING


def test_a_search_keeps_the_temperature_of_its_candidates(planned, tmp_path):
    shared = {"name": "bagel-nano", "path": None, "temperature": 0.3, "max_tokens": 5, "adapter": None}
    shared |= {"device": "cpu", "dtype": "float32", "steps": 12, "guidance": 2.5, "size": 48, "sampling": {}}
    found = planned(tmp_path, policy=shared, only=["strokes", "strokes-sampled", "strokes-search", "best-of-20"])
    drawn = {name: plan.evaluations[0].policy for name, plan in found.items()}
    assert {policy["guidance"] for policy in drawn.values()} == {2.5}
    assert drawn["strokes"]["temperature"] == 0.3 != drawn["strokes-search-oracle"]["temperature"]


def test_an_entry_comes_after_the_one_whose_cost_it_matches(planned, tmp_path):
    chain = {"late": {"policy": "parm", "like": "b"}, "b": {"policy": "best-of-n", "like": "a"}, "a": {}}
    found = planned(tmp_path, chain, only=["late", "b", "a"], seeds=[1, 2])
    assert list(found) == ["a", "b-oracle", "late-oracle"]
    for seed in (1, 2):
        likes = [found[name].evaluations[seed].policy["like"] for name in ("b-oracle", "late-oracle")]
        assert likes == [str(tmp_path / name / str(seed)) for name in ("a", "b-oracle")]


def test_the_seed_stands_where_an_entry_asks_for_it(planned, tmp_path):
    mine = {"x": {"policy": "custom", "options": {"target": "my.{seed}:Painter"}}}
    found = planned(tmp_path, mine, only=["x"], seeds=[0, 7])["x"].evaluations
    assert {seed: each.policy["target"] for seed, each in found.items()} == {0: "my.0:Painter", 7: "my.7:Painter"}
    assert {seed: each.seed for seed, each in found.items()} == {0: 0, 7: 7}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": []}, r"Expected seeds to be a list of different integers, at least one, got \[\]"),
        ({"seeds": [1, 1]}, "different integers"),
        ({"seeds": 3}, "Expected seeds to be a list"),
        ({"seeds": [-1]}, "seeds to be an integer of at least 0, got -1"),
        ({"only": []}, "at least one entry"),
        ({"only": ["strokes", "best"]}, r"Expected only to list entries \(one-shot, "),
        ({"only": ["best-of-like-strokes"]}, "Expected entries.best-of-like-strokes.like among the entries compared"),
        ({"limit": 0}, "limit"),
    ],
)
def test_settings_are_checked(planned, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        planned(tmp_path, **changes)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"policy": "parm", "like": "nobody"}, r"entries.x.like among the entries compared \(x, y, strokes\)"),
        ({"policy": "parm", "like": "x"}, "entries.x to wait for others alone, got x -> x"),
        ({"policy": "parm", "like": "y"}, "entries.x to wait for others alone, got x -> y -> x"),
        ({"policy": "one-shot", "like": "strokes"}, "entries.x.like with a search that has n, got policy=one-shot"),
        ({"policy": "parmm"}, "Expected entries.x.policy among bagel, "),
        ({"policy": "parm", "n": 3}, "got entries.x.n"),
        ({"policy": "parm", "options": 3}, "Expected entries.x.options to be settings, got 3"),
        ({"policy": "parm", "options": {"m": 3}}, "Expected entries.x.options among "),
        ({"policy": "parm", "options": {"verifier": {"who": "me"}}}, "entries.x.options.verifier among name, path"),
        ({"policy": "parm", "options": {"verifier": {"adapter": "nowhere"}}}, "Expected an adapter in 'nowhere'"),
        ({"policy": "parm", "options": {"verifier": {"path": "nowhere"}}}, "a checkpoint, got 'nowhere'"),
        ({"options": {"path": "nowhere"}}, "the folder of a checkpoint, got 'nowhere'"),
        ({"options": {"adapter": "no/{seed}"}}, "Expected an adapter in 'no/0'"),
        ("parm", "Expected entries.x with the keys of configs/compare.yaml, got 'parm'"),
        ({"training": {"runs": ["nowhere/{seed}"]}}, "folders of finished runs, got 'nowhere/0'"),
        ({"training": {"runs": "nowhere"}}, "training.runs to be a list"),
        ({"training": {"drawings": -1}}, "training.drawings"),
        ({"training": {"samples": 1}}, "got entries.x.training.samples"),
        ({"policy": "parm", "options": {"n": 0}}, "policy.n to be an integer of at least 1, got 0"),
        ({"policy": "best-of-n", "options": {"n": 0}}, "n of at least 1, got 0"),
        ({"policy": "parm", "options": {"rule": "x"}}, "a rule among released, pruned, got 'x'"),
        ({"policy": "parm", "options": {"flow_steps": [99]}}, "a list of steps from 1 to 12, got"),
        ({"policy": "parm-plus", "options": {"reflections": 9}}, "reflections in"),
        ({"policy": "beam", "options": {"width": 0}}, "policy.width"),
        ({"policy": "parm", "options": {"painter": "monet"}}, "policy.painter among one-shot, strokes, got 'monet'"),
        ({"policy": "parm", "options": {"verifier": {"name": "me"}}}, "policy.verifier.name"),
        ({"policy": "best-of-n", "options": {"judge": "me"}}, "policy.judge among"),
        ({"policy": "parm", "unit": "strokes"}, "policy.unit with policy.like alone"),
        ({"policy": "beam", "like": "strokes"}, "entries.x.like with a search that has n, got policy=beam"),
        ({"policy": "best-of-n", "like": "strokes", "options": {"painter": "strokes"}}, "Expected policy.unit"),
        ({"options": {"temperature": -1}}, "policy.temperature"),
        ({"options": {"sampling": {"cfg_renorm_min": -1}}}, "cfg_renorm_min"),
        ({"policy": "scripted", "options": {"error_rate": 2}}, "error_rate"),
    ],
)
def test_an_entry_is_checked(planned, tmp_path, entry, words):
    with pytest.raises(ValueError, match=words):
        planned(tmp_path, {"x": entry, "y": {"policy": "parm", "like": "x"}}, only=["x", "y", "strokes"])


@pytest.mark.parametrize("name", ["a/b", "..", "", "-a"])
def test_names_are_those_of_folders(name):
    with pytest.raises(ValueError, match="names of entries to be those of folders"):
        Entry.read(name, {})


@pytest.mark.parametrize(
    ("policy", "who"),
    [
        ({"name": "one-shot"}, ""),
        ({"name": "best-of-n", "judge": "scene", "verifier": {"name": "policy", "adapter": "a"}}, "exact (oracle)"),
        ({"name": "best-of-n", "judge": "exact", "verifier": {"name": "policy", "adapter": "a"}}, "exact (oracle)"),
        ({"name": "best-of-n", "judge": "policy", "verifier": {"name": "exact", "adapter": None}}, "own understanding"),
        ({"name": "best-of-n", "judge": "verifier", "verifier": {"name": "exact", "adapter": None}}, "exact (oracle)"),
        ({"name": "parm", "verifier": {"name": "policy", "adapter": None}}, "own understanding"),
        ({"name": "beam", "verifier": {"name": "policy", "adapter": "a"}}, "own understanding, trained"),
        ({"name": "parm-plus", "verifier": {"name": "remote", "adapter": None}}, "Qwen"),
    ],
)
def test_who_judges_a_search_is_told_and_an_oracle_is_called_one(policy, who):
    assert searcher(policy, {"model": "Qwen"}) == who


def test_what_an_entry_leaves_out_has_its_default():
    entry = Entry.read("a", {"training": {"drawings": 3}})
    assert (entry.policy, entry.options, entry.like, entry.unit) == (None, {}, None, None)
    assert (entry.training.drawings, entry.training.runs, entry.training.seconds) == (3, (), None)


def test_two_entries_need_two_names(planned, tmp_path):
    mine = {"x": {"policy": "parm"}, "x-oracle": {"policy": "parm-pruned"}}
    with pytest.raises(ValueError, match="names of their own, got x and x-oracle"):
        planned(tmp_path, mine, only=["x", "x-oracle"])
