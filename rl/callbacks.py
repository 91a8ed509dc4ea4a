"""What happens beside learning: stopping when asked, the log in a file and on screen, looks at the held-out set."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..agents.run_folder import RunFolder
from ..envs.files import write_whole
from .heldout import HeldOut
from .run_report import write_run_report

if TYPE_CHECKING:
    from .trainer import StrokesTrainer


class Begin(TrainerCallback):
    """Makes the folder the run's own once something was learnt; until then a wrong setting can be put right in it."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self._is_begun = run, False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See ``TrainerCallback``; comes before the first checkpoint."""
        if not self._is_begun:
            self.run.begin()
            self._is_begun = True


class StopWhenAsked(TrainerCallback):
    """Saves and ends after the step during which somebody asked for it."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """See ``TrainerCallback``."""
        if self.stop.is_set():
            control.should_save = control.should_training_stop = True
        return control


class JsonLog(TrainerCallback):
    """``log.jsonl``: every line of the trainer's log, with its step and the seconds since the run was started."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._begun = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop lines of steps that a resumed run will take again."""
        if state.is_world_process_zero and self.path.exists():
            lines = self.path.read_text().split("\n")[:-1]  # a kill may have cut the last one
            kept = [line for line in lines if state.global_step and json.loads(line)["step"] <= state.global_step]
            write_whole(self.path, "".join(f"{line}\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See ``TrainerCallback``."""
        if state.is_world_process_zero and logs:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = {"step": state.global_step, "seconds": round(time.monotonic() - self._begun, 2), **logs}
            with self.path.open("a") as file:
                file.write(json.dumps(line, default=float) + "\n")


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

    def __init__(self, trainer: "StrokesTrainer", heldout: HeldOut, every: int) -> None:
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
        found = self.heldout.look(state.global_step, self.trainer.draw)
        self.trainer.log({f"heldout/{name}": value for name, value in found.items()})
        write_run_report(self.heldout.path.parent)
        sampled = f", sampled {found['sampled_strict']:.3f}" if "sampled_strict" in found else ""
        print(f"step {state.global_step}: held-out strict {found['strict']:.3f} greedy{sampled}", flush=True)
