"""Whatever is lost on the way, the trajectories are those of an undisturbed run, bit for bit."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from strokes.agents.bagel.noise import Noise
from strokes.agents.load import load_policy
from strokes.agents.pool import start_ray, stop_ray
from strokes.agents.rollout import Rules, chunks
from strokes.rewards.scenes import SceneReward
from strokes.rl.workers import LocalRollouts, RayRollouts, RolloutWorker

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "agents" / "bagel" / "weights" / "nano-v2"
PROMPTS = ["a photo of a circle", "a photo of two stars", "a photo of a heart and a square"]
STORE = 100 * 2**20
DELAY = 1.0
"""Seconds by which a chunk is delayed, so that there is time to end its worker."""


def make_worker():
    settings = {"name": "bagel-tiny", "path": str(NANO), "device": "cpu", "dtype": "float32"}
    sampling = {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0}
    texts = {"temperature": 1.0, "max_tokens": 64, "sampling": sampling}
    policy = partial(load_policy, {**settings, **texts}, steps=4, guidance=2.0, noise=Noise(), is_recorded=True)
    return partial(RolloutWorker, policy, Rules(size=48, budget=4), SceneReward())


def make_slow_worker():
    """The same; defined inside, so that it travels by value."""

    class Slow:
        def __init__(self, make):
            self.worker = make()
            self.install = self.worker.install

        def run(self, *args):
            time.sleep(DELAY)
            return self.worker.run(*args)

    return partial(Slow, make_worker())


def generation(step):
    return chunks(PROMPTS, seed=3, step=step, num_members=2, chunk_size=1)


def plain(chunked):
    """Everything that learning sees, as bytes."""
    return [
        [
            (
                *(reply.tokens, reply.logps, trajectory.score.total),
                *((np.asarray(step.x_next).tobytes(), step.logp) for step in reply.path),
                *((entry.content if isinstance(entry.content, str) else entry.content.tobytes()),),
            )
            for entry, reply in zip(trajectory.transcript.emissions, trajectory.replies, strict=True)
        ]
        for chunk in chunked
        for trajectory in chunk
    ]


@pytest.fixture(scope="module")
def undisturbed(weights):
    rollouts = LocalRollouts(make_worker())
    return [plain(rollouts.wait(rollouts.submit(generation(step), weights[step]))) for step in (0, 1)]


@pytest.fixture(scope="module")
def one_box():
    start_ray(num_cpus=2, object_store_memory=STORE)
    yield
    stop_ray()


@pytest.fixture
def actors(one_box):
    """Rollouts by two slow actors on this machine, both ready, and their process ids."""
    import ray

    rollouts = RayRollouts(make_slow_worker(), 2)
    pids = {actor: ray.get(actor.ready.remote()) for actor in rollouts.pool._backend.actors}
    yield rollouts, pids
    rollouts.close()


def someone_busy(rollouts):
    """An actor that has just begun a chunk."""
    deadline = time.monotonic() + 60
    while not rollouts.pool.busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(DELAY / 4)
    return rollouts.pool.busy[0]


def retried(rollouts, report, name, begun):
    retries = rollouts.stats["retries"]
    report(f"{name}: {retries:.0f} chunks drawn again, {time.monotonic() - begun:.1f} s")
    return retries


@pytest.fixture
def report(capsys):
    def say(line):
        with capsys.disabled():
            print(f"\n{line}", end="")

    return say


def test_an_actor_is_killed_and_restarted(actors, weights, undisturbed, report):
    import ray

    rollouts, _ = actors
    begun, ticket = time.monotonic(), rollouts.submit(generation(0), weights[0])
    ray.kill(someone_busy(rollouts), no_restart=False)
    assert plain(rollouts.wait(ticket)) == undisturbed[0]
    assert retried(rollouts, report, "actor killed", begun) == 1


def test_a_worker_process_is_killed(actors, weights, undisturbed, report):
    rollouts, pids = actors
    begun, ticket = time.monotonic(), rollouts.submit(generation(0), weights[0])
    os.kill(pids[someone_busy(rollouts)], signal.SIGKILL)
    assert plain(rollouts.wait(ticket)) == undisturbed[0]
    assert retried(rollouts, report, "process SIGKILLed", begun) == 1


def test_a_worker_is_killed_between_two_generations_and_told_its_weights_again(actors, weights, undisturbed, report):
    rollouts, pids = actors
    assert plain(rollouts.wait(rollouts.submit(generation(0), weights[0]))) == undisturbed[0]
    begun = time.monotonic()
    for pid in pids.values():  # both: nobody is left who still has them
        os.kill(pid, signal.SIGKILL)
    assert plain(rollouts.wait(rollouts.submit(generation(0), weights[0]))) == undisturbed[0]
    retried(rollouts, report, "both processes SIGKILLed while idle", begun)


def test_two_generations_are_on_their_way_when_a_worker_is_killed(actors, weights, undisturbed, report):
    rollouts, pids = actors
    begun, tickets = time.monotonic(), [rollouts.submit(generation(step), weights[step]) for step in (0, 1)]
    os.kill(pids[someone_busy(rollouts)], signal.SIGKILL)
    assert [plain(rollouts.wait(ticket)) for ticket in tickets] == undisturbed
    assert retried(rollouts, report, "SIGKILL with two generations on their way", begun) == 1


def test_one_actor_is_gone_for_good(actors, weights, undisturbed, report):
    import ray

    rollouts, _ = actors
    begun, ticket = time.monotonic(), rollouts.submit(generation(0), weights[0])
    ray.kill(someone_busy(rollouts), no_restart=True)
    assert plain(rollouts.wait(ticket)) == undisturbed[0]
    assert rollouts.stats["workers"] == 1
    assert retried(rollouts, report, "actor gone for good", begun) == 1


def test_all_actors_are_gone_for_good(actors, weights):
    import ray

    rollouts, pids = actors
    ticket = rollouts.submit(generation(0), weights[0])
    someone_busy(rollouts)
    for actor in pids:
        ray.kill(actor, no_restart=True)
    with pytest.raises(RuntimeError, match="all are gone for good"):
        rollouts.wait(ticket)


def test_an_interruption_loses_nothing(actors, weights, undisturbed):
    rollouts, _ = actors
    ticket = rollouts.submit(generation(0), weights[0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    threading.Timer(DELAY / 2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            rollouts.wait(ticket)
    finally:
        signal.signal(signal.SIGINT, before)
    assert plain(rollouts.wait(ticket)) == undisturbed[0]
    assert rollouts.stats["retries"] == 0


def test_a_workers_own_error_comes_through(one_box, weights):
    def broken():
        raise ValueError("Expected a checkpoint on this node, got none.")

    rollouts = RayRollouts(broken, 1)
    with pytest.raises(ValueError, match="on this node") as raised:
        rollouts.wait(rollouts.submit(generation(0), weights[0]))
    assert "in broken" in str(raised.value.__cause__)
    rollouts.close()


@pytest.fixture
def cluster():
    """A head without processors, and two nodes with one each."""
    import ray
    from ray.cluster_utils import Cluster

    stop_ray()  # that of one box, if it still runs
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    nodes = [made.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
    made.wait_for_nodes()
    yield made, nodes
    ray.shutdown()
    made.shutdown()


def test_a_node_is_lost_and_another_one_joins(cluster, weights, undisturbed, report):
    import ray

    made, nodes = cluster
    start_ray(made.address)
    rollouts = RayRollouts(make_slow_worker(), 2, address=made.address)
    for actor in rollouts.pool._backend.actors:
        ray.get(actor.ready.remote())
    begun, ticket = time.monotonic(), rollouts.submit(generation(0), weights[0])
    someone_busy(rollouts)
    made.remove_node(nodes[1], allow_graceful=False)
    assert plain(rollouts.wait(ticket)) == undisturbed[0]
    assert retried(rollouts, report, "node lost", begun) >= 1
    made.add_node(num_cpus=1, object_store_memory=STORE)
    deadline = time.monotonic() + 120
    while rollouts.stats["workers"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    report(f"back on a new node, {time.monotonic() - begun:.1f} s")
    assert plain(rollouts.wait(rollouts.submit(generation(1), weights[1]))) == undisturbed[1]
    rollouts.close()
