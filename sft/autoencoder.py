"""Train the tiny autoencoder: pixels of the mini-world to BAGEL's kind of latents and back.

The first command of docs/training.md. The module has the shape of BAGEL's FLUX
autoencoder (downsampling 8, 16 channels), only narrower. Everything drawn later passes through it, so
its figures say how many objects the detector still reads in reconstructions of scenes it was not trained on.

    python -m strokes.sft.autoencoder --out outputs/autoencoder --steps 30000

A killed run goes on from ``state.pt`` in its folder when the same command is given again, exactly as it would have
gone on: images are numbered, each comes from a generator of its own, and step s draws from a window of them that
starts at s · batch / 8.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from ..agents.run_folder import RunFolder, stop_requests
from ..envs.files import replacing
from ..envs.scenes.render import COLORS, SHAPES, SIZE, Object, Scene, render

KL_WEIGHT = 1e-3
"""Measured: keeps the latents near unit scale at no visible cost of detail."""


SAVE_EVERY = 200
"""Steps between two states: about a minute on one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What defines a run; the defaults are what the shipped autoencoder was made with, but for the steps."""

    steps: int = 30_000
    width: int = 16
    """Channels at full resolution; ``BagelConfig.tiny`` and ``nano`` expect 16."""
    size: int = SIZE
    """Side of the images in pixels."""
    batch: int = 32
    lr: float = 2e-3
    """Peak learning rate; measured."""
    seed: int = 0
    pool: int = 8192
    """Images in memory; batch / 8 of them are replaced at each step, for drawing them costs more than training."""


def random_scene(rng: np.random.Generator, size: int) -> Scene:
    """Anything a painter might leave on a canvas: one to six objects, on a jittered grid or anywhere."""
    count, unit = int(rng.integers(1, 7)), size / 48
    objects: list[Object] = []
    cells = rng.permutation(9)[:count]
    free = rng.random() < 0.4
    for cell in cells:
        radius = rng.uniform(5.25, 7.5 if free else 7.0) * unit
        if free:
            x, y = rng.uniform(radius * 1.12, size - radius * 1.12, 2)
        else:
            x, y = ((np.array([cell % 3, cell // 3]) + 0.5) * size / 3) + rng.uniform(-1.5, 1.5, 2) * unit
        if all(np.hypot(x - o.x, y - o.y) > (radius + o.radius) * 0.95 for o in objects):
            shape, color = rng.choice(list(SHAPES)), rng.choice(list(COLORS))
            objects.append(Object(str(shape), str(color), *(round(float(v) * 4) / 4 for v in (x, y, radius))))
    return Scene(tuple(objects), size)


def random_image(rng: np.random.Generator, size: int) -> np.ndarray:
    """A rendered scene, in one case of eight blended with another: faint and double objects occur too."""
    image = render(random_scene(rng, size))
    if rng.random() < 0.125:
        other = render(random_scene(rng, size))
        share = rng.uniform(0.2, 0.8)
        image = (image * (1 - share) + other * share).astype(np.uint8)
    return image


def make_autoencoder(width: int, size: int) -> AutoencoderKL:
    """The FLUX autoencoder's shape with ``width`` channels at full resolution (128 in BAGEL)."""
    widths = tuple(width * m for m in (1, 2, 4, 4))
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=size,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def loss_fn(
    model: AutoencoderKL, images: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruction (L1 + 2·L2, ink weighted double: most of a canvas is ground) and KL per latent value."""
    posterior = model.encode(images).latent_dist
    output = model.decode(posterior.sample(generator)).sample
    ink = 1 + (images.amin(1, keepdim=True) < 0.85).float()
    error = output - images
    reconstruction = (error.abs() * ink).mean() + 2 * (error.square() * ink).mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return reconstruction, kl


def to_float(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def learning_rate(step: int, steps: int, peak: float) -> float:
    """50 steps of warm-up, flat for 30 %, then linear to 3 %."""
    share = step / steps
    return peak * min(1, (step + 1) / 50) * (1 if share < 0.3 else max(0.03, (1 - share) / 0.7))


class Pool:
    """A window of the endless sequence of training images: uint8 (pool, size, size, 3)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        shape = (settings.pool, settings.size, settings.size, 3)
        self.images, self.filled = np.empty(shape, np.uint8), range(0)

    def batch(self, step: int) -> torch.Tensor:
        """Training images of a step, float32 (batch, 3, size, size)."""
        settings = self.settings
        start = step * (settings.batch // 8)
        window = range(start, start + settings.pool)
        for number in window:
            if number not in self.filled:
                rng = np.random.default_rng([settings.seed, 0, number])
                self.images[number % settings.pool] = random_image(rng, settings.size)
        self.filled = window
        chosen = np.random.default_rng([settings.seed, 2, step]).integers(settings.pool, size=settings.batch)
        return to_float(self.images[chosen])


@torch.no_grad()
def figures(model: AutoencoderKL, settings: Settings, num: int = 512) -> dict[str, float]:
    """What there is to say of a trained model, measured on ``num`` scenes that it was not trained on.

    Returns:
        ``psnr`` of mean-path reconstructions in dB; ``detected``, the share of objects that the detector finds in
        them with shape and colour right; ``shift_factor`` and ``scale_factor``, which make latents unit normal.
    """
    from ..envs.scenes.detect import detect  # builds its prototypes on first use

    scenes = [random_scene(np.random.default_rng([settings.seed, 1, k]), settings.size) for k in range(num)]
    images = to_float(np.stack([render(scene) for scene in scenes]))
    latents = torch.cat([model.encode(part).latent_dist.mean for part in images.split(64)])
    output = torch.cat([model.decode(part).sample.clamp(-1, 1) for part in latents.split(64)])
    mse = ((output - images) * 127.5).square().mean()
    drawn = ((output + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    hits = total = 0
    for image, scene in zip(drawn, scenes, strict=True):
        found = Counter((each.shape, each.color) for each in detect(image))
        wanted = Counter((each.shape, each.color) for each in scene.objects)
        hits, total = hits + (found & wanted).total(), total + wanted.total()
    return {
        "psnr": float(10 * torch.log10(255**2 / mse)),
        "detected": hits / total,
        "shift_factor": float(latents.mean()),
        "scale_factor": float(1 / latents.std()),
    }


def train(out: Path, settings: Settings) -> bool:
    """Train, writing ``state.pt`` now and then and ``autoencoder.pt`` at the end.

    Returns:
        Whether the run is finished; false where it was asked to stop.
    """
    folder = RunFolder(out, asdict(settings))
    if (out / "autoencoder.pt").exists():
        print(f"{out} is finished: {folder.metrics}", flush=True)
        return True
    folder.begin()
    torch.manual_seed(settings.seed)
    model = make_autoencoder(settings.width, settings.size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
    pool, step = Pool(settings), 0
    if (saved := folder.load_state()) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    started, first = time.perf_counter(), step
    with stop_requests() as stop:
        while step < settings.steps and not stop.is_set():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings.steps, settings.lr)
            images = pool.batch(step).to(memory_format=torch.channels_last)
            noise = torch.Generator().manual_seed(int(np.random.default_rng([settings.seed, 3, step]).integers(2**62)))
            reconstruction, kl = loss_fn(model, images, noise)
            optimizer.zero_grad()
            (reconstruction + KL_WEIGHT * kl).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
            optimizer.step()
            step += 1
            if step % SAVE_EVERY == 0 or step == settings.steps or stop.is_set():
                folder.save_state(model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)
                folder.log(step=step, reconstruction=reconstruction.item(), kl=kl.item())
                rate = (step - first) / (time.perf_counter() - started)
                losses = f"reconstruction {reconstruction.item():.4f}  kl {kl.item():.3f}"
                print(f"step {step}  {losses}  {rate:.1f} steps/s", flush=True)
    if step < settings.steps:
        return False
    metrics = figures(model.eval(), settings) | asdict(settings)
    with replacing(out / "autoencoder.pt") as partial:
        torch.save({"model": model.state_dict(), **metrics}, partial)
    folder.finish(metrics)
    print(metrics, flush=True)
    return True


def main() -> int:
    """The command; its exit code is 143 where it was asked to stop before the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    arguments = vars(parser.parse_args())
    return 0 if train(arguments.pop("out"), Settings(**arguments)) else 143


if __name__ == "__main__":
    sys.exit(main())
