"""Which loss moves an encoder: the gradient of each at the end of a pre-training, on batches of its training data.

    python -m experiments.gradient_shares --output_dir OUT --run RUN --encoder image [--batches 8] [--seed 0]

Of the mean gradient over the batches, OUT/metrics.jsonl gets for each loss, say LMI: eval_lmi, its length with its
weight, in percent of the sum of the lengths of all; eval_lmi_with_cma, its cosine with that of CMA, times 100.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tcl.commands.one_line import end_with_one_line
from tcl.config.command_line import Given, resolve
from tcl.data.feed.loader import train_loader
from tcl.objectives.tcl import loss_weights
from tcl.plain_values import read_yaml
from tcl.tasks.pretrain import Config, build, check

LOSSES = {"i2t": "cma", "t2i": "cma", "imc_image": "imc", "imc_text": "imc", "lmi_image": "lmi", "lmi_text": "lmi"}


def gradients(run: Path, encoder: str, batches: int, seed: int) -> dict[str, Tensor]:
    """By loss (cma, imc, lmi, itm, mlm: those that the run has), all of the encoder's parameters in one row: the
    weighted gradient, averaged over that many batches. encoder: image or text."""
    said = read_yaml(str(run / "config.yaml"), "--run")
    config = resolve([Given("", said), Given("", {"data": {"val": None}, "seed": seed})], Config, check)
    torch.manual_seed(seed)
    task = build(config, Accelerator(cpu=True))
    checkpoint = max((run / "checkpoints").glob("step_*"))
    task.student.load_state_dict(load_file(checkpoint / "student.safetensors"))
    task.teacher.load_state_dict(load_file(checkpoint / "teacher.safetensors"))
    part, weights = getattr(task.student.encoders, f"{encoder}_encoder"), loss_weights(config.objective)
    parameters = [one for one in part.parameters() if one.requires_grad]
    zeros = torch.cat([torch.zeros_like(one).flatten() for one in parameters])
    found: dict[str, Tensor] = defaultdict(lambda: zeros)
    data, size = config.data, config.train.batch_size
    loader = train_loader(data, reader=task.reader, batch_size=size, seed=seed, rank=0, world_size=1)
    for batch in islice(map(task.prepare, loader), batches):
        targets = task.teacher(batch, {"temperature": task.student.temperature.detach()}, config.objective.alpha)
        for loss, value in task.student(batch, targets).each.items():
            each = torch.autograd.grad(
                weights[loss] * value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            name = LOSSES.get(loss, loss)
            found[name] = found[name] + torch.cat([one.flatten() for one in each]) / batches
    loader.close()
    return found


def shares(found: dict[str, Tensor]) -> dict[str, float]:
    """Percent of the sum of lengths, and 100 x cosines with cma, by the names that metrics.jsonl gives them."""
    whole = sum(row.norm() for row in found.values())
    figures = {f"eval_{loss}": 100 * (row.norm() / whole).item() for loss, row in found.items()}
    others = {loss: row for loss, row in found.items() if loss != "cma" and "cma" in found}
    return figures | {
        f"eval_{loss}_with_cma": 100 * F.cosine_similarity(row, found["cma"], dim=0).item()
        for loss, row in others.items()
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--encoder", choices=["image", "text"], required=True)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    given = parser.parse_args(arguments)
    figures = shares(gradients(given.run, given.encoder, given.batches, given.seed))
    given.output_dir.mkdir(parents=True, exist_ok=True)
    (given.output_dir / "metrics.jsonl").write_text(json.dumps({"step": 0, **figures}) + "\n")


if __name__ == "__main__":
    end_with_one_line(main)
