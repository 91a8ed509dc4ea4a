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


def calibration() -> float:
    """Rounds per second of a loop of plain Python and small NumPy calls, as the painter is made of."""
    grid, start = np.arange(48 * 48 * 3, dtype=np.float32), time.process_time()
    for k in range(2000):
        float((grid * (k % 7)).sum())
        sum(range(200))
    return 2000 / (time.process_time() - start)


def report(capsys, what: str, rate: float, wanted: str) -> None:
    with capsys.disabled():
        print(f"\n{what}: {rate:,.0f} samples per second of a core (wanted {wanted}; calibration {calibration():,.0f})")


def rate(work: Callable[[], int]) -> float:
    start = time.process_time()
    num = work()
    return num / (time.process_time() - start)


MAKERS: dict[str, tuple[Maker, str]] = {
    "multi_turn, exact": (ExactMultiTurn(num=2 * CHUNK), "150: 300 on two cores"),
    "conflict, symbolic": (Conflict(source="symbolic"), "150"),
    "alignment, corrupted": (Alignment(source="corrupted"), "150"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_building(capsys, name):
    maker, wanted = MAKERS[name]
    maker.make(0, 40)  # sprites, prototypes and prompts
    samples: list[Sample] = []

    def build() -> int:
        samples.extend(maker.make(1, CHUNK))
        shard_bytes(samples)
        return CHUNK

    report(capsys, f"{name}, made and encoded", rate(build), wanted)
    report(capsys, f"{name}, audited", rate(lambda: audit(samples).samples), "130: all data in 4 minutes on two cores")


def test_the_prompts_of_a_whole_build(capsys):
    start = time.process_time()
    ExactMultiTurn(num=NUM).make(0, 1)
    with capsys.disabled():
        print(f"\nprompts: {time.process_time() - start:.1f} s once a process (calibration {calibration():,.0f})")


def test_reading(capsys, tmp_path):
    write_shard(tmp_path / "a.parquet", ExactMultiTurn(num=CHUNK).make(0, CHUNK))
    dataset = DataSet(tmp_path)
    orders = {"in order": range(CHUNK), "shuffled": np.random.default_rng(0).permutation(CHUNK).tolist()}
    for name, order in orders.items():
        report(capsys, f"read {name}", rate(lambda order=order: len([dataset[k] for k in order])), "1,000")
    report(capsys, "texts read", rate(lambda: len(dataset.column("segments.text"))), "10,000")
