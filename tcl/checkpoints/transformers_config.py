"""config.json of an export for transformers, whose Auto classes ask for it to load a tokenizer or a model."""

from transformers import AutoConfig, PreTrainedConfig

MODEL_TYPE = "tcl"
"""What config.json says as model_type. Exports of the first versions lack it."""


class TCLConfig(PreTrainedConfig):
    """What is in it, `tcl.checkpoints.export_format` says and reads; transformers only carries it about."""

    model_type = MODEL_TYPE


AutoConfig.register(MODEL_TYPE, TCLConfig, exist_ok=True)  # else it warns of a type that it does not know
