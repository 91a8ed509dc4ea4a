"""What the front page and the other pages show works, and what they point to exists."""

import re
from pathlib import Path

import gymnasium as gym
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_python_of_the_front_page_runs(capsys):
    (block,) = blocks("README.md")
    exec(block, {})
    prompt, reward = capsys.readouterr().out.rsplit(maxsplit=1)
    assert prompt and -1 <= float(reward) <= 3


def test_every_environment_on_the_front_page_is_registered():
    import strokes.envs  # noqa: F401

    named = set(re.findall(r"^\| `(strokes/[\w-]+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == {name for name in gym.registry if name.startswith("strokes/")}


def test_the_reward_and_the_policy_of_the_page_on_extending_work_together():
    scope: dict = {}
    for block in blocks("docs/extending.md"):
        exec(block, scope)
    env = gym.make("strokes/Canvas-v0", reward=scope["Brightness"]())
    _, info = env.reset(seed=0)
    policy, done = scope["White"](), False
    session = policy.start(env.unwrapped.transcript, env.unwrapped.size, (0,))
    while not done:
        (reply,) = policy.act([session], [info["action_mask"]])
        _, _, done, _, info = env.step(reply.emission)
        assert info["error"] == ""
    assert env.unwrapped.transcript.score == info["reward_terms"]["brightness"] == 1.0


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_and_picture_between_pages_exists(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_a_page_names_exists(page):
    named = re.findall(r"`((?:agents|configs|docs|envs|rewards|rl|sft|tests)/[\w./-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_contributing_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60
