"""Audit: every sample of the mini-world held against the truth by the exact verifier.

What is right is not taken from whoever made a sample: the detector looks at each image, and prompt, plans and
inspections are read in the controlled language (``rewards.review``, ``rewards.exact``). Errors are counted in five
classes, each of which is empty for exact data; audits of parts add up to the audit of the whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..envs.markup import parse_inspection
from ..envs.scenes.changes import apply, compare, filled
from ..envs.scenes.detect import detect
from ..envs.scenes.language import parse_edits, parse_report
from ..envs.stages import Stage
from ..envs.transcript import Ending, Entry
from ..rewards.critics import queries_of
from ..rewards.exact import ExactCritic
from ..rewards.review import Review, graph_of_task, review, things_seen
from .benchmark_prompts import is_benchmark
from .multi_turn import MAX_IMAGES, planned_rounds
from .sample import Sample, Subset
from .scene_prompts import data_split

NUM_FINDINGS = 20
"""Errors that an audit tells in words; ours."""
FOREIGN = ("kontext", "genref", "bagel-edit", "bagel-t2i")
"""Sources of real pictures, whatever their prompts read like."""
_CRITIC = ExactCritic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was looked at, and what was wrong with it."""

    samples: int = 0
    unchecked: int = 0
    """Samples that are not of the mini-world: only their prompts are looked at."""
    unaudited: int = 0
    """Samples that were not looked at, for nobody asked for it."""
    states: int = 0
    """Images that were held against their plans."""
    wrong_states: int = 0
    """Images that are not what their plan describes, and whole drawings that do not end with what was asked for."""
    labels: int = 0
    """Labels that were held against the critic's verdict."""
    wrong_labels: int = 0
    """Samples whose label, planned rounds, hash or loss flags are wrong."""
    wrong_words: int = 0
    """Plans and inspections that are not true, and corrections that do not give the corrected state."""
    test_graphs: int = 0
    """Samples whose prompt is held out for evaluation or asked by a benchmark."""
    leaks: int = 0
    """Samples of the training split whose graph is kept for validation, or the other way round."""
    right_incomplete: int = 0
    """Positives of the conflict subset to which something is still missing: there have to be some."""
    findings: tuple[str, ...] = ()
    """The first errors in words."""

    @property
    def errors(self) -> dict[str, int]:
        """The classes of errors."""
        names = ("wrong_states", "wrong_labels", "wrong_words", "test_graphs", "leaks")
        return {name: getattr(self, name) for name in names}

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.errors.values())

    def __add__(self, other: "Audit") -> "Audit":
        findings = (self.findings + other.findings)[:NUM_FINDINGS]
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items() if name != "findings"}
        return Audit(**sums, findings=findings)

    def __str__(self) -> str:
        """The audit as Markdown."""
        told = {
            "samples": self.samples,
            "not of the mini-world (prompts alone checked)": self.unchecked,
            "not audited (audit=false)": self.unaudited,
            "states checked": self.states,
            "wrong states": self.wrong_states,
            "labels checked": self.labels,
            "wrong labels": self.wrong_labels,
            "untrue plans, inspections and corrections": self.wrong_words,
            "test graphs": self.test_graphs,
            "graphs in the wrong split": self.leaks,
            "right and incomplete plans": self.right_incomplete,
        }
        lines = ["| audit | |", "|---|---:|", *(f"| {name} | {value:,} |" for name, value in told.items())]
        return "\n".join([*lines, *(f"\n- {finding}" for finding in self.findings)])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"findings": list(self.findings)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Audit":
        """What ``to_json`` wrote."""
        return cls(**{**record, "findings": tuple(record["findings"])})


def audit(samples: Iterable[Sample]) -> Audit:
    """Hold samples against the truth."""
    total = Audit()
    for sample in samples:
        total += _Examination(sample).result()
    return total


