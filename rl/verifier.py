"""``python -m strokes.rl.verifier``: a policy's own understanding learns to answer PARM's three questions.

PARM (arXiv 2501.13926) fine-tunes a vision-language model of 7B on images of the generator and yes or no. Here the
generator itself learns to answer: the prompt, the image as a canvas enters a context, the question in the words of
``rewards.parm``, and the right word as the next turn, which alone bears loss. So what is learnt is what
``AnsweringVerifier(Understanding.load(checkpoint, adapter))`` says. PARM tunes all parts of its model; here all parts
that understand get LoRA. (The trainer is transformers': TRL's SFTTrainer feeds token ids with padding, and cannot pack
BAGEL.)

One run is one folder: ``run.json``, ``data/`` (see ``verifier_data``), ``checkpoints/``, ``log.jsonl``, and at the end
``adapter/``, ``metrics.json`` and ``report.md``: both verifiers, before and after, on prompts that were set aside.
Settings are chosen by "validation" in it, on other prompts than those of "before" and "after".
"""

import math
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..agents.bagel.checkpoint import load
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.callbacks import Begin, JsonLog, StopWhenAsked
from ..agents.command import run_training, settings_from
from ..agents.load import checkpoint_of, fingerprint, load_policy, placing
from ..agents.lora import adapters
from ..agents.run_folder import RunFolder, logged_seconds, stop_requests
from ..agents.understanding import Understanding
from ..envs.files import write_whole
from ..envs.protocols import Policy, Verifier
from ..rewards.parm import AnsweringVerifier
from .checkpoints import WHOLE
from .judges import SERVERS, imported, make_verifier
from .train import latest_checkpoint
from .verifier_card import Spent
from .verifier_data import Builder
from .verifier_examples import Batch, Examples, num_rows
from .verifier_report import Report, examine
from .verifier_settings import JUDGES, Settings

UNDERSTANDING = (
    r"vit_model\.vision_model\.(embeddings\.patch_embedding|encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]))"
    r"|connector\.fc[12]|language_model\.lm_head"
)
"""Matrices with adapters beside those of the expert: of the image encoder, of what leads from it, and of the output. In
a model that never says yes or no, such as bagel-nano, the rows of these words are alike (cosine .9999), and nothing
before the output could tell them apart."""
FREE = SERVERS | {"out", "report_to", "save_every", "log_every", "keep"}
"""Settings that may differ when a run goes on: how its judge is reached, and what is written down."""


def main() -> int:
    """The command; its exit code is 143 where it was asked to stop before the end."""
    return run_training(lambda config, folder: train(settings_from(config, Settings, "verifier"), folder), "verifier")


def train(settings: Settings, folder: Path) -> bool:
    """Run, or go on with, one training of a verifier.

    Args:
        settings: All of it.
        folder: The run's folder.

    Returns:
        Whether the run is finished; false where it was asked to stop.
    """
    run = RunFolder(folder, asdict(settings), free=FREE)
    if run.metrics is not None:
        print(f"{folder} is finished; its report is in {folder / 'report.md'}", flush=True)
        return True
    with stop_requests() as stop:
        data = folder / "data" if settings.data is None else Path(settings.data)
        if settings.data is None and not build(settings, data, run, stop):
            print("stopped while drawing; the same command goes on", flush=True)
            return False
        train_split, held = Examples(data / "train.parquet"), Held.read(data)
        asked, trainer = make_trainer(settings, train_split, folder, stop)
        trainer.add_callback(Begin(run))
        trainer.train(resume_from_checkpoint=latest_checkpoint(folder))
    if trainer.state.global_step < trainer.state.max_steps:
        print(f"stopped after step {trainer.state.global_step}; the same command goes on", flush=True)
        return False
    trainer.save_model(str(folder / "adapter"))
    trainer.model.eval()
    report = reported(asked, trainer.model, held)
    write_whole(folder / "report.md", report.to_markdown() + "\n")
    learnt = {"steps": trainer.state.global_step, "examples": len(train_split)}
    run.finish({**learnt, **costs(folder, data), **report.to_dict()})
    report.show(sys.stdout)
    print(f"{folder} is finished: {folder / 'adapter'}, {folder / 'report.md'}", flush=True)
    return True


class Held(NamedTuple):
    """Examples that are not learnt from."""

    validation: Examples | None
    """For choosing settings; ``None``: there are none."""
    test: Examples

    @classmethod
    def read(cls, data: Path) -> Self:
        """Those of a folder of data."""
        path = data / "validation.parquet"
        return cls(Examples(path) if path.exists() and num_rows(path) else None, Examples(data / "test.parquet"))


