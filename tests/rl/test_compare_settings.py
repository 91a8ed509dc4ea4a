"""What can be compared, in which order, with whose weights, and what is refused before anything is drawn."""

from collections.abc import Mapping

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.command import nested
from strokes.rl.compare import plans, searcher
from strokes.rl.compare_settings import Entry, Settings


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
    budgets = {name: policy["n"] for name, policy in policies.items() if policy.get("n") and not policy["like"]}
    assert budgets == {"best-of-3": 3, "best-of-20": 20, "parm-20": 20, "parm-pruned-20": 20, "parm-plus": 4}
    assert len({policy["path"] for policy in policies.values()}) == 1
    assert {name for name, plan in found.items() if "oracle" in plan.searcher} == set(found) - {"one-shot", "strokes"}
    assert policies["best-of-like-strokes"]["like"] == str(tmp_path / "strokes" / "4")


def test_an_entry_comes_after_the_one_whose_cost_it_matches(planned, tmp_path):
    chain = {"late": {"policy": "parm", "like": "b"}, "b": {"policy": "best-of-n", "like": "a"}, "a": {}}
    found = planned(tmp_path, chain, only=["late", "b", "a"], seeds=[1, 2])
    assert list(found) == ["a", "b", "late"]
    for seed in (1, 2):
        likes = [found[name].evaluations[seed].policy["like"] for name in ("b", "late")]
        assert likes == [str(tmp_path / name / str(seed)) for name in ("a", "b")]


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
        ({"policy": "parm", "like": "x"}, "entries.x.like to come to an end, got x -> x"),
        ({"policy": "parm", "like": "y"}, "entries.x.like to come to an end, got x -> y -> x"),
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
        ({"training": {"samples": -1}}, "training.samples"),
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
    entry = Entry.read("a", {"training": {"samples": 3}})
    assert (entry.policy, entry.options, entry.like) == (None, {}, None)
    assert (entry.training.samples, entry.training.runs, entry.training.seconds) == (3, (), None)