class _Examination:
    """One sample under the verifier's eyes."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.transcript = sample, sample.transcript
        is_foreign = sample.provenance.get("source") in FOREIGN
        self.graph = None if is_foreign else graph_of_task(self.transcript.prompt, self.transcript.meta)
        self.wrong: dict[str, list[str]] = {"states": [], "labels": [], "words": []}
        emissions = self.transcript.emissions
        comments = [k for k, entry in enumerate(emissions) if entry.stage is Stage.INSPECT]
        self.judged = None if sample.subset is Subset.MULTI_TURN or not comments else comments[-1]
        """Index of the inspection that is to be learnt."""

    def result(self) -> Audit:
        """What is wrong with the sample."""
        where = self._split_error()
        is_incomplete = False
        if self.graph is not None:
            self._check_record()
            found = review(self.transcript)
            self._check_steps(found)
            if self.sample.subset is Subset.MULTI_TURN:
                self._check_whole(found)
            elif self.judged is not None:
                is_incomplete = self._check_judged(self.judged)
        told = [f"{self.transcript.id}: {text}" for texts in self.wrong.values() for text in dict.fromkeys(texts)]
        told += [f"{self.transcript.id}: {where}, {self.transcript.prompt!r}"] if where else []
        is_known = self.graph is not None
        return Audit(
            samples=1,
            unchecked=int(not is_known),
            states=sum(e.stage.is_image for e in self.transcript.accepted) if is_known else 0,
            wrong_states=len(self.wrong["states"]),
            labels=int(is_known and self.judged is not None),
            wrong_labels=int(bool(self.wrong["labels"])),
            wrong_words=len(self.wrong["words"]),
            test_graphs=int(where == "a test prompt"),
            leaks=int(where == "in the wrong split"),
            right_incomplete=int(is_incomplete and self.sample.subset is Subset.CONFLICT),
            findings=tuple(told[:NUM_FINDINGS]),
        )

    def _split_error(self) -> str:
        graph = self.graph
        split = None if graph is None else data_split(graph)
        if split == "heldout" or is_benchmark(self.transcript.prompt):
            return "a test prompt"
        return "" if split in (None, self.sample.split) else "in the wrong split"

    def _check_record(self) -> None:
        """Hash, planned rounds, loss flags, and that there is a label where there should be one."""
        assert self.graph is not None
        sample, wrong = self.sample, self.wrong["labels"]
        if sample.graph_hash != self.graph.canonical_hash():
            wrong.append("graph_hash is not the prompt's")
        is_whole = sample.subset is Subset.MULTI_TURN
        if (sample.label is None) is not is_whole or (not is_whole and self.judged is None):
            wrong.append(f"label {sample.label} of {sample.subset}")
        first = 0 if is_whole else self.judged
        flags = [entry.loss for entry in self.transcript.emissions]
        if flags != [first is not None and k >= first for k in range(len(flags))]:
            wrong.append("loss on what is context, or none on what is to be learnt")
        if any(entry.error for entry in self.transcript.emissions):
            self.wrong["words"].append("an illegal emission")
        plans = [k for k, entry in enumerate(self.transcript.emissions) if entry.stage is Stage.PLAN]
        # of a critique the round that is judged does not count: its plan may be anybody's
        num = len(plans) if is_whole else sum(k < (self.judged or 0) for k in plans) - 1
        marked, announced = sample.provenance.get("planned", ()), planned_rounds(self.transcript)
        if [k for k in marked if k < num] != [k for k in announced if k < num]:
            wrong.append("planned rounds are not those that announce a placeholder")

    def _check_steps(self, found: Review) -> None:
        """Every plan, image and inspection but what is judged must be wholly true."""
        excused = self._excused()
        for k, (entry, terms) in enumerate(zip(self.transcript.emissions, found.steps, strict=True)):
            if k in excused or entry.stage in (Stage.STOP, Stage.REFINE):
                continue
            if terms.get(entry.stage.name.lower()) != 1.0:
                kind = "states" if entry.stage.is_image else "words"
                self.wrong[kind].append(f"emission {k}, {entry.stage.name}, is not true: {_short(entry)}")

    def _excused(self) -> set[int]:
        """Indices of what may be wrong: the plan (conflict) or the image (alignment) that is judged."""
        if self.judged is None:
            return set()
        emissions, is_plan = self.transcript.emissions[: self.judged], self.sample.subset is Subset.CONFLICT
        looked = [k for k, e in enumerate(emissions) if (e.stage is Stage.PLAN if is_plan else e.stage.is_image)]
        sketched = [k for k, e in enumerate(emissions) if e.stage.is_image]
        return set(looked[-1:] + (sketched[-1:] if is_plan else []))

    def _check_whole(self, found: Review) -> None:
        """A multi-turn drawing ends with what was asked for and holds no refinement."""
        if found.verdict is None or not found.verdict.strict or self.transcript.ended is not Ending.STOP:
            self.wrong["states"].append(f"ends with something else: {', '.join(found.reasons) or 'no STOP'}")
        if not 1 <= len(self.transcript.images) <= MAX_IMAGES:
            self.wrong["states"].append(f"{len(self.transcript.images)} images")
        for entry in self.transcript.accepted:
            if entry.stage is Stage.REFINE or (entry.stage is Stage.INSPECT and "<refine>" in str(entry.content)):
                self.wrong["words"].append(f"{entry.stage.name} finds a fault in a right step")

    def _check_judged(self, at: int) -> bool:
        """Label, inspection and correction of a critique; whether it is right and something is still missing."""
        emissions, label = self.transcript.emissions, self.sample.label
        queries, before = queries_of(self.transcript), range(at - 1, -1, -1)
        sketch = next((k for k in before if emissions[k].stage.is_image), None)
        plan = next((k for k in before if emissions[k].stage is Stage.PLAN), None)
        if sketch is None or plan is None or sketch not in queries:
            self.wrong["labels"].append("nothing to inspect")
            return False
        asked = [queries[plan], queries[sketch]]
        later = [queries[k] for k in range(at + 1, len(emissions)) if emissions[k].stage.is_image]
        plan_right, sketch_right, *fixed = (each.is_right for each in _CRITIC.judge([*asked, *later]))
        is_plan = self.sample.subset is Subset.CONFLICT
        if (plan_right if is_plan else sketch_right) is not label:
            self.wrong["labels"].append(f"label {label}, the critic says {plan_right if is_plan else sketch_right}")
        if is_plan and not sketch_right:
            self.wrong["states"].append("the sketch does not follow the judged plan")
        if not all(fixed):
            self.wrong["states"].append("the corrected image does not follow its plan")
        try:
            inspection = parse_inspection(str(emissions[at].content))
            report = parse_report(inspection.comment)
        except ValueError as error:
            self.wrong["words"].append(str(error))
            return False
        if (inspection.refine is None) is not label or bool(report.faults) is label:
            self.wrong["labels"].append(f"label {label}, the inspection says {_short(emissions[at])}")
        if inspection.refine is not None:
            self._check_refine(inspection.refine, emissions[sketch], emissions[at + 1 :])
        return label is True and not report.complete

    def _check_refine(self, refine: str, sketch: Entry, later: Sequence[Entry]) -> None:
        """Carrying out a correction on what is seen gives what is drawn next."""
        corrected = next((entry for entry in later if entry.stage.is_image), None)
        if corrected is None:
            self.wrong["words"].append("a correction that is not carried out")
            return
        seen, wanted = (self._things(entry.content) for entry in (sketch, corrected))
        try:
            after = apply(seen, parse_edits(refine))
        except ValueError as error:
            self.wrong["words"].append(f"correction {refine!r}: {error}")
            return
        if compare(wanted, filled(after, wanted)):
            self.wrong["words"].append(f"correction {refine!r} gives another state than is drawn")

    def _things(self, image: Any) -> tuple[Any, ...]:
        return things_seen(detect(np.asarray(image)), self.transcript.size)


def _short(entry: Entry) -> str:
    return f"{entry.content!r:.120}" if isinstance(entry.content, str) else "an image"
