"""The real back end: graphs of everyday things, stories told and checked, pictures painted and filtered."""

import gc
import json
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from real_parts import WORLD, Oracle, maker
from tiny_flux import save_tiny_flux
from truthful import MODEL, Truthful

from strokes.envs import Stage
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.scenes import verdict
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.language import parse
from strokes.rewards.judge import JudgeClient, JudgeUnavailable
from strokes.rewards.question import Verdict
from strokes.sft.kontext import KontextSettings, make
from strokes.sft.real_graphs import Vocabulary
from strokes.sft.sample import Subset
from strokes.sft.storyteller import Failure, Outline, Storyteller


def outlines(num, vocabulary=WORLD, seed=0):
    rng = np.random.default_rng(seed)
    graphs = [vocabulary.sample(rng) for _ in range(num)]
    return [
        Outline(graph=graph, states=tuple(graph.subgraphs(rng, 2)), rng=np.random.default_rng(k))
        for k, graph in enumerate(graphs)
    ]


def rounds(transcript):
    entries = transcript.emissions
    return [(parse_plan(entries[k].content), entries[k + 1].content, entries[k + 2].content)
            for k in range(0, len(entries) - 1, 3)]  # fmt: skip


def test_the_whole_line_gives_samples_that_are_true(client):
    """Graphs, plans, detours, pictures and filter, with a judge that looks and an editor that can draw."""
    samples = maker(client, seed=1).make(2, 14)
    assert len(samples) == len({sample.transcript.id for sample in samples}) == 14
    kinds, num_images = Counter(), []
    for sample in samples:
        transcript, planned = sample.transcript, sample.provenance["planned"]
        told = rounds(transcript)
        assert sample.subset is Subset.MULTI_TURN and sample.label is None and sample.split == "train"
        assert transcript.legal() == frozenset() and not any(e.error for e in transcript.emissions)
        assert all(entry.loss for entry in transcript.emissions) and 2 <= len(transcript.images) <= 5
        asked = parse(transcript.prompt.removeprefix("a photo of "))
        for k, (plan, image, inspection) in enumerate(told):
            assert verdict(detect(image), parse(plan.des).to_meta()).strict
            assert parse_inspection(inspection).refine is None and inspection.startswith("the sketch follows the plan")
            assert ("placeholder" in plan.ins) is (k in planned) is ("still to change" in inspection)
        assert verdict(detect(told[-1][1]), asked.to_meta()).strict
        assert told[-1][2] == "the sketch follows the plan and the prompt is complete"
        assert parse(told[-1][0].des).canonical() == asked.canonical()
        assert "add" in sample.kinds and (len(sample.kinds) > 1) is bool(planned)
        kinds.update(sample.kinds)
        num_images.append(len(transcript.images))
    assert set(kinds) >= {"add", "change", "replace", "remove", "swap"} and len(set(num_images)) > 1
    assert all(each["kept"] == 14 <= each["tried"] for each in (sample.provenance["chunk"] for sample in samples))


def test_additions_alone_where_no_detour_is_wanted(client):
    for sample in maker(client, detour_rate=0.0).make(0, 4):
        assert sample.kinds == ("add",) and sample.provenance["planned"] == []
        descriptions = [parse(plan.des).total for plan, _, _ in rounds(sample.transcript)]
        assert descriptions == sorted(set(descriptions))


def test_a_random_kontext_is_painted_with_and_filtered_out(server, tmp_path, capsys):
    torch.set_num_threads(1)
    settings = {
        "path": str(save_tiny_flux(tmp_path / "kontext", "FluxKontextPipeline")),
        "judge": {"model": MODEL, "base_url": server.url, "prices": {MODEL: {"input": 1, "output": 1}}},
        **{"size": 32, "steps": 1, "dtype": "float32", "device": "cpu", "tries": 2},
    }
    lists = {
        "objects": WORLD.objects,
        "attributes": {"color": WORLD.attributes},
        "relations": {"spatial": WORLD.relations},
    }
    for name, content in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        settings[name] = str(tmp_path / f"{name}.json")
    both = make(settings), make({**settings, "split": "validation"})
    assert both[0].editor is both[1].editor and both[0].make(0, 3) == []
    assert "multi_turn chunk 0: 0 of 6 candidates kept; dropped: picture objects 6" in capsys.readouterr().err
    weights = weakref.ref(both[0].editor)
    del both
    gc.collect()
    assert weights() is None


