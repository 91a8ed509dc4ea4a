"""What data, packing and the trainer cost beside the model. Ratios within one run, of CPU time of one thread."""

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from strokes.sft.job import make_job

sys.path.insert(0, str(Path(__file__).parents[1] / "sft"))

from small_runs import settings, write_data

pytestmark = pytest.mark.bench

STEPS, ROUNDS, FIRST = 30, 3, 5


class Clock(TrainerCallback):
    """CPU time of all steps but the ``FIRST`` ones, in which things are made that are made once."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == FIRST:
            self.begun = time.process_time()
        if state.global_step > FIRST:
            self.spent = time.process_time() - self.begun


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    torch.set_num_threads(1)
    data = write_data(tmp_path_factory.mktemp("data"), 300)
    wanted = settings(data, "tokens=2400", f"steps={STEPS * ROUNDS}", "log_every=50", "save_every=100000")
    return make_job(wanted, tmp_path_factory.mktemp("run"), threading.Event())


def plain(job, packs):
    """Tokens a second of nothing but forward and backward passes."""
    begun, model = time.process_time(), job.trainer.model
    for batch in packs:
        generator = torch.Generator().manual_seed(batch["seed"])
        model(batch["pack"], generator=generator, ce_weight=0.3).loss.backward()
        model.zero_grad()
    return sum(batch["tokens"] for batch in packs) / (time.process_time() - begun)


def test_training_is_as_fast_as_the_model_s_own_passes(job):
    packs = [job.packs[number] for number in range(STEPS)]
    speeds = [plain(job, packs) for _ in range(ROUNDS)]
    clock = Clock()
    job.trainer.add_callback(clock)
    job.trainer.train()
    speeds += [plain(job, packs) for _ in range(ROUNDS)]
    trained = sum(job.packs.packing.tokens(number) for number in range(FIRST, STEPS * ROUNDS)) / clock.spent
    median = sorted(speeds)[ROUNDS]
    print(f"\ntraining: {trained:.0f} tokens/s of CPU; forward and backward: {median:.0f}; {trained / median:.3f}")
    print(f"packs: {job.packs.packing.waste():.2%} empty")
    assert trained >= 0.85 * median
    assert job.packs.packing.waste() <= 0.05
