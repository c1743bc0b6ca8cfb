"""The batch of all processes together, for objective.global_negatives; on one process everything here is the identity.

Every process holds B rows, B being the same on all; row b of rank r is row r * B + b of the global batch.
"""

from dataclasses import replace

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from tcl.data.batch import Batch
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts


def world() -> tuple[int, int]:
    """(rank, processes) of this run."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """[B, ...] of every process, in the order of their ranks -> [processes * B, ...], without gradient."""
    _, processes = world()
    if processes == 1:
        return rows
    gathered = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes)]
    distributed.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


def gather_rows_with_gradient(rows: Tensor) -> Tensor:
    """As `gather_rows`; each process' gradient is the sum of what all make of its rows."""
    _, processes = world()
    return rows if processes == 1 else _Gather.apply(rows)


def mean_over_processes(value: float, device: torch.device) -> Tensor:
    """The mean of a number over the processes, scalar float64."""
    _, processes = world()
    mean = torch.tensor(float(value), dtype=torch.float64, device=device)
    if processes > 1:
        distributed.all_reduce(mean)
    return mean / processes


def pad_to_longest(batch: Batch) -> Batch:
    """`batch` with its texts padded to the longest text of any process."""
    _, processes = world()
    if processes == 1:
        return batch
    texts = batch.inputs["text"]
    L = texts.ids.shape[1]
    longest = torch.tensor(L, device=texts.ids.device)
    distributed.all_reduce(longest, distributed.ReduceOp.MAX)
    longest = int(longest)

    def pad(ids: Tensor) -> Tensor:
        return F.pad(ids, (0, longest - L))

    masked = texts.masked
    if masked is not None:
        positions = masked.positions // L * longest + masked.positions % L
        masked = MaskedText(pad(masked.ids), positions, masked.labels)
    return replace(batch, inputs=batch.inputs | {"text": Texts(pad(texts.ids), pad(texts.mask), masked)})


def fetch_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [R] of the global batch, from the processes that hold them: [B, ...] -> [R, ...], with gradient.

    Each process sends and receives what was asked for and nothing else: O(R) memory however many processes there are.
    Called on all processes together; the numbers of rows to send have to reach the host, one device sync.
    """
    _, processes = world()
    if processes == 1:
        return rows[index]
    B = len(rows)
    owner = index // B
    by_owner = owner.argsort(stable=True)
    asked = torch.bincount(owner, minlength=processes)
    wanted = torch.empty_like(asked)
    distributed.all_to_all_single(wanted, asked)
    received, sent = asked.tolist(), wanted.tolist()
    requests = _Exchange.apply(index[by_owner], received, sent)
    fetched = _Exchange.apply(rows[requests % B], sent, received)
    return fetched[by_owner.argsort()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        return gather_rows(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        rank, processes = world()
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.chunk(processes)[rank]


class _Exchange(torch.autograd.Function):
    """all_to_all of rows: the first sent[0] go to rank 0, and so on; received[r] come from rank r."""

    @staticmethod
    def forward(ctx, rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.counts = sent, received
        result = rows.new_empty(sum(received), *rows.shape[1:])
        distributed.all_to_all_single(result, rows.contiguous(), received, sent)
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        sent, received = ctx.counts
        result = gradient.new_empty(sum(sent), *gradient.shape[1:])
        distributed.all_to_all_single(result, gradient.contiguous(), sent, received)
        return result, None, None
