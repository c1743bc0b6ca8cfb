"""A tokenizer as a folder from which other software gets the ids that the model was trained on, too."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

_AS_IN_THE_FILE = "PreTrainedTokenizerFast"
"""The class that takes tokenizer.json as it is: others, such as BertTokenizer, put their own [SEP] behind a text."""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_tokens: int) -> None:
    """Into `folder`: `AutoTokenizer.from_pretrained(folder)(text, truncation=True)` gives the ids of
    `tcl.data.texts.tokenize.tokenize`: [CLS] and the tokens, no [SEP], max_tokens (>= 2) at most, and no special tokens
    for what a text says.

    Those that are not of the tokenizers library (there is no tokenizer.json of them) are saved as they are.
    """
    tokenizer.save_pretrained(folder)
    file, options = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.is_file():
        return
    whole, cls = Tokenizer.from_file(str(file)), tokenizer.cls_token
    whole.post_processor = TemplateProcessing(
        single=[cls, "$A"], pair=[cls, "$A", "$B:1"], special_tokens=[(cls, tokenizer.cls_token_id)]
    )
    whole.save(str(file))
    said = json.loads(options.read_text(encoding="utf-8"))
    # With one of the first two transformers makes a post-processor anew; the third is of the model it was made for.
    for name in ("add_bos_token", "add_eos_token", "processor_class"):
        said.pop(name, None)
    said |= {"tokenizer_class": _AS_IN_THE_FILE, "split_special_tokens": True, "model_max_length": max_tokens}
    options.write_text(json.dumps(said, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
