"""Downstream tasks, each in one file: model head, data and metric.

To add one: a file here with `Config` (a dataclass with a field `task`, and what tcl.tasks.task.RunConfig asks for),
`check(config, trains)` (InputError for impossible values) and `build(config, accelerator) -> Task`; its name in TASKS;
a YAML file in tcl/presets/finetune/.
"""

TASKS = ("retrieval", "vqa")
"""Names of the files."""
