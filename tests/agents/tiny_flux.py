"""Random FLUX pipelines of a few thousand parameters, whole: tokenizers, text encoders, transformer, autoencoder."""

import string
from pathlib import Path

import torch


def save_tiny_flux(folder: Path, kind: str) -> Path:
    """A pipeline of class ``kind`` in ``folder``, as ``save_pretrained`` leaves it; its canvases are multiples of 4."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        )
        autoencoder = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1,
            scaling_factor=0.3,
        )
        texts = _text_encoders()
    pipeline = getattr(diffusers, kind)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder,
        transformer=transformer,
        **texts,
    )
    pipeline.save_pretrained(str(folder))
    return folder


def _text_encoders():
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    letters = [*string.ascii_lowercase, *string.digits, *",.;:'-"]
    clip = {
        word: k
        for k, word in enumerate(
            ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
        )
    }
    t5 = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -1.0), *((letter, -2.0) for letter in letters)]
    sizes = {"num_attention_heads": 2, "num_hidden_layers": 1}
    clip_config = CLIPTextConfig(
        vocab_size=len(clip),
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **sizes,
    )
    t5_config = T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=32, num_heads=2, num_layers=1)
    return {
        "text_encoder": CLIPTextModel(clip_config).eval(),
        "tokenizer": CLIPTokenizer(vocab=clip, merges=[], model_max_length=77),
        "text_encoder_2": T5EncoderModel(t5_config).eval(),
        "tokenizer_2": T5TokenizerFast(vocab=t5, extra_ids=0, model_max_length=64),
    }
