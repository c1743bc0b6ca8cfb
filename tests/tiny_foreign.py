"""Tiny random models that transformers itself saves, with their processors."""

from pathlib import Path

import torch
from data_files import TOKENIZER
from torch import nn
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
WORDS = {"vocab_size": len(TOKENIZER), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0, **SIZES}
PHOTOS = {"image_size": 32, "patch_size": 8, **SIZES}
SQUARE = {"height": 32, "width": 32}
MAX_TOKENS = 10


def save_clip(folder: Path) -> Path:
    """Texts of up to MAX_TOKENS tokens, embeddings of 12 numbers; photos are scaled and cropped."""
    texts = {"max_position_embeddings": MAX_TOKENS, **WORDS}
    save(CLIPModel(CLIPConfig(text_config=texts, vision_config=PHOTOS, projection_dim=12)), folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)
    CLIPProcessor(images, TOKENIZER).save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """As `save_clip`; embeddings of 16 numbers, photos are squeezed."""
    texts = {"max_position_embeddings": MAX_TOKENS, "projection_size": 16, **WORDS}
    save(SiglipModel(SiglipConfig(text_config=texts, vision_config=PHOTOS)), folder)
    SiglipImageProcessor(size=SQUARE).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def save_blip(folder: Path, kind: type[PreTrainedModel] = BlipForImageTextRetrieval) -> Path:
    """Texts of up to MAX_TOKENS tokens."""
    texts = {"max_position_embeddings": MAX_TOKENS, "encoder_hidden_size": 16, **WORDS}
    save(kind(BlipConfig(text_config=texts, vision_config=PHOTOS, image_text_hidden_size=8)), folder)
    BlipProcessor(BlipImageProcessor(size=SQUARE), TOKENIZER).save_pretrained(folder)
    return folder


@torch.no_grad()
def save(model: nn.Module, folder: Path) -> None:
    """With weights so large that scores differ well."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)