def test_a_kontext_paints_the_first_step_and_edits_the_others(tmp_path):
    from strokes.agents.diffusers import Kontext

    torch.set_num_threads(1)
    editor = Kontext.load(save_tiny_flux(tmp_path, "FluxKontextPipeline"), steps=1)
    samples = maker(Oracle(), vocabulary=Vocabulary(), editor=editor, size=32, detour_rate=0.0).make(1, 2)
    for number, sample in enumerate(samples):
        (plan, image, _), (later, edited, _), *_ = rounds(sample.transcript)
        (again,) = editor.paint([plan.des], [(0, 1, number, 0)], 32)
        assert (image == again).all() and (edited == editor.edit([image], [later.ins], [(0, 1, number, 1)])[0]).all()


@pytest.mark.parametrize(
    ("instead", "dropped"),
    [
        ({"narrate": "nothing"}, {"story not written": 4}),
        ({"narrate": '[{"ins": "draw"}]'}, {"story not written": 4}),
        ({"story": Verdict(status="ok", data={"choice": "no"})}, {"story refused": 4}),
        ({"story": Verdict(status="timeout")}, {"story not judged: timeout": 4}),
        ({"edit_filter": Verdict(status="refused")}, {"picture not judged: refused": 4}),
        (
            {"edit_filter": Verdict(status="ok", data={"choice": "yes", "preserved_ok": "No, the sky moved."})},
            {"picture preserved": 4},
        ),
    ],
)
def test_what_fails_is_left_out_and_counted(instead, dropped, capsys):
    assert maker(Oracle(**instead), detour_rate=0.0, tries=2).make(0, 2) == []
    told = capsys.readouterr().err
    assert "0 of 4 candidates kept" in told and all(f"{why} {number}" in told for why, number in dropped.items())


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        ({"rewrite": '{"ins": "draw a cat", "des": "a cat", "correction": "remove it"}'}, "detour not written"),
        ({"rewrite": "{}"}, "detour not written"),
        ({"detour": Verdict(status="ok", data={"choice": "no"})}, "detour refused"),
        ({"detour": Verdict(status="transport")}, "detour not judged: transport"),
    ],
)
def test_a_detour_that_fails_leaves_the_straight_story(instead, reason):
    oracle = Oracle(**instead)
    straight = Storyteller(chat=oracle, judge=oracle, detour_rate=0.0).tell(outlines(5))
    stories = Storyteller(chat=oracle, judge=oracle, detour_rate=1.0).tell(outlines(5))
    assert [story.steps for story in stories] == [story.steps for story in straight]
    assert all(story.lost == (reason,) * 2 for story in stories)


def test_a_detour_ends_where_the_step_would_have():
    oracle = Oracle()
    teller = Storyteller(chat=oracle, judge=oracle, detour_rate=1.0)
    straight = Storyteller(chat=oracle, judge=oracle, detour_rate=0.0).tell(outlines(20))
    for story, plain in zip(teller.tell(outlines(20)), straight, strict=True):
        assert not isinstance(story, Failure) and [step.is_detour for step in story.steps] == [True, False] * 2
        assert [step.plan.des for step in story.steps[1::2]] == [step.plan.des for step in plain.steps]
        assert all(a.plan.des != b.plan.des for a, b in zip(story.steps[::2], story.steps[1::2], strict=True))
    assert oracle.asked["rewrite"] == oracle.asked["detour"] == 40


def test_a_server_with_faults_costs_samples_at_most():
    kinds = ("500", "bad-json", "bad-choice", "refusal", "no-choices", "html", "length", "content-filter")
    with Truthful(faults=0.3, kinds=kinds) as truthful, JudgeClient(truthful.settings(content_retries=0)) as judge:
        samples = maker(judge).make(0, 8)
    assert 0 < len(samples) <= 8
    for sample in samples:
        asked = parse(sample.transcript.prompt.removeprefix("a photo of "))
        assert verdict(detect(sample.transcript.images[-1]), asked.to_meta()).strict


def test_a_server_that_is_gone_ends_the_build(server):
    settings = server.settings(base_url="http://127.0.0.1:9/v1", retries=0, max_failures=1, timeout_s=1.0)
    with JudgeClient(settings) as judge, pytest.raises(JudgeUnavailable):
        maker(judge).make(0, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": None}, "with path for"),
        ({"judge": {}}, "with judge for"),
        ({"speed": 3}, "got speed"),
        ({"split": "test"}, "real.split"),
        ({"tries": 0}, "real.tries"),
        ({"guidance": "strong"}, "real.guidance"),
        ({"kinds": "color"}, "real.kinds to be a list of names, got 'color'"),
        ({"num": 0}, "real.num"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        KontextSettings.read({"path": "x", "judge": {"model": "m"}, **changes})


def test_every_stage_is_in_its_place(client):
    (sample,) = maker(client).make(0, 1)
    stages = [entry.stage for entry in sample.transcript.emissions]
    assert stages == [Stage.PLAN, Stage.SKETCH, Stage.INSPECT] * len(sample.transcript.images) + [Stage.STOP]
