"""Classes of all statements of a set about their images, by a trained head."""

from collections import Counter
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from tcl.data.sets.statement_set import Statements, Told
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import counted
from tcl.errors import InputError
from tcl.models.fused_classifier import FusedClassifier
from tcl.search.class_prompts import best_classes


@dataclass
class ClassifiedStatements:
    """N statements, in the order of their shards."""

    keys: list[str]
    """'<shard name>/<sample key>'."""
    told: list[Told]
    predicted: Tensor
    """[N] int64, places in the list of classes; of equal ones the first."""
    probabilities: Tensor
    """[N, classes] fp32."""
    bad: Counter[str]
    """Samples that could not be used, by cause."""

    @property
    def labels(self) -> Tensor:
        """[N] int64, the right classes."""
        return torch.tensor([one.label for one in self.told])


@torch.no_grad()
def classify_statements(
    accelerator: Accelerator, networks: FusedClassifier, statements: StreamedSet[Statements], batch_size: int
) -> ClassifiedStatements:
    """Called on every process, which share the statements; all get the result. batch_size >= 1.

    `networks` are in eval mode meanwhile. InputError on all processes: no usable statement.
    """
    was_training = networks.training
    networks.eval()
    device, rank, processes = accelerator.device, accelerator.process_index, accelerator.num_processes
    own, bad = [], Counter[str]()
    bar = tqdm(unit="text", desc="classifying", leave=False, disable=None if rank == 0 else True)
    try:
        with bar:
            for batch in statements.batches(batch_size, rank, processes):
                bad += batch.bad
                some = batch.examples
                if some is None:
                    continue
                inputs = (tensor.to(device) for tensor in (some.views, some.ids, some.mask, some.places))
                with accelerator.autocast():
                    logits = networks.logits(*inputs).float()
                best, _ = best_classes(logits, 1)
                rows = best[:, 0].tolist(), logits.softmax(dim=1).tolist()
                own += zip(batch.places, batch.keys, some.told, *rows, strict=True)
                bar.update(len(batch.keys))
    finally:
        networks.train(was_training)
    bad = sum(gather_object([bad]), Counter())
    rows = sorted(gather_object(own), key=lambda row: row[0])
    if not rows:
        causes = counted(bad) if bad else "the shards are empty"
        raise InputError(f"data.val: {statements.config.val!r} holds no usable labelled text: {causes}")
    _, keys, told, predicted, probabilities = zip(*rows, strict=True)
    return ClassifiedStatements(list(keys), list(told), torch.tensor(predicted), torch.tensor(probabilities), bad)