def reported(asked: Understanding, model: Any, held: Held) -> Report:
    """The report on a model with adapters, and without them."""
    verifier = AnsweringVerifier(asked)
    with model.disable_adapter():
        found = {"before": examine(verifier, held.test)}
    if held.validation is not None:
        found["validation"] = examine(verifier, held.validation)
    return Report({**found, "after": examine(verifier, held.test)})


def costs(folder: Path, data: Path) -> dict[str, Any]:
    """What a run took, with what its data took; without that where the data do not say."""
    learning, spent = logged_seconds(folder / "log.jsonl"), Spent.read(data)
    if spent is None:
        return {"learning_seconds": learning}
    return {**asdict(spent), "learning_seconds": learning, "seconds": round(spent.seconds + learning, 2)}


def build(settings: Settings, folder: Path, run: RunFolder, stop: threading.Event) -> bool:
    """Make the data where they are not there; whether they are there now."""
    builder = Builder(folder, settings.drawings, seed=settings.seed, size=settings.size)
    if builder.is_complete:
        return True
    checkpoint = checkpoint_of(settings.policy)

    def make_policy(painter: str) -> Policy:
        return load_policy(settings.painter(painter), steps=settings.num_steps, guidance=settings.guidance)

    if not builder.draw(make_policy, labeller(settings), stop=stop, on_begun=run.begin):
        return False
    drawings = settings.drawings
    builder.choose(
        {
            "policy": f"{settings.policy['name']}, weights {fingerprint(checkpoint)[:16]}",
            "adapter": settings.policy.get("adapter") or "none",
            "prompts": f"{drawings.prompts} tasks of training, each drawn {drawings.members} times by "
            f"{' and '.join(drawings.painters)}, words at temperature {drawings.temperature}, seed {settings.seed}",
            "looks": f"every image, and estimates after steps {list(drawings.flow_steps)} of {settings.num_steps}",
            "judge": drawings.judge,
        }
    )
    return True


def labeller(settings: Settings) -> Verifier:
    """Who labels."""
    if settings.drawings.judge in JUDGES:
        return make_verifier({"verifier": {"name": settings.drawings.judge}}, settings.judge)
    verifier: Verifier = imported("drawings.judge", settings.drawings.judge)()
    return verifier


class VerifierTrainer(Trainer):
    """The trainer: cross entropy of the answers."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over all tokens that are answers; see ``Trainer``."""
        output = model(inputs["pack"])
        return (output.ce_loss, output) if return_outputs else output.ce_loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: transformers' own formula is for batches of token ids."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapters alone: PEFT would add the output's own weights, for being those of an embedding elsewhere."""
        self.model.save_pretrained(output_dir, save_embedding_layers=False)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        (Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}" / WHOLE).touch()


class Terminal(TrainerCallback):
    """One line for each step that is logged."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See ``TrainerCallback``."""
        if logs and "loss" in logs:
            print(f"step {state.global_step}/{state.max_steps}: loss {logs['loss']:.4f}", flush=True)


def make_trainer(
    settings: Settings, examples: Examples, folder: Path, stop: threading.Event
) -> tuple[Understanding, VerifierTrainer]:
    """Who is asked, and who teaches it: both hold the same model."""
    from peft import get_peft_model

    checkpoint, (dtype, device) = checkpoint_of(settings.policy), placing(settings.policy)
    model = load(checkpoint, dtype=dtype, device=device)
    asked = Understanding(model, Tokenizer.load(checkpoint))
    config = adapters(settings.lora)
    config.target_modules = f"{config.target_modules}|{UNDERSTANDING}"
    torch.manual_seed(settings.seed)  # PEFT draws what adapters begin with from torch's own generator
    trainer = VerifierTrainer(
        get_peft_model(model, config),
        arguments(settings, folder, len(examples), device),
        data_collator=Batch(asked),
        train_dataset=examples,
        callbacks=[StopWhenAsked(stop), JsonLog(folder / "log.jsonl"), Terminal()],
    )
    trainer.remove_callback(PrinterCallback)  # prints all figures of a step
    return asked, trainer


def arguments(settings: Settings, folder: Path, num: int, device: str) -> TrainingArguments:
    """Transformers' settings of a run on ``num`` examples."""
    steps = settings.epochs * math.ceil(num / settings.batch)
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        seed=settings.seed,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch // settings.micro_batch,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.lr_schedule,
        warmup_steps=math.ceil(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=device == "cpu",
        bf16=False,  # the weights have the precision they are loaded in; adapters and optimizer are float32
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=settings.keep,
        logging_steps=settings.log_every,
        report_to=list(settings.report_to),
        disable_tqdm=True,
    )


if __name__ == "__main__":
    sys.exit(main())
