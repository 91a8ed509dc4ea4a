"""``strokes-draw``: one prompt, drawn in strokes, judged where it can be, and shown round by round.

Writes ``final.png``, ``transcript.jsonl`` with its images, ``report.html`` and ``metrics.json`` into the run's
folder. ``configs/draw.yaml`` says what can be set.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..envs.archive import save_transcripts
from ..envs.canvas import CanvasEnv, make_reward
from ..envs.protocols import Cost, Policy
from ..envs.report import write_report
from ..envs.transcript import Transcript
from .command import check_number, run, settings_from
from .load import load_policy
from .view import Lines, make_view, verdict

REWARD = "strokes.rewards.scenes:SceneReward"
"""Judges drawings of the mini-world's prompts exactly; others have no verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/draw.yaml``, composed."""

    prompt: str | None
    seed: int
    """Decides all noise, together with the number of the drawing."""
    num_samples: int
    """Drawings of the same prompt."""
    steps: int | None
    """Sampling steps per image; ``None``: the policy samples no images."""
    guidance: float | None
    """Scale of the text guidance; ``None``: the policy has none."""
    size: int
    """Side of the canvas in pixels."""
    out: str
    policy: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0)
        check_number("num_samples", self.num_samples, 1)
        check_number("size", self.size, 16)
        check_number("steps", self.steps, 1, (int, type(None)))
        check_number("guidance", self.guidance, 0, (int, float, type(None)))
        if not self.prompt or not self.prompt.strip():
            raise ValueError('Expected a prompt that says what to draw, such as "a red circle".')
        try:
            self.prompt.encode()
        except UnicodeEncodeError:
            raise ValueError("Expected a prompt in UTF-8, got bytes that are not.") from None


def main() -> int:
    """The console script; returns the exit code, 0 only if it drew."""
    return run(command, "draw")


def command(config: Any, folder: Path) -> bool:
    """Draw as ``config`` says and write everything into ``folder``; whether every drawing has an image."""
    settings = settings_from(config, Settings, "draw")
    is_human = settings.policy["name"] == "human"  # who is asked questions wants no spinner over them
    view = make_view(sys.stdout, settings.num_samples, is_plain=is_human)
    started, envs = time.perf_counter(), canvases(settings)  # what cannot be drawn is refused before a model is loaded
    with view.waiting("Loading the policy"):
        policy = load_policy(
            settings.policy, steps=settings.steps, guidance=settings.guidance, score_fn=make_reward(REWARD)
        )
    transcripts, costs = draw(policy, envs, settings.seed, view)
    best = best_of(transcripts)
    save_transcripts(transcripts, folder / "transcript.jsonl")
    if best is not None:
        Image.fromarray(transcripts[best].images[-1]).save(folder / "final.png")
    write_report(transcripts, folder / "report.html", policy=str(settings.policy["name"]), costs=costs)
    seconds = time.perf_counter() - started
    metrics = summary(settings, transcripts, costs, best, seconds)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    return _conclude(view, folder, transcripts, best)


def canvases(settings: Settings) -> list[CanvasEnv]:
    """One canvas per drawing, begun; ``ValueError`` for a prompt or a size that no canvas takes."""
    envs = [CanvasEnv([settings.prompt], REWARD, size=settings.size) for _ in range(settings.num_samples)]
    for env in envs:
        env.reset(seed=settings.seed, options={"prompt": settings.prompt})
    return envs


def draw(policy: Policy, envs: Sequence[CanvasEnv], seed: int, view: Lines) -> tuple[list[Transcript], list[Cost]]:
    """All drawings, advanced together.

    Args:
        policy: Draws.
        envs: Canvases that are begun.
        seed: Decides all noise, together with the number of the drawing.
        view: Shows every emission as it comes.

    Returns:
        One judged transcript and the cost of each drawing.
    """
    costs = [Cost()] * len(envs)
    seeds = [(seed, 0, 0, member) for member in range(len(envs))]  # as in a rollout: step 0, prompt 0
    sessions = [policy.start(env.transcript, env.size, seed) for env, seed in zip(envs, seeds, strict=True)]
    try:
        while open_ := [k for k, env in enumerate(envs) if env.transcript.ended is None]:
            masks = [envs[k].transcript.mask(envs[k].grammar) for k in open_]
            with view.waiting("Drawing"):
                replies = policy.act([sessions[k] for k in open_], masks)
            for k, reply in zip(open_, replies, strict=True):
                envs[k].step(reply.emission)
                costs[k] += reply.cost
                entry = envs[k].transcript.emissions[-1]
                entry.source = reply.source
                view.emission(k, entry)
                if envs[k].transcript.ended:
                    view.ended(k, envs[k].transcript)
    finally:
        policy.close(sessions)
    return [env.transcript for env in envs], costs


def best_of(transcripts: Sequence[Transcript]) -> int | None:
    """The drawing that goes to ``final.png``: the best judged one, else the first with an image."""
    drawn = [k for k, transcript in enumerate(transcripts) if transcript.images]
    scores = {k: transcripts[k].score for k in drawn}
    return max(drawn, key=lambda k: (-1.0 if scores[k] is None else scores[k], -k), default=None)


def summary(
    settings: Settings, transcripts: Sequence[Transcript], costs: Sequence[Cost], best: int | None, seconds: float
) -> dict[str, Any]:
    """What ``metrics.json`` holds; a missing verdict is null."""
    samples = [
        {
            "id": transcript.id,
            "score": transcript.score,
            "ended": str(transcript.ended),
            "terms": dict(transcript.emissions[-1].terms) if transcript.emissions else {},
            "emissions": len(transcript.emissions),
            "illegal": sum(bool(entry.error) for entry in transcript.emissions),
            "rounds": len(transcript.rounds),
            "images": len(transcript.images),
            "cost": asdict(cost),
        }
        for transcript, cost in zip(transcripts, costs, strict=True)
    ]
    return {
        **asdict(settings),
        "final": None if best is None else transcripts[best].id,
        "seconds": seconds,
        "samples": samples,
    }


def _conclude(view: Lines, folder: Path, transcripts: Sequence[Transcript], best: int | None) -> bool:
    missing = [k + 1 for k, transcript in enumerate(transcripts) if not transcript.images]
    if best is not None and len(transcripts) > 1:
        view.say(f"final.png is drawing {best + 1}: {verdict(transcripts[best])}")
    view.say(f"report: {(folder / 'report.html').absolute()}")
    if missing:
        print(f"strokes-draw: Expected images, got none in drawing {', '.join(map(str, missing))}.", file=sys.stderr)
    return not missing


if __name__ == "__main__":
    sys.exit(main())
