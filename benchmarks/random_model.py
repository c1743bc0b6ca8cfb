"""The model of the benchmarks of queries: ViT-S/16 with a BERT of its width, random weights."""

import torch
from transformers import BertTokenizerFast

from tcl.checkpoints.export_format import ExportConfig
from tcl.config.model import FusionConfig, ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.exports.describe import build_student
from tcl.exports.pretrained import Pretrained
from tcl.objectives.tcl import KIND

VOCABULARY, WIDTH = 30522, 384


def random_model(image_tokens: int | None = None) -> Pretrained:
    """ViT-S and six layers each of text and fusion encoder, as wide. image_tokens: for matching; None: all."""
    torch.manual_seed(0)
    heads = WIDTH // 64
    sizes = {"hidden_size": WIDTH, "num_attention_heads": heads, "intermediate_size": 4 * WIDTH}
    model = ModelConfig(
        image=ImageEncoderConfig(name="vit_small_patch16_224", image_size=224),
        text=TextEncoderConfig(overrides=sizes),
        fusion=FusionConfig(image_tokens=image_tokens),
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(VOCABULARY - 5))]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    return Pretrained(build_student(ExportConfig("tcl", model), tokenizer), tokenizer, KIND, model, 25, 30)
