"""What happens beside learning: the log on screen, looks at the held-out set."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .heldout import HeldOut
from .run_report import write_run_report

if TYPE_CHECKING:
    from .preference_trainer import PreferenceTrainer
    from .trainer import StrokesTrainer


class Terminal(TrainerCallback):
    """One line for each step, in place of everything that is logged."""

    SHOWN: ClassVar[Mapping[str, str]] = {
        "reward": "reward",
        "images_per_drawing": "images",
        "drift/text_max": "drift of words",
        "drift/flow_max": "of images",
        "step_time": "seconds",
    }

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See ``TrainerCallback``."""
        if state.is_world_process_zero and logs and "reward" in logs:
            told = [f"{said} {logs[name]:.3g}" for name, said in self.SHOWN.items() if logs.get(name) is not None]
            print(f"step {state.global_step}/{state.max_steps}: {', '.join(told)}", flush=True)


class Watch(TrainerCallback):
    """Looks at the held-out set before the first step, and every so many steps."""

    def __init__(self, trainer: "StrokesTrainer | PreferenceTrainer", heldout: HeldOut, every: int) -> None:
        self.trainer, self.heldout, self.every = trainer, heldout, every

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See ``TrainerCallback``."""
        if state.global_step == 0:
            self._look(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See ``TrainerCallback``."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._look(state)

    def _look(self, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return
        found = self.heldout.look(state.global_step, self.trainer.generations.draw)
        self.trainer.log({f"heldout/{name}": value for name, value in found.items()})
        write_run_report(self.heldout.path.parent)
        sampled = f", sampled {found['sampled_strict']:.3f}" if "sampled_strict" in found else ""
        print(f"step {state.global_step}: held-out strict {found['strict']:.3f} greedy{sampled}", flush=True)
