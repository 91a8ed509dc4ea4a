"""What workers, weights on their way and batches cost. Ratios within one run, and beside them what they are made of."""

import multiprocessing
import statistics
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.noise import Noise
from strokes.agents.load import SHIPPED, load_policy
from strokes.agents.rollout import Rules, chunks
from strokes.envs.scenes.tasks import heldout
from strokes.rewards.scenes import SceneReward
from strokes.rl.sync import collect
from strokes.rl.workers import LocalRollouts, RayRollouts, RolloutWorker

pytestmark = pytest.mark.bench

NANO = Path(__file__).parents[2] / "agents" / "bagel" / "weights" / "nano-v2"
MATRICES = (
    r"language_model\.model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj(_moe_gen)?|mlp(_moe_gen)?\.(gate|up|down)_proj)"
)
PROMPTS = [(task.prompt, dict(task.meta)) for task in heldout("heldout", 2)]
"""Two of each kind of task."""
STORE = 200 * 2**20


def make_worker(path=SHIPPED, steps=12):
    """Of the settings of ``configs/rl.yaml``."""
    settings = {"name": "bagel-tiny", "path": str(path), "device": "cpu", "dtype": "float32"}
    sampling = {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0}
    texts = {"temperature": 1.0, "max_tokens": 384, "sampling": sampling}
    policy = partial(load_policy, {**settings, **texts}, steps=steps, guidance=3.0, noise=Noise(), is_recorded=True)
    return partial(RolloutWorker, policy, Rules(size=48), SceneReward())


def weights(path=SHIPPED, version=0):
    """Adapters of the size of ``configs/rl.yaml``, which change nothing yet."""
    return collect(get_peft_model(load(path), LoraConfig(r=16, lora_alpha=32, target_modules=MATRICES)), version)


def report(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")


def seconds(work, clock=time.perf_counter):
    start = clock()
    work()
    return clock() - start


def test_a_group_drawn_together_against_one_by_one(capsys):
    """CPU time of one thread, on the shipped model; the same prompts, eight drawings of each."""
    worker = make_worker()()
    version = worker.install(weights())
    groups = chunks(PROMPTS[::4], seed=1, num_members=8, chunk_size=8)
    together = seconds(lambda: [worker.run(group, version) for group in groups], time.process_time)
    serial = seconds(lambda: [worker.run([e], version) for group in groups for e in group], time.process_time)
    num = sum(map(len, groups))
    report(
        capsys,
        f"rollout batched over the group against serial: {serial / together:.2f} (wanted >= 2; {num} drawings, "
        f"{together / num:.2f} s each in a batch of 8, {serial / num:.2f} s alone)",
    )
    assert serial / together >= 2


def serve(make, given, share, orders):
    """A plain process: makes a worker, says that it is ready, and draws its share as often as it is told to."""
    worker = make()
    version = worker.install(given)
    worker.run(share[0][:1], version)
    orders.send("ready")
    while orders.recv() == "draw":
        for chunk in share:
            worker.run(chunk, version)
        orders.send("done")


@contextmanager
def plain_processes(make, given, shares):
    """Something that draws all shares at once, one process each, and comes back when all are done."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in shares]
    served = zip(pipes, shares, strict=True)
    processes = [context.Process(target=serve, args=(make, given, share, theirs)) for (_, theirs), share in served]
    for process in processes:
        process.start()
    ours = [pipe for pipe, _ in pipes]
    assert [pipe.recv() for pipe in ours] == ["ready"] * len(shares)

    def draw():
        for pipe in ours:
            pipe.send("draw")
        assert [pipe.recv() for pipe in ours] == ["done"] * len(shares)

    yield draw
    for pipe, process in zip(ours, processes, strict=True):
        pipe.send("end")
        process.join()


@pytest.fixture
def two_workers(monkeypatch):
    """Makes rollouts by two Ray workers with one thread each, and ends them."""
    from strokes.rl import workers

    monkeypatch.setattr(workers, "start_ray", partial(workers.start_ray, num_cpus=2, object_store_memory=STORE))
    made = []

    def make(worker, given):
        made.append(RayRollouts(worker, 2))
        ready = chunks(PROMPTS[:2], seed=9, chunk_size=1)
        made[0].wait(made[0].submit(ready, given))
        return made[0]

    yield make
    for rollouts in made:
        rollouts.close()


def test_two_ray_workers_against_two_plain_processes(capsys, two_workers):
    """Wall time, the median of several rounds of both in turn; the processes know their chunks in advance."""
    given, make = weights(), make_worker()
    work = chunks(PROMPTS[:8], seed=2, num_members=8, chunk_size=8)
    rollouts, taken = two_workers(make, given), []
    with plain_processes(make, given, [work[0::2], work[1::2]]) as draw:
        for _ in range(4):
            taken.append((seconds(draw), seconds(lambda: rollouts.wait(rollouts.submit(work, given)))))
    plain, ray = map(min, zip(*taken, strict=True))
    ratios = [one / other for one, other in taken]
    rounds, ratio = ", ".join(f"{each:.2f}" for each in ratios), statistics.median(ratios)
    report(
        capsys,
        f"two Ray workers against two plain processes: {ratio:.2f} (wanted >= 0.9; {sum(map(len, work))} "
        f"drawings in {len(work)} chunks, {ray:.2f} s by Ray, {plain:.2f} s by processes; rounds {rounds})",
    )
    assert ratio >= 0.9


def test_weights_on_their_way_against_a_step(capsys, two_workers):
    """A step's drawing alone, without learning from it; the weights are collected, checked, sent, merged by both."""
    learner = get_peft_model(load(SHIPPED), LoraConfig(r=16, lora_alpha=32, target_modules=MATRICES))
    old = collect(learner, 0)
    rollouts = two_workers(make_worker(), old)
    collecting = min(seconds(lambda: collect(learner, 1)) for _ in range(3))
    idle = min(seconds(lambda: rollouts.wait(rollouts.submit([[], []], old))) for _ in range(3))
    sending = [seconds(lambda k=k: rollouts.wait(rollouts.submit([[], []], collect(learner, k)))) for k in (1, 2, 3)]
    sync = max(min(sending) - idle, collecting)
    work = chunks(PROMPTS[:8], seed=3, num_members=8, chunk_size=16)
    step = seconds(lambda: rollouts.wait(rollouts.submit(work, old)))
    size = sum(tensor.numel() for tensor in old.tensors.values()) * 4 / 2**20
    report(
        capsys,
        f"weight sync, share of a step: {sync / (sync + step):.4f} (wanted <= 0.05; {size:.1f} MiB of adapters in "
        f"{sync:.3f} s, of which {collecting:.3f} s to collect; {sum(map(len, work))} drawings in {step:.1f} s)",
    )
    assert sync / (sync + step) <= 0.05


def test_ray_against_this_process(capsys, two_workers):
    """Two workers against one, for what they bring on this machine; nothing is asserted of it."""
    given, make = weights(NANO), make_worker(NANO)
    work = chunks(PROMPTS, seed=4, num_members=8, chunk_size=16)
    local, rollouts = LocalRollouts(make), two_workers(make, given)
    local.wait(local.submit(work[:1], given))
    one = seconds(lambda: local.wait(local.submit(work, given)))
    two = seconds(lambda: rollouts.wait(rollouts.submit(work, given)))
    report(capsys, f"two Ray workers against this process, bagel-nano: {one / two:.2f} ({one:.2f} s, {two:.2f} s)")
