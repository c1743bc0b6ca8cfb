"""Run by tests/test_batch_norms.py: what two processes' batch norms saw, before and after they agree on it.

torchrun --nproc_per_node 2 tests/buffers_step.py OUT_DIR
"""

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from tcl.commands.ranks import leave_processes
from tcl.training.full_weights import agree_on_buffers

if __name__ == "__main__":
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    module[1].running_mean.fill_(float(rank))
    module[1].running_var.fill_(3.0 + 4 * rank)
    module[1].num_batches_tracked.fill_(5)
    weight = module[0].weight.detach().clone()
    agree_on_buffers(module)
    assert module[0].weight.equal(weight), "parameters are not touched"
    torch.save(module[1].state_dict(), Path(sys.argv[1]) / f"{rank}.pt")
    leave_processes(0)
