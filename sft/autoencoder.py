"""Train the tiny autoencoder: pixels of the mini-world to BAGEL's kind of latents and back.

The first of the three commands that make ``bagel-tiny``. The module has the shape of BAGEL's FLUX
autoencoder (downsampling 8, 16 channels), only narrower; everything drawn later passes through it, so
it is trained until the detector reads nearly every reconstruction (98 % of objects at least).

    python -m strokes.sft.autoencoder --out outputs/autoencoder --steps 30000

A killed run goes on from ``state.pt`` in its folder when the same command is given again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from ..envs.scenes.render import COLORS, SHAPES, SIZE, Object, Scene, render

KL_WEIGHT = 1e-3
"""Measured: keeps the latents near unit scale at no visible cost of detail."""


def random_scene(rng: np.random.Generator, size: int) -> Scene:
    """Anything a painter might leave on a canvas: one to six objects, on a jittered grid or anywhere."""
    count, unit, objects = int(rng.integers(1, 7)), size / 48, []
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


def loss_fn(model: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruction (L1 + 2·L2, ink weighted double: most of a canvas is ground) and KL per latent value."""
    posterior = model.encode(images).latent_dist
    output = model.decode(posterior.sample()).sample
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


@torch.no_grad()
def statistics(model: AutoencoderKL, images: torch.Tensor) -> dict[str, float]:
    """PSNR in dB of mean-path reconstructions, and the latents' mean and standard deviation."""
    latents = torch.cat([model.encode(part).latent_dist.mean for part in images.split(64)])
    output = torch.cat([model.decode(part).sample.clamp(-1, 1) for part in latents.split(64)])
    mse = ((output - images) * 127.5).square().mean()
    return {
        "psnr": float(10 * torch.log10(255**2 / mse)),
        "shift_factor": float(latents.mean()),
        "scale_factor": float(1 / latents.std()),
    }


def train(out: Path, steps: int, width: int, size: int, batch: int, peak: float, seed: int, pool: int) -> None:
    """Train, writing ``state.pt`` every 500 steps and ``autoencoder.pt`` with its figures at the end."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = make_autoencoder(width, size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), peak, betas=(0.9, 0.99), weight_decay=0.0)
    images, step = np.stack([random_image(rng, size) for _ in range(pool)]), 0
    state = out / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    started, first = time.time(), step
    while step < steps:
        # Each step draws from its own generator, so that a resumed run sees what it would have seen.
        draw = np.random.default_rng([seed, step])
        fresh = draw.integers(pool, size=batch // 8)
        images[fresh] = [random_image(draw, size) for _ in fresh]
        x = to_float(images[draw.integers(pool, size=batch)]).to(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        reconstruction, kl = loss_fn(model, x)
        optimizer.zero_grad()
        (reconstruction + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0 or step == steps:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, state)
            rate = (step - first) / (time.time() - started)
            print(f"{step} reconstruction {reconstruction:.4f} kl {kl:.3f} {rate:.1f} steps/s", flush=True)
    held_out = to_float(np.stack([render(random_scene(np.random.default_rng([seed, 1, i]), size)) for i in range(512)]))
    figures = statistics(model.eval(), held_out) | {"steps": steps, "width": width, "size": size, "seed": seed}
    torch.save({"model": model.state_dict(), **figures}, out / "autoencoder.pt")
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    print(figures, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=8192)
    args = parser.parse_args()
    train(args.out, args.steps, args.width, args.size, args.batch, args.lr, args.seed, args.pool)


if __name__ == "__main__":
    main()
