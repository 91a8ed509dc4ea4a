"""The report on a verifier: how well it answers each question, of whose drawings, before and after it learnt to.

Answers are held against labels at their natural rate. A question whose AUC within prompts may as well be that of
guessing, because its interval of 95 % includes .5, is called not learnt, of all drawings or of one painter's: a beam or
a search in strokes asks about drawings in strokes alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO, get_args

from ..envs.protocols import Look, Verifier, VerifierQuestion
from ..rewards.interval import Interval
from .calibration import Calibration, calibration
from .verifier_examples import Example

QUESTIONS: tuple[VerifierQuestion, ...] = get_args(VerifierQuestion)
ALL = "all"
"""The drawings of all painters."""
HEAD = (
    *("question", "drawings", "verifier", "answers", "prompts", "yes"),
    *("AUC", "within prompts", "accuracy", "Brier", "skill", "ECE"),
)
BINS = ("question", "drawings", "verifier", "said", "answers", "mean said", "yes")


class Topic(NamedTuple):
    """What is reported on."""

    question: VerifierQuestion
    painter: str
    """Whose drawings; ``ALL``: everybody's."""


Findings = Mapping[Topic, Calibration]


def examine(verifier: Verifier, examples: Sequence[Example]) -> Findings:
    """A verifier's answers held against the labels, question by question, of all drawings and of each painter's.

    Those without an answer are left out.
    """
    found = {}
    for question in QUESTIONS:
        mine = [each for each in examples if each.question == question]
        opinions = verifier.ask(question, [Look(each.prompt, each.image) for each in mine]) if mine else []
        answers = [(each, o.p_yes) for each, o in zip(mine, opinions, strict=True) if o.p_yes is not None]
        for painter in (ALL, *sorted({each.painter for each, _ in answers})):
            of = [(each, p) for each, p in answers if painter in (ALL, each.painter)]
            if of:
                said, truth = [p for _, p in of], [each.label for each, _ in of]
                names = [each.prompt for each, _ in of], [each.painter for each, _ in of]
                found[Topic(question, painter)] = calibration(said, truth, *names)
    return found


def not_learnt(found: Findings) -> list[Topic]:
    """Questions whose answers may as well be given without a look, of all drawings or of one painter's."""
    return [topic for topic, of in found.items() if not of.is_learnt]


class Report:
    """What is said of a verifier at the end of its training."""

    def __init__(self, looks: Mapping[str, Findings]) -> None:
        """Args:

        looks: What was found, by when, such as "before" and "after"; the last is what it comes to.
        """
        self.looks = looks

    def rows(self) -> list[tuple[str, ...]]:
        """The figures of each topic at each time, as ``HEAD`` names them."""
        return [_row(topic, when, of_time[topic]) for topic, when, of_time in self._found()]

    def bins(self) -> list[tuple[str, ...]]:
        """The reliability tables, as ``BINS`` names them."""
        return [
            (*topic, when, f"from {each.low:.1f}", str(each.num), f"{each.said:.3f}", f"{each.true:.3f}")
            for topic, when, of_time in self._found()
            if topic.painter == ALL
            for each in of_time[topic].bins
        ]

    def _found(self) -> list[tuple[Topic, str, Findings]]:
        topics = dict.fromkeys(topic for of_time in self.looks.values() for topic in of_time)
        return [(topic, when, of_time) for topic in topics for when, of_time in self.looks.items() if topic in of_time]

    def verdict(self) -> str:
        """What it comes to, in words."""
        failed = [
            topic.question if topic.painter == ALL else f"{topic.question} of {topic.painter}"
            for topic in not_learnt(list(self.looks.values())[-1])
        ]
        return (
            f"Not learnt, for AUC within prompts may be .5 or is not known: {', '.join(failed)}."
            if failed
            else "All questions are learnt."
        )

    def to_markdown(self) -> str:
        """Both tables."""
        return f"{_markdown(HEAD, self.rows())}\n\n{self.verdict()}\n\n{_markdown(BINS, self.bins())}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: by time, question and painter."""
        return {
            when: {
                question: {topic.painter: each.to_dict() for topic, each in found.items() if topic.question == question}
                for question in QUESTIONS
                if any(topic.question == question for topic in found)
            }
            for when, found in self.looks.items()
        }

    def show(self, stream: TextIO) -> None:
        """Tables on a terminal, Markdown elsewhere."""
        if not stream.isatty():
            print(self.to_markdown(), file=stream, flush=True)
            return
        from rich.console import Console
        from rich.table import Table

        for head, rows in ((HEAD, self.rows()), (BINS, self.bins())):
            table = Table(*head)
            for row in rows:
                table.add_row(*row)
            Console(file=stream).print(table)
        print(self.verdict(), file=stream, flush=True)


def _row(topic: Topic, when: str, found: Calibration) -> tuple[str, ...]:
    counts = str(found.num), str(found.num_prompts), f"{found.share:.2f}"
    means = _words(found.auc), _words(found.auc_within), str(found.accuracy), str(found.brier), _words(found.skill)
    return *topic, when, *counts, *means, f"{found.ece:.3f}"


def _words(value: Interval | None) -> str:
    return "none" if value is None else str(value)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
