"""Exports as models of sentence-transformers: once this is imported, `SentenceTransformer(path)` and
`CrossEncoder(path)` load them, without `trust_remote_code`: nothing in an export is code.

sentence-transformers builds on transformers, and that is where it is said which classes are an export's. So
`AutoModel`, `AutoModelForSequenceClassification` and `AutoProcessor` of transformers load it as well.
"""

from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor

from tcl.checkpoints.transformers_config import TCLConfig
from tcl.sentence_transformers.embeddings import TCLEmbeddings
from tcl.sentence_transformers.matching import TCLMatching
from tcl.sentence_transformers.processor import TCLProcessor

AutoModel.register(TCLConfig, TCLEmbeddings, exist_ok=True)
AutoModelForSequenceClassification.register(TCLConfig, TCLMatching, exist_ok=True)
AutoProcessor.register(TCLConfig, TCLProcessor, exist_ok=True)

__all__ = ["TCLConfig", "TCLEmbeddings", "TCLMatching", "TCLProcessor"]
