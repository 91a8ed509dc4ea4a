"""How fast judges are asked, and answers found again. Prints and asserts no rate: machines differ.

Beside every rate stands how fast this machine ran a fixed loop at the same moment: compare quotients. The server is a
process of its own, which takes its share of the machine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from strokes.envs.scenes import render, sample_layout, sample_task
from strokes.rewards.judge import Concurrency, JudgeClient, JudgeSettings, Price
from strokes.rewards.question import Question, Request

pytestmark = pytest.mark.bench

SERVER = Path(__file__).parents[1] / "rewards" / "truthful.py"
QUESTION = Question(
    name="outcome",
    instructions="Say yes if the picture shows exactly what the prompt asks for.",
    choices=("yes", "no"),
    notes=("explanation", "correction"),
)


def calibration() -> float:
    """Rounds per second of a loop of plain Python, JSON and hashing-sized copies, as the client is made of."""
    words, start = {"prompt": "a red circle left of a blue square", "codes": list(range(20))}, time.process_time()
    pixels = np.zeros((64, 64, 3), np.uint8)
    for _ in range(20000):
        json.loads(json.dumps(words))
        pixels.tobytes()
    return 20000 / (time.process_time() - start)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, str(SERVER), "--delay", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def requests(count: int) -> list[Request]:
    """Different questions about pictures of 64 pixels."""
    rng, found = np.random.default_rng(0), []
    tasks = [sample_task(rng) for _ in range(50)]
    images = [render(sample_layout(task.graph, rng, 64).scene) for task in tasks]
    for k in range(count):
        image = images[k % 50].copy()
        image[0, 0] = k % 251, k // 251 % 251, 255  # another picture, to the cache
        found.append(Request(question=QUESTION, fields={"prompt": tasks[k % 50].prompt}, images=(image,)))
    return found


@pytest.mark.parametrize("width", [8, 64])
def test_requests(capsys, url, width):
    settings = JudgeSettings(
        model="truth",
        base_url=url,
        concurrency=Concurrency(min=width, start=width, max=width),
        prices={"truth": Price(input=0, output=0)},
    )
    client = JudgeClient(settings)
    client.ask(requests(64))  # connections
    asked, walls, cpus = requests(500), [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        verdicts = client.ask(asked)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        assert {verdict.status for verdict in verdicts} == {"ok"}
    client.close()
    wall, cpu = sorted(walls)[1], sorted(cpus)[1]
    with capsys.disabled():
        print(
            f"\nrequests, {width} at once, server of 50 ms: {500 / wall:,.0f} per second (wanted 300 at 64), "
            f"{500 / cpu:,.0f} per second of CPU time (calibration {calibration():,.0f})"
        )


def test_answers_from_the_cache(capsys, url, tmp_path):
    settings = JudgeSettings(
        model="truth", base_url=url, cache=str(tmp_path / "verdicts"), prices={"truth": Price(input=0, output=0)}
    )
    client, asked = JudgeClient(settings), requests(2000)
    first = [verdict.data for verdict in client.ask(asked)]
    client.close()
    rates = []
    for _ in range(5):
        start = time.process_time()
        verdicts = client.ask(asked)
        rates.append(len(asked) / (time.process_time() - start))
        assert [verdict.data for verdict in verdicts] == first and all(verdict.is_cached for verdict in verdicts)
    with capsys.disabled():
        print(
            f"\nanswers from the cache, 64 px, pixels hashed: {sorted(rates)[2]:,.0f} per second (wanted 20,000; "
            f"calibration {calibration():,.0f})"
        )
