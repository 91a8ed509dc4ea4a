"""OfficialSummary: GenEval's own numbers; and the way from its results to our tables with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from .geneval_results import ImageResult
from .summary import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One task of the benchmark's summary."""

    tag: str
    correct: int
    images: int

    @property
    def score(self) -> float:
        """Share of correct images, whatever prompts they are of."""
        return self.correct / self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialSummary:
    """The numbers that the benchmark's ``summary_scores.py`` prints."""

    images: int
    prompts: int
    image_accuracy: float
    prompt_accuracy: float
    """Share of prompts with a correct image: the best of several."""
    tasks: tuple[TaskScore, ...]
    """In order of appearance."""
    overall: float
    """Unweighted mean of the tasks that there are: GenEval's score."""

    def to_text(self) -> str:
        """The summary as the benchmark prints it."""
        lines = ["Summary", "=======", f"Total images: {self.images}", f"Total prompts: {self.prompts}"]
        lines += [f"% correct images: {self.image_accuracy:.2%}", f"% correct prompts: {self.prompt_accuracy:.2%}"]
        lines += ["", "Task breakdown", "=============="]
        lines += [f"{task.tag:<16} = {task.score:.2%} ({task.correct} / {task.images})" for task in self.tasks]
        return "\n".join([*lines, "", f"Overall score (avg. over tasks): {self.overall:.5f}\n"])


def official_summary(results: Sequence[ImageResult]) -> OfficialSummary:
    """The benchmark's own numbers of at least one result."""
    if not results:
        raise ValueError("Expected at least one result, got none.")
    tasks, prompts = dict[str, list[bool]](), dict[str, bool]()
    for result in results:
        tasks.setdefault(result.tag, []).append(result.correct)
        prompts[result.metadata] = prompts.get(result.metadata, False) or result.correct
    scores = tuple(TaskScore(tag=tag, correct=sum(each), images=len(each)) for tag, each in tasks.items())
    return OfficialSummary(
        images=len(results),
        prompts=len(prompts),
        image_accuracy=sum(result.correct for result in results) / len(results),
        prompt_accuracy=sum(prompts.values()) / len(prompts),
        tasks=scores,
        overall=sum(task.score for task in scores) / len(scores),
    )


def to_summary_results(results: Sequence[ImageResult]) -> list[Result]:
    """Results for ``summarise`` and ``compare``: official, strict and soft, drawings of a prompt being one cluster.

    Drawings of a prompt are numbered in the order of their filenames, whatever order the file is in.
    """
    order = sorted(results, key=lambda result: (len(result.filename), result.filename))
    drawings = dict[str, int]()
    made = []
    for result in order:
        number = drawings[result.metadata] = drawings.get(result.metadata, -1) + 1
        made.append(
            Result(
                task=result.tag,
                prompt_id=result.metadata,
                seed=number,
                official=float(result.correct),
                strict=None if result.strict is None else float(result.strict),
                soft=result.soft,
                images=1,
            )
        )
    first = {result.tag: k for k, result in reversed(list(enumerate(results)))}
    return sorted(made, key=lambda result: first[result.task])
