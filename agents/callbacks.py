"""What trainings share beside learning: beginning a run's folder, stopping when asked, the log in a file."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .run_folder import RunFolder, rewind


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
    """Saves and ends after the step during which somebody asked one of the processes for it."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """See ``TrainerCallback``."""
        if self._is_asked(args):
            control.should_save = control.should_training_stop = True
        return control

    def _is_asked(self, args: TrainingArguments) -> bool:
        """The same in all processes: a signal may reach them in different steps."""
        if args.world_size == 1:
            return self.stop.is_set()
        asked = torch.tensor(float(self.stop.is_set()), device=args.device)
        torch.distributed.all_reduce(asked)
        return bool(asked.item())


class JsonLog(TrainerCallback):
    """``log.jsonl``: every line of the trainer's log, with its step and the seconds since the process was."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._begun = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop lines of steps that a resumed run will take again."""
        if state.is_world_process_zero:
            rewind(self.path, state.global_step or -1)  # a run from the start takes step 0 again, too

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
