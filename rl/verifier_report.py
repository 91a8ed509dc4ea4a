"""The report on a verifier: how well it answers each question, before and after it learnt to."""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO, get_args

from ..envs.protocols import Look, Verifier, VerifierQuestion
from ..rewards.interval import Interval
from .calibration import Calibration, calibration
from .verifier_examples import Example

QUESTIONS: tuple[VerifierQuestion, ...] = get_args(VerifierQuestion)
HEAD = ("question", "verifier", "answers", "prompts", "yes", "AUC", "accuracy", "Brier", "ECE")
BINS = ("question", "verifier", "said", "answers", "mean said", "yes")


def examine(verifier: Verifier, examples: Sequence[Example]) -> dict[VerifierQuestion, Calibration]:
    """A verifier's answers held against the labels, question by question; those without an answer are left out."""
    found = {}
    for question in QUESTIONS:
        mine = [each for each in examples if each.question == question]
        opinions = verifier.ask(question, [Look(each.prompt, each.image) for each in mine]) if mine else []
        answers = [(each, o.p_yes) for each, o in zip(mine, opinions, strict=True) if o.p_yes is not None]
        if answers:
            said, truth = [p for _, p in answers], [each.label for each, _ in answers]
            found[question] = calibration(said, truth, [each.prompt for each, _ in answers])
    return found


class Report:
    """What is said of a verifier at the end of its training."""

    def __init__(self, looks: Mapping[str, Mapping[VerifierQuestion, Calibration]]) -> None:
        """Args:

        looks: What was found, by when, such as "before" and "after".
        """
        self.looks = looks

    def rows(self) -> list[tuple[str, ...]]:
        """The figures of each question at each time, as ``HEAD`` names them."""
        return [_row(question, when, of_time[question]) for question, when, of_time in self._found()]

    def bins(self) -> list[tuple[str, ...]]:
        """The reliability tables, as ``BINS`` names them."""
        return [
            (question, when, f"from {each.low:.1f}", str(each.num), f"{each.said:.3f}", f"{each.true:.3f}")
            for question, when, of_time in self._found()
            for each in of_time[question].bins
        ]

    def _found(self) -> list[tuple[VerifierQuestion, str, Mapping[VerifierQuestion, Calibration]]]:
        return [(q, when, of_time) for q in QUESTIONS for when, of_time in self.looks.items() if q in of_time]

    def to_markdown(self) -> str:
        """Both tables."""
        return f"{_markdown(HEAD, self.rows())}\n\n{_markdown(BINS, self.bins())}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            when: {question: found.to_dict() for question, found in of_time.items()}
            for when, of_time in self.looks.items()
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


def _row(question: str, when: str, found: Calibration) -> tuple[str, ...]:
    counts = str(found.num), str(found.num_prompts), f"{found.share:.2f}"
    return question, when, *counts, _words(found.auc), str(found.accuracy), str(found.brier), f"{found.ece:.3f}"


def _words(value: Interval | None) -> str:
    return "none" if value is None else str(value)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
