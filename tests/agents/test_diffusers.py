"""FLUX as policies: drawn at once, and edited picture after picture, with pipelines of a few thousand parameters."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.diffusers import Flux, FluxEditor, FluxOneShot, Kontext
from strokes.agents.load import load_policy
from strokes.agents.remote import Inspector, Planner
from strokes.agents.rollout import Rules
from strokes.agents.rollout import play as drive
from strokes.envs import Emission, Said, Stage, Transcript
from strokes.envs.protocols import Cost
from strokes.envs.testing import PolicyConformance

sys.path.insert(0, str(Path(__file__).parent))  # tests of the data use the tiny pipelines too

from tiny_flux import save_tiny_flux

S = Stage
STEPS = [{"ins": "add a red circle", "des": "a red circle"},
         {"ins": "add a blue star", "des": "a red circle and a blue star"}]  # fmt: skip
PROMPT = "a red circle and a blue star"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("flux")
    return {kind: save_tiny_flux(root / kind.pipeline_class, kind.pipeline_class) for kind in (Flux, Kontext)}


@pytest.fixture(scope="module")
def flux(folders):
    return Flux.load(folders[Flux], steps=2)


@pytest.fixture(scope="module")
def kontext(folders):
    return Kontext.load(folders[Kontext], steps=2)


class Plans:
    """A remote model that plans two steps, whatever it is asked."""

    def chat(self, conversations):
        return [Said(json.dumps(STEPS), 7, 3) for _ in conversations]


class Told:
    """An editor that keeps what it is told instead of drawing."""

    steps = 5

    def __init__(self):
        self.heard = []

    def check(self, size):
        pass

    def paint(self, prompts, seeds, size):
        self.heard += [("paint", words, seed) for words, seed in zip(prompts, seeds, strict=True)]
        return [np.full((size, size, 3), len(self.heard), np.uint8) for _ in prompts]

    def edit(self, images, instructions, seeds):
        self.heard += [(int(i[0, 0, 0]), w, s) for i, w, s in zip(images, instructions, seeds, strict=True)]
        return [np.full_like(image, len(self.heard)) for image in images]


class FluxConformance(PolicyConformance):
    @pytest.fixture(autouse=True)
    def _given(self, flux, kontext):
        self.flux, self.kontext = flux, kontext


class TestFluxOneShotConformance(FluxConformance):
    def make_policy(self):
        return FluxOneShot(self.flux)


class TestFluxEditorConformance(FluxConformance):
    def make_policy(self):
        return FluxEditor(self.kontext)


class TestPlannedFluxEditorConformance(FluxConformance):
    def make_policy(self):
        return Planner(FluxEditor(self.kontext), Plans())


def play(policy, prompt=PROMPT, transcript=None, size=48):
    transcript = transcript or Transcript(prompt=prompt, size=size)
    return drive(policy, [transcript], [(3, 1)], Rules(size=size))[0]


@pytest.mark.parametrize("size", [32, 44])
def test_a_picture_has_the_size_asked_for_and_hangs_on_words_seed_and_source(kontext, flux, size):
    """Kontext would draw a megapixel, and enlarge what it edits, if it was let."""
    for painter in (flux, kontext):
        one, same, other, noise = painter.paint(["a cat", "a cat", "a dog", "a cat"], [(1,), (1,), (1,), (2,)], size)
        assert one.shape == (size, size, 3) and one.dtype == np.uint8
        assert (one == same).all() and (one != other).any() and (one != noise).any()
    canvas = np.full((size, size, 3), 255, np.uint8)
    alone = kontext.edit([one], ["make it red"], [(5,)])[0]
    both = kontext.edit([canvas, one], ["make it red"] * 2, [(5,)] * 2)
    assert both[1].shape == (size, size, 3) and (both[1] == alone).all() and (both[0] != both[1]).any()
    assert (kontext.edit([one], ["make it blue"], [(5,)])[0] != alone).any()


def test_what_is_edited_enters_the_network_as_large_as_it_is(kontext, monkeypatch):
    seen, forward = [], kontext.pipeline.transformer.forward

    def spy(*args, **inputs):
        seen.append(inputs["hidden_states"].shape[1])
        return forward(*args, **inputs)

    monkeypatch.setattr(kontext.pipeline.transformer, "forward", spy)
    (canvas,) = kontext.paint(["a cat"], [(1,)], 32)
    kontext.edit([canvas], ["a dog"], [(1,)])
    tokens = (32 // 4) ** 2
    assert seen == [tokens] * kontext.steps + [2 * tokens] * kontext.steps


def test_at_once_the_prompt_alone_is_drawn(flux):
    drawn = play(FluxOneShot(flux))
    assert [entry.stage for entry in drawn.transcript.emissions] == [S.PLAN, S.SKETCH, S.INSPECT, S.STOP]
    assert (drawn.transcript.images[0] == flux.paint([PROMPT], [(3, 1, 1)], 48)[0]).all()
    cost = drawn.replies[1].cost
    assert (cost.steps, cost.nfe, cost.decodes, cost.tokens) == (2, 2, 1, 0) and cost.seconds > 0


def test_the_prompt_reaches_the_painter_as_it_is():
    told = Told()
    play(FluxOneShot(told), "a <b> cat & dog")
    assert [words for _, words, _ in told.heard] == ["a <b> cat & dog"]


def test_the_first_step_is_painted_and_the_others_are_edits_of_it():
    told = Told()
    drawn = play(Planner(FluxEditor(told), Plans()))
    assert told.heard == [("paint", STEPS[0]["des"], (3, 1, 1)), (1, STEPS[1]["ins"], (3, 1, 4))]
    assert not any(entry.error for entry in drawn.transcript.emissions)
    total = sum((reply.cost for reply in drawn.replies), Cost())
    assert (total.steps, total.nfe, total.calls, total.remote_tokens) == (10, 10, 1, 10)


def test_a_refinement_is_an_edit_and_at_once_another_drawing():
    for policy, words in ((FluxEditor, ("make it red", 9)), (FluxOneShot, (PROMPT, None))):
        told, transcript = Told(), Transcript(prompt=PROMPT, size=48)
        for stage, content in (
            (S.PLAN, "<ins>Draw.</ins><des>a circle</des>"),
            (S.SKETCH, np.full((48, 48, 3), 9, np.uint8)),
            (S.INSPECT, "It is blue.<refine>make it red</refine>"),
        ):
            transcript.record(Emission(stage, content))
        drawn = play(policy(told), transcript=transcript)
        assert [entry.stage for entry in drawn.transcript.emissions[3:]] == [S.REFINE, S.STOP]
        source, said, _ = told.heard[0]
        assert said == words[0] and source == (words[1] or "paint")


def test_a_given_canvas_is_edited_to_the_prompt_where_nobody_plans():
    told, transcript = Told(), Transcript(prompt=PROMPT, size=48)
    transcript.give(np.full((48, 48, 3), 7, np.uint8))
    play(FluxEditor(told), transcript=transcript)
    assert told.heard[0][:2] == (7, PROMPT)


def test_a_canvas_that_cannot_be_drawn_is_refused(flux):
    with pytest.raises(ValueError, match="multiple of 4, got 50"):
        FluxOneShot(flux).start(Transcript(prompt="x", size=50), 50, (0,))


def settings_of(name, *overrides):
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("evaluate", [f"policy={name}", *overrides])
    return OmegaConf.to_container(config.policy, resolve=True)


def test_settings_become_policies(folders):
    tiny = ("policy.dtype=float32", "policy.device=cpu")
    chosen = settings_of("flux", f"policy.path={folders[Flux]}", *tiny)
    policy = load_policy(chosen, steps=chosen["steps"], guidance=chosen["guidance"])
    assert isinstance(policy, FluxOneShot) and isinstance(policy.painter, Flux)
    assert (policy.painter.steps, policy.painter.guidance) == (50, 3.5)  # of its card
    chosen, chat = settings_of("flux-kontext", f"policy.path={folders[Kontext]}", *tiny), Plans()
    policy = load_policy(chosen, steps=chosen["steps"], guidance=chosen["guidance"], chat=chat)
    assert isinstance(policy, Planner) and policy.chat is chat and isinstance(policy.painter, FluxEditor)
    editor = policy.painter.painter
    assert isinstance(editor, Kontext) and (editor.steps, editor.guidance) == (28, 2.5)
    chosen |= {"name": "inspector", "max_edits": 1}
    assert isinstance(load_policy(chosen, steps=2, guidance=2.5, chat=chat), Inspector)


@pytest.mark.parametrize("kind", [Flux, Kontext])
def test_a_pipeline_that_cannot_be_had_is_explained(folders, kind, tmp_path):
    name = "flux" if kind is Flux else "flux-kontext"
    other = folders[Kontext if kind is Flux else Flux]

    def refused(words, path, *, steps=2):
        chosen = {**settings_of(name), "path": path, "device": "cpu", "dtype": "float32"}
        with pytest.raises(ValueError, match=words):
            load_policy(chosen, steps=steps, guidance=2.5, chat=Plans())

    refused("policy.path, the folder", None)
    refused("'/nowhere'", "/nowhere")
    refused("model_index.json", str(tmp_path))
    refused(f"Expected a {kind.pipeline_class}", str(other))
    refused("steps to be an integer", str(folders[kind]), steps=None)
    (tmp_path / "model_index.json").write_text("[]")
    refused("model_index.json", str(tmp_path))
    torn = tmp_path / "torn"
    shutil.copytree(folders[kind], torn)
    for weights in (torn / "transformer").glob("*.safetensors"):
        weights.unlink()
    refused("a whole", str(torn))
