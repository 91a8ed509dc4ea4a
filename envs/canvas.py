"""CanvasEnv: drawing in strokes as a Gymnasium environment.

One step is one emission, a stage and its content. The order of the stages is in ``stages``, what
was said and drawn is in ``transcript``; this module adds the budget, the pay and the spaces.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from .filmstrip import ansi, contact_sheet
from .prompts import Prompts, make_prompts
from .protocols import Reward, Score
from .scenes.render import SIZE
from .spaces import Emissions, Prose
from .stages import Emission, Grammar, Stage
from .transcript import CRITIC, Ending, Entry, Transcript

OPTIONS = ("prompt", "meta", "canvas", "transcript")
PAID = ("outcome", "illegal", "process")
"""Terms of ``info["reward_terms"]`` that make up the reward: the end, the penalty, what the emission earned."""


class _NoVerdict(np.float64):
    """NaN that equals itself: ``check_env`` compares infos with ``==``, and NaN never equals NaN."""

    def __eq__(self, other: object) -> Any:
        return isinstance(other, _NoVerdict)

    __hash__ = np.float64.__hash__

    def __deepcopy__(self, memo: Any) -> "_NoVerdict":
        return self


NO_VERDICT = _NoVerdict("nan")
"""The value of a reward term that was not judged, or could not be."""


class CanvasEnv(gym.Env[dict[str, Any], Emission]):
    """A canvas, a prompt, and an agent that plans, sketches, inspects and refines until it stops.

    | id | prompts | reward |
    |---|---|---|
    | ``strokes/Scenes-v0`` | the mini-world's, drawn afresh | exact |
    | ``strokes/Canvas-v0`` | any | any; none by default |

    **Action**: ``Emission(stage, content)``, an element of ``Emissions``: text for PLAN and INSPECT, uint8
    (size, size, 3) for SKETCH and REFINE, ``""`` for STOP.

    **Observation**: ``prompt``; ``text``, the latest words; ``canvas`` uint8 (size, size, 3), white before the first
    image; ``stage``, the last accepted one, -1 before the first; ``left``, the emissions left.

    **Info**: ``action_mask`` int8 (5,), the legal stages; ``error``, why the emission was illegal, or "";
    ``reward_terms``, always the same keys: ``PAID`` and the reward's ``names``; NaN without a verdict.

    **Reward**: the sum of "process", what this emission earned (``Score.pay``), "outcome" at the end, and "illegal",
    ``-penalty`` for an illegal emission. On ``Scenes-v0`` the outcome is in [0, 1] and the process, over a whole
    episode, in [-1, 0]: faultless emissions earn 0, so drawing more rounds than needed gains nothing (``SceneReward``).

    **End**: ``terminated`` by an accepted STOP or when the budget, which is observed, is used up; never ``truncated``.
    An illegal emission changes nothing but the budget. The record is ``env.unwrapped.transcript``.

    Args:
        prompts: A source of prompts, see ``make_prompts``.
        reward: A ``Reward``, its entry point ``"module:name"`` (a class is called without arguments), or
            ``None``. Prefer names: Gymnasium deep-copies what it is given.
        size: Side of the canvas in pixels, a multiple of 16 (patches of BAGEL's autoencoder: 8 times 2).
        budget: Emissions of an episode. 32 is eight rounds; published loops saturate at four to five
            (arXiv 2602.15772) and a refined round has four emissions.
        max_chars: Longest prompt and longest text; four times the longest prompt in common use.
        penalty: Paid for an illegal emission; 0.1 as in GEM (arXiv 2510.01051).
        inspect_refined: See ``Grammar``.
        stop_after_image: See ``Grammar``.
        heeds_refine: See ``Grammar``.
        scoring: "step" judges after each emission; "deferred" pays 0 and leaves judging to the caller.
        render_mode: "rgb_array" (a contact sheet of constant size), "ansi", or ``None``.

    Version history: v0, first release; stages earn their shortfall, not their verdicts.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own idiom

    def __init__(
        self,
        prompts: Prompts | Sequence[Any] | str = ("a red circle left of a blue square",),
        reward: Reward | str | None = None,
        *,
        size: int = SIZE,
        budget: int = 32,
        max_chars: int = 4096,
        penalty: float = 0.1,
        inspect_refined: bool = False,
        stop_after_image: bool = False,
        heeds_refine: bool = True,
        scoring: Literal["step", "deferred"] = "step",
        render_mode: str | None = None,
    ) -> None:
        if size < 16 or size % 16:
            raise ValueError(f"Expected `size` to be a positive multiple of 16, got {size}.")
        if budget < 2:
            raise ValueError(f"Expected a `budget` of at least 2 emissions, got {budget}.")
        if scoring not in ("step", "deferred"):
            raise ValueError(f"Expected `scoring` to be 'step' or 'deferred', got {scoring!r}.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"Expected `render_mode` to be 'rgb_array', 'ansi' or None, got {render_mode!r}.")
        self.prompts, self.reward = make_prompts(prompts), make_reward(reward)
        self.size, self.budget, self.max_chars, self.penalty = size, budget, max_chars, penalty
        self.grammar = Grammar(
            inspect_refined=inspect_refined, stop_after_image=stop_after_image, heeds_refine=heeds_refine
        )
        self.scoring, self.render_mode = scoring, render_mode
        self.terms = (*PAID, *reward_names(self.reward))
        self.transcript = Transcript(prompt="", size=size)
        text, image = Prose(max_chars), spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = Emissions((text, image, text, image, text))  # type: ignore[assignment]
        self.observation_space = spaces.Dict(
            prompt=text, text=text, canvas=image, stage=spaces.Discrete(6, start=-1), left=spaces.Discrete(budget + 1)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the draw of the prompt; the agent's noise is the agent's business.
            options: "prompt" and "meta" (a task instead of a drawn one), "canvas" (an image to begin with),
                or "transcript" alone (an open or finished one to continue; cut it first to change it).

        Raises:
            ValueError: An empty or over-long prompt, an unknown option, a canvas or transcript of another size,
                a transcript that is finished or has used up the budget.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - set(OPTIONS):
            raise ValueError(
                f"Expected options among {', '.join(OPTIONS)}, got {', '.join(map(repr, sorted(unknown)))}."
            )
        if options.get("transcript") is not None:
            self.transcript = self._reopened(options)
        else:
            self.transcript = self._fresh(options, seed)
        self._text = next((e.content for e in reversed(self.transcript.emissions) if _speaks(e)), "")
        self._left = self.budget - self.transcript.spent
        return self.observe(), self._info(dict.fromkeys(self.terms, NO_VERDICT))

    def step(self, action: Emission) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take one emission, legal or not.

        Raises:
            InvalidContent: Content of the wrong type, or an image of the wrong size or dtype (also a ``ValueError``).
            ResetNeeded: The episode is over.
        """
        self._advance(action)
        transcript, score = self.transcript, None
        if self.reward is not None and self.scoring == "step":
            score = self.reward([transcript])[0]
        reward, terms = self.pay(transcript, score)
        return self.observe(), reward, transcript.ended is not None, False, self._info(terms)

    def pay(self, transcript: Transcript, score: Score | None) -> tuple[float, dict[str, float]]:
        """What the last emission of ``transcript`` earns.

        Args:
            transcript: Judged after the emission; gets the score's terms.
            score: The verdict; ``None`` where nobody judged.

        Returns:
            The reward, and ``info["reward_terms"]``.
        """
        values: dict[str, float | None] = {}
        paid: dict[str, float | None] = dict.fromkeys(PAID)
        if score is not None or self.scoring == "step":
            paid["illegal"] = -self.penalty if transcript.emissions[-1].error else 0.0
        if score is not None:
            transcript.grade(score)
            paid["process"] = score.earned(len(transcript.emissions) - 1)
            values |= score.steps[-1] if score.steps else {}
            if transcript.ended:
                values |= score.terms
                paid["outcome"] = score.total
        values |= paid
        terms = {name: values.get(name) for name in self.terms}
        reward = sum(value for value in paid.values() if value is not None)
        return float(reward), {name: NO_VERDICT if value is None else float(value) for name, value in terms.items()}

    def interject(self, words: str, source: str = CRITIC) -> None:
        """Words from outside, before the next emission: recorded, shown as ``text``, free of charge."""
        self.transcript.interject(words[: self.max_chars], source)
        self._text = self.transcript.emissions[-1].content

    def observe(self) -> dict[str, Any]:
        """The observation as it stands; nothing in it is shared with the record."""
        accepted, canvas = self.transcript.accepted, self.transcript.canvas
        return {
            "prompt": self.transcript.prompt,
            "text": self._text,
            "canvas": np.full((self.size, self.size, 3), 255, np.uint8) if canvas is None else canvas.copy(),
            "stage": np.int64(accepted[-1].stage if accepted else -1),
            "left": np.int64(self._left),
        }

    def render(self) -> np.ndarray | str | None:  # type: ignore[override]
        """The episode so far: a contact sheet, uint8 (H, W, 3), or text with ANSI colours."""
        if self.render_mode == "rgb_array":
            return contact_sheet(self.transcript, num_cells=self.budget // 2)
        return ansi(self.transcript) if self.render_mode == "ansi" else None

    def _advance(self, action: Emission) -> None:
        """Record the emission and spend budget."""
        if self.transcript.ended:
            raise ResetNeeded(f"Expected reset() after the end of the episode ({self.transcript.ended}), got step().")
        self.transcript.record(action, grammar=self.grammar, max_chars=self.max_chars)
        self._left -= 1
        entry = self.transcript.emissions[-1]
        if _speaks(entry):
            self._text = entry.content
        if self._left == 0 and not self.transcript.ended:
            self.transcript.ended = Ending.BUDGET

    def _info(self, terms: dict[str, float]) -> dict[str, Any]:
        entries = self.transcript.emissions
        return {
            "action_mask": self.transcript.mask(self.grammar),
            "error": entries[-1].error if entries else "",
            "reward_terms": terms,
        }

    def _fresh(self, options: Mapping[str, Any], seed: int | None) -> Transcript:
        prompt, meta = options.get("prompt"), options.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise ValueError(f"Expected `meta` to be a mapping, got {meta!r:.80}.")
        if prompt is None:
            drawn = self.prompts.sample(self.np_random)
            prompt, meta = drawn.prompt, {**drawn.meta, **meta}
        transcript = Transcript(prompt=checked_prompt(prompt, self.max_chars), size=self.size, seed=seed, meta=meta)
        if options.get("canvas") is not None:
            transcript.give(options["canvas"])
        return transcript

    def _reopened(self, options: Mapping[str, Any]) -> Transcript:
        given = options["transcript"]
        if len(options) > 1:
            raise ValueError(f"Expected 'transcript' alone, got {', '.join(map(repr, sorted(options)))}.")
        if not isinstance(given, Transcript):
            raise ValueError(f"Expected a Transcript (see load_transcripts), got {type(given).__name__}.")
        if given.size != self.size:
            raise ValueError(
                f"Expected a transcript of size {self.size}, got {given.size}; make the env with that size."
            )
        checked_prompt(given.prompt, self.max_chars)
        transcript = given.cut(len(given.emissions))
        if not transcript.legal(self.grammar):
            raise ValueError("Expected an open transcript, got one that stopped; cut it at the stage to continue from.")
        if transcript.spent >= self.budget:
            raise ValueError(
                f"Expected fewer than {self.budget} emissions, got {transcript.spent}; cut it or raise `budget`."
            )
        return transcript


def checked_prompt(prompt: Any, max_chars: int) -> str:
    """The prompt itself, if it is a text that is neither blank nor too long."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"Expected a prompt that says what to draw, got {prompt!r}.")
    if len(prompt) > max_chars:
        raise ValueError(f"Expected a prompt of at most {max_chars} characters, got {len(prompt)}; raise `max_chars`.")
    return prompt


def make_reward(reward: Reward | str | None) -> Reward | None:
    """A reward, or the one that an entry point ``"module:name"`` names."""
    if not isinstance(reward, str):
        return reward
    module, _, name = reward.partition(":")
    if not name:
        raise ValueError(f"Expected a reward as 'module:name', got {reward!r}.")
    found = importlib.import_module(module)
    try:
        value = getattr(found, name)
    except AttributeError:
        raise ValueError(f"Expected {module} to define {name!r}, got no such name.") from None
    return value() if isinstance(value, type) else value


def reward_names(reward: Reward | None) -> tuple[str, ...]:
    """The terms a reward declares in ``names``; a plain function has none, its terms are in the transcript alone."""
    return tuple(getattr(reward, "names", ()))


def _speaks(entry: Entry) -> bool:
    return isinstance(entry.content, str) and entry.stage is not Stage.STOP and not entry.error
