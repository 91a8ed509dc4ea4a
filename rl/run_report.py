"""The page of a run: reward and drift side by side, the held-out set, alarms, settings; and its curves as a picture."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.cards import escaped, tag
from ..envs.page import PAGE, STYLE
from ..rewards.interval import OVERALL
from .gauges import ALARM

Lines = Sequence[Mapping[str, Any]]
SMOOTHED = 20
"""Steps of a moving mean: of 64 drawings each, a share is then known to about 0.013."""


def write_run_report(folder: str | Path) -> None:
    """``curves.png`` and ``report.html`` of a run's folder, out of its logs; may be written while it runs."""
    folder = Path(folder)
    log, heldout = _lines(folder / "log.jsonl"), _lines(folder / "heldout.jsonl")
    draw_curves(log, heldout, folder / "curves.png")
    picture = base64.b64encode((folder / "curves.png").read_bytes()).decode()
    pages = sorted((folder / "samples").glob("*.html")) if (folder / "samples").exists() else []
    settings = json.loads((folder / "run.json").read_text()) if (folder / "run.json").exists() else {}
    body = [
        tag("h1", escaped(f"Reinforcement learning: {folder.name}")),
        tag("p", escaped(_verdict(log, heldout))),
        f'<img alt="curves of reward, held-out score, drift and images" style="width:100%" '
        f'src="data:image/png;base64,{picture}">',
        tag("h2", "Held-out set"),
        _table(heldout),
        tag("h2", "Drawings"),
        tag("p", " ".join(f'<a href="samples/{page.name}">step {int(page.stem)}</a>' for page in pages) or "none kept"),
        tag("h2", "Settings"),
        tag("pre", escaped(json.dumps(settings, indent=1))),
    ]
    page = PAGE.substitute(title=f"strokes-rl: {escaped(folder.name)}", style=STYLE, body="\n".join(body))
    (folder / "report.html").write_text(page, encoding="utf-8")


def draw_curves(log: Lines, heldout: Lines, path: Path) -> None:
    """Four panels over steps: reward, held-out score with 95 % intervals, drift and its alarms, images and entropy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    reward, held, drift, more = axes.flat
    for name, label in (("reward", "training reward"), ("hacking/held_out", "held-out reward, same drawings")):
        _line(reward, log, name, label)
    for kind, label in (("rows", "strict, greedy"), ("sampled", "strict, sampled")):
        rows = [(line["step"], _overall(line, kind)["strict"]) for line in heldout if kind in line]
        steps = [step for step, _ in rows]
        if rows:
            (drawn,) = held.plot(steps, [row["mean"] for _, row in rows], marker="o", label=label)
            low, high = ([row[end] for _, row in rows] for end in ("low", "high"))
            held.fill_between(steps, low, high, color=drawn.get_color(), alpha=0.2)
    for kind, limit in ALARM.items():
        _line(drift, log, f"drift/{kind}_max", f"{kind}, largest of a step")
        drift.axhline(limit, linestyle=":", label=f"{kind} alarm")
    drift.set_yscale("log")
    _line(more, log, "images_per_drawing", "images per drawing")
    _line(more, log, "entropy", "entropy of words, nats")
    for axis, title in zip(axes.flat, ("reward", "held-out set", "drift of replay, nats", "conduct"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _line(axis: Any, log: Lines, name: str, label: str) -> None:
    points = [(line["step"], line[name]) for line in log if line.get(name) is not None]
    steps, values = [step for step, _ in points], np.array([value for _, value in points], float)
    if len(values) < 2 * SMOOTHED:
        axis.plot(steps, values, label=label, linewidth=1)
        return
    (drawn,) = axis.plot(steps, values, linewidth=0.5, alpha=0.35)
    mean = np.convolve(values, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
    axis.plot(steps[SMOOTHED - 1 :], mean, label=f"{label}, mean of {SMOOTHED}", color=drawn.get_color())


def _verdict(log: Lines, heldout: Lines) -> str:
    alarms = {name: sum(bool(line.get(f"{name}")) for line in log) for name in ("hacking/alarm",)}
    drifts = sum(bool(line.get(f"drift/{kind}_alarm")) for line in log for kind in ALARM)
    parts = [f"{max((line['step'] for line in log), default=0)} steps"]
    if heldout:
        first, last = (_overall(line)["strict"]["mean"] for line in (heldout[0], heldout[-1]))
        parts.append(f"held-out strict {first:.3f} to {last:.3f}, greedy")
    return "; ".join([*parts, f"drift alarms {drifts}", f"hacking alarms {alarms['hacking/alarm']}"]) + "."


def _table(heldout: Lines) -> str:
    """Strict scores task by task, at the first look and at the last."""
    if not heldout:
        return tag("p", "not looked at")
    head = "".join(tag("th", escaped(name)) for name in ("task", *(f"step {line['step']}" for line in _ends(heldout))))
    rows = [tag("tr", head)]
    for row in heldout[0]["rows"]:
        cells = [tag("td", escaped(row["task"]))]
        for line in _ends(heldout):
            strict = next(other["strict"] for other in line["rows"] if other["task"] == row["task"])
            cells.append(tag("td", f"{strict['mean']:.3f} [{strict['low']:.3f}, {strict['high']:.3f}]"))
        rows.append(tag("tr", "".join(cells)))
    return tag("table", "".join(rows))


def _ends(lines: Lines) -> Lines:
    return [lines[0], lines[-1]] if len(lines) > 1 else lines


def _overall(line: Mapping[str, Any], kind: str = "rows") -> Mapping[str, Any]:
    return next(row for row in line[kind] if row["task"] == OVERALL)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
