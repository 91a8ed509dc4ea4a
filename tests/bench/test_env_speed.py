"""How fast the environment and the detector are, per core. Prints and asserts no rate: machines differ.

Beside every rate stands how fast this machine ran a fixed loop at the same moment: compare quotients.
Rates are per second of CPU time of this process.
"""

import subprocess
import sys
import time

import numpy as np
import pytest

from strokes.envs import CanvasEnv, Emission, Stage
from strokes.envs.scenes import detect as detector
from strokes.envs.scenes import sample_layout, sample_task
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.render import render
from strokes.rewards import Grammar, SceneReward, Sum

pytestmark = pytest.mark.bench

WORDS = {
    Stage.PLAN: "<ins>add a red circle at the left</ins><des>a red circle</des>",
    Stage.INSPECT: "the sketch follows the plan; still missing: a blue square",
}
IMPORT = """
import sys, time
start = time.process_time()
import strokes.envs
print(time.process_time() - start, "torch" in sys.modules)
"""


def drawings(count: int, size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [render(sample_layout(sample_task(rng).graph, rng, size).scene) for _ in range(count)]


def rate(env: CanvasEnv, images: list[np.ndarray], timed: frozenset[Stage]) -> float:
    """Steps per second of some stages, over whole episodes."""
    spent, steps, over = 0.0, 0, True
    for image in images:
        for stage in (Stage.PLAN, Stage.SKETCH, Stage.INSPECT):
            if over:
                env.reset(seed=0)
            start = time.process_time()
            _, _, terminated, truncated, info = env.step(Emission(stage, WORDS.get(stage, image)))
            if stage in timed:
                spent, steps = spent + time.process_time() - start, steps + 1
            assert not info["error"]
            over = terminated or truncated
    return steps / spent


def test_steps_with_text_rewards(report):
    env = CanvasEnv(["a red circle left of a blue square"], Grammar(), budget=30)
    images = drawings(4, 48) * 300
    rate(env, images[:50], frozenset(Stage))
    report(f"steps with text rewards: {rate(env, images, frozenset(Stage)):,.0f} per second", "2,000")


@pytest.mark.parametrize("size", [48, 64])
def test_image_steps_with_the_detector(report, size):
    reward = Sum(parts={"scene": SceneReward(), "form": Grammar()})
    env = CanvasEnv(["a red circle left of a blue square"], reward, size=size, budget=12)
    images = drawings(400, size)
    rate(env, images[:60], frozenset(Stage))  # sprites and prototypes
    speed = rate(env, images[60:], frozenset({Stage.SKETCH}))
    report(f"image steps with the detector, {size} px: {speed:,.0f} per second", "500")


@pytest.mark.parametrize("size", [48, 64, 128, 512])
def test_detections(report, size):
    images = drawings(200, size)
    noisy = [np.clip(i + np.random.default_rng(0).normal(0, 20, i.shape), 0, 255).astype(np.uint8) for i in images]
    for name, batch in (("clean", images), ("noisy", noisy)):
        detector._seen = detector._Memory(8192)
        for image in batch:  # sprites of the re-rendering
            detect(image)
        detector._seen = detector._Memory(8192)
        start = time.process_time()
        for image in batch:
            detect(image)
        speed = len(batch) / (time.process_time() - start)
        report(f"detections, {size} px, {name}: {speed:,.0f} per second", "1,000 at 48 px")


def test_import_time(report):
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    seconds, torch = zip(*(run.stdout.split() for run in runs), strict=True)
    assert set(torch) == {"False"}
    report(f"import strokes.envs: {min(map(float, seconds)):.2f} s", "0.6")
