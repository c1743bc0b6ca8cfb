"""Evaluate on a task, training nothing: `tcl evaluate --preset vqa_v2 --init runs/vqa`.

--init is a run, a checkpoint or an export, --data.val the shards; what is found is printed and left in
<output_dir>/results. `--task vqa --help` lists every option of a task (classification, compress, compressed_retrieval,
entailment, grounding, linear_probe, nlvr, retrieval, vqa or zero_shot).
"""

from jsonargparse import ArgumentParser

from tcl.commands import finetune
from tcl.commands.presets import PRESET
from tcl.commands.pretrain import DRY_RUN

FLAGS = (DRY_RUN, PRESET)
"""Taken beside the options of the parser."""


def parser(task: str) -> ArgumentParser:
    """What `--help` lists, less FLAGS, for one of tcl.tasks.task_names()."""
    return finetune.parser(task, "tcl evaluate")


def main(arguments: list[str]) -> None:
    """As fine-tuning does at its end."""
    if finetune.asks_for_help_alone(arguments):
        print(__doc__)
        return
    finetune.main([*arguments, finetune.EVAL_ONLY])
