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

from strokes.rewards.judge import Concurrency, JudgeClient, JudgeSettings, Price

pytestmark = pytest.mark.bench

SERVER = Path(__file__).parents[1] / "rewards" / "truthful.py"
sys.path.insert(0, str(SERVER.parent))  # for `asked`

from asked import asked  # noqa: E402


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


@pytest.mark.parametrize("width", [8, 64])
def test_requests(capsys, url, width):
    settings = JudgeSettings(
        model="truth",
        base_url=url,
        concurrency=Concurrency(min=width, start=width, max=width),
        cache_mode="off",  # else later rounds are answered from memory
        prices={"truth": Price(input=0, output=0)},
    )
    client = JudgeClient(settings)
    (requests, truth), walls, cpus = asked(500), [], []
    client.ask(requests[:64])  # connections
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        verdicts = client.ask(requests)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        assert [verdict.data["choice"] for verdict in verdicts] == truth
        assert {verdict.attempts for verdict in verdicts} == {1}
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
    client, (requests, truth) = JudgeClient(settings), asked(2000)
    first = [verdict.data for verdict in client.ask(requests)]
    assert [data["choice"] for data in first] == truth
    client.close()
    walls, cpus = [], []
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        verdicts = client.ask(requests)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        assert [verdict.data for verdict in verdicts] == first and all(verdict.is_cached for verdict in verdicts)
    client.close()
    wall, cpu = sorted(walls)[2], sorted(cpus)[2]
    with capsys.disabled():
        print(
            f"\nanswers from the cache, 64 px, pixels hashed: {2000 / wall:,.0f} per second (wanted 20,000), "
            f"{2000 / cpu:,.0f} per second of CPU time (calibration {calibration():,.0f})"
        )
