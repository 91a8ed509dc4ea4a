"""The checkpoint that ships with the package: what its card says of it, and that it draws."""

import hashlib
import re

import pytest

from strokes.agents.interleaved import TINY, Interleaved
from strokes.agents.load import SHIPPED
from strokes.agents.one_shot import OneShot
from strokes.agents.rollout import chunks, rollout
from strokes.envs.scenes.tasks import heldout
from strokes.rewards.scenes import SceneReward


@pytest.fixture(scope="module")
def card():
    return (SHIPPED / "README.md").read_text()


@pytest.mark.parametrize("name", ["ema.safetensors", "ae.safetensors"])
def test_the_card_names_the_weights_by_their_hash(card, name):
    found = re.search(rf"`{name}` *\| *`([0-9a-f]{{64}})`", card)
    assert found and found[1] == hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest()


def test_all_of_it_is_at_most_14_megabytes():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 14e6


@pytest.mark.parametrize("policy", [Interleaved, OneShot])
def test_it_draws_most_of_the_easy_tasks(policy):
    tasks = [task for task in heldout(limit=4) if task.tag in ("single_object", "colors", "two_object", "color_attr")]
    (chunk,) = chunks([(task.prompt, task.meta) for task in tasks], seed=0, chunk_size=len(tasks))
    drawn = rollout(policy.load(SHIPPED, TINY), chunk, score_fn=SceneReward(outcome="strict"))
    assert all(each.transcript.ended == "stop" for each in drawn)
    assert sum(each.score.total for each in drawn) >= 0.75 * len(tasks)
