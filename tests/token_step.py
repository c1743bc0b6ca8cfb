"""Run by tests/test_token_training.py: forward and backward from stored tokens, on a share of a batch.

torchrun --nproc_per_node 2 tests/token_step.py OUT_DIR
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny import MODEL, VOCABULARY, random_batch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.clip_objective import CLIPObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.texts.text_tokens import Texts
from tcl.data.tokens.stored_tokens import StoredTokens, store_tokens
from tcl.data.tokens.token_views import ImageTokens
from tcl.models.encoders import build_towers
from tcl.models.no_teacher import NoTargets
from tcl.objectives.clip import CLIPStudent

B = 4


def part(rows: slice) -> Batch:
    whole = random_batch(2 * B, seed=3)
    tokens = store_tokens(torch.randn(2 * B, 5, 24, generator=torch.Generator().manual_seed(4)), "int8")
    own = ImageTokens(StoredTokens(tokens.values[rows], tokens.scales[rows]))
    texts = whole.inputs["text"]
    return Batch(whole.keys[rows], {"image": own, "text": Texts(texts.ids[rows], texts.mask[rows])})


def learn(rows: slice, parallel: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = replace(MODEL, image=replace(MODEL.image, frozen=True))
    student = CLIPStudent(build_towers(model, VOCABULARY, pad_id=0), CLIPObjectiveConfig(global_negatives=True))
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    losses = module(part(rows), NoTargets())
    losses.total.backward()
    trained = {f"gradient/{name}": p.grad for name, p in student.named_parameters() if p.requires_grad}
    return {"total": losses.total.detach()} | trained


if __name__ == "__main__":
    out = Path(sys.argv[1])
    alone = learn(slice(None), parallel=False)  # no process group yet
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    torch.save(learn(slice(rank * B, (rank + 1) * B), parallel=True), out / f"{rank}.pt")
    leave_processes(0)
