"""The log on screen: one line for each stretch of steps, one for each look at the validation split."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Terminal(TrainerCallback):
    """Prints what is worth reading of what is logged."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See ``TrainerCallback``."""
        if not state.is_world_process_zero or not logs:
            return
        found = {name.removeprefix("eval_"): v for name, v in logs.items() if name.startswith("eval_")}
        if "ce" in logs:
            found = {name: logs[name] for name in ("ce", "mse", "grad_norm") if name in logs}
            found["tokens/s"] = float(round(logs["tokens_per_second"]))
        if found:
            told = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
            print(f"step {state.global_step}/{state.max_steps}  {told}", flush=True)
