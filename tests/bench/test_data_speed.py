"""How fast training data are built, audited and read, per core. Prints and asserts no rate: machines differ.

Beside every rate stands how fast this machine ran a fixed loop at the same moment: compare quotients.
Rates are per second of CPU time of this process; two workers build at twice the rate of one.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest

from strokes.sft.alignment import Alignment
from strokes.sft.audit import audit
from strokes.sft.conflict import Conflict
from strokes.sft.multi_turn import NUM, ExactMultiTurn
from strokes.sft.sample import Maker, Sample
from strokes.sft.store import DataSet, shard_bytes, write_shard

pytestmark = pytest.mark.bench
CHUNK = 500


def rate(work: Callable[[], int]) -> str:
    """Of samples that ``work`` says it is done with."""
    start = time.process_time()
    num = work()
    return f"{num / (time.process_time() - start):,.0f} samples per second of a core"


MAKERS: dict[str, tuple[Maker, str]] = {
    "multi_turn, exact": (ExactMultiTurn(num=2 * CHUNK), "150: 300 on two cores"),
    "conflict, symbolic": (Conflict(source="symbolic"), "150"),
    "alignment, corrupted": (Alignment(source="corrupted"), "150"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_building(report, name):
    maker, wanted = MAKERS[name]
    maker.make(0, 40)  # sprites, prototypes and prompts
    samples: list[Sample] = []

    def build() -> int:
        samples.extend(maker.make(1, CHUNK))
        shard_bytes(samples)
        return CHUNK

    report(f"{name}, made and encoded: {rate(build)}", wanted)
    report(f"{name}, audited: {rate(lambda: audit(samples).samples)}", "130: all data in 4 minutes on two cores")


def test_the_prompts_of_a_whole_build(report):
    start = time.process_time()
    ExactMultiTurn(num=NUM).make(0, 1)
    report(f"prompts: {time.process_time() - start:.1f} s once a process")


def test_reading(report, tmp_path):
    write_shard(tmp_path / "a.parquet", ExactMultiTurn(num=CHUNK).make(0, CHUNK))
    dataset = DataSet(tmp_path)
    orders = {"in order": range(CHUNK), "shuffled": np.random.default_rng(0).permutation(CHUNK).tolist()}
    for name, order in orders.items():
        found = rate(lambda order=order: len([dataset[k] for k in order]))
        report(f"read {name}: {found}", "1,000")
    found = rate(lambda: len(dataset.column("segments.text")))
    report(f"texts read: {found}", "10,000")
