"""The knowledge benchmark through the real client and a server that knows the answers: the path adds no error."""

import json

import numpy as np
import pytest
from truthful import Truthful

from strokes.envs.scenes.knowledge import knowledge_items
from strokes.envs.scenes.layout import feasible, sample_layout
from strokes.envs.scenes.render import render
from strokes.rewards.judge import JudgeClient
from strokes.rewards.knowledge import KnowledgeJudge, wise_items
from strokes.rewards.wise import PROTOCOLS, WISE_V1, read_instructions
from strokes.rewards.wise_scores import score_images

ITEMS = [item for item in knowledge_items(limit=10) if feasible(item.graph)]


def pictures() -> list[np.ndarray]:
    """Scenes of the items, half of them each other's."""
    rng = np.random.default_rng(0)
    images = [render(sample_layout(item.graph, rng).scene) for item in ITEMS]
    order = list(range(len(images)))
    order[::2] = order[::2][1:] + order[::2][:1]
    return [images[k] for k in order]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_judge_agrees_with_the_truth_about_every_image(server: Truthful, name: str, tmp_path):
    protocol, items, images = PROTOCOLS[name], wise_items(ITEMS), pictures()
    client = JudgeClient(server.settings(cache=str(tmp_path / "verdicts.sqlite")))
    judged = score_images(client, protocol, items, images, attempts=1)
    assert [score.marks for score in judged] == [
        score.marks for score in score_images(KnowledgeJudge(), protocol, items, images)
    ]
    assert 0.2 < np.mean([score.wiscore == pytest.approx(1) for score in judged]) < 0.8
    asked = server.counts["all"]
    assert score_images(client, protocol, items, images, attempts=1) == judged
    assert server.counts["all"] == asked == len(items)


def test_faults_on_the_way_lose_no_score_and_make_none_up():
    items, images = wise_items(ITEMS), pictures()
    truth = [score.marks for score in score_images(KnowledgeJudge(), WISE_V1, items, images)]
    with Truthful(faults=0.2, seed=1, kinds=("429", "500", "refusal", "no-choices", "html")) as server:
        judged = score_images(JudgeClient(server.settings()), WISE_V1, items, images)
        assert server.counts["answered"] < server.counts["all"]
    assert [score.marks for score in judged] == truth


def test_a_users_own_instructions_reach_the_judge(server: Truthful, tmp_path):
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({"system": "Be fair.", "user": "PROMPT: {prompt}\nMEANS: {explanation}"}))
    question = WISE_V1.question("strict", read_instructions(path))
    items, images = wise_items(ITEMS[:3]), pictures()[:3]
    judged = score_images(JudgeClient(server.settings()), WISE_V1, items, images, question=question)
    assert [s.marks for s in judged] == [s.marks for s in score_images(KnowledgeJudge(), WISE_V1, items, images)]
    system, user = server.bodies[-1]["messages"]
    assert system["content"] == "Be fair." and "MEANS: " in user["content"][0]["text"]
    assert "response_format" not in server.bodies[-1]
