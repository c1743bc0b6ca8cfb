"""Kill a run of two processes at random steps, start it again each time, and compare it with one left alone.

    python tests/killing.py --times 5 --out runs/killed pretrain.py --config my.yaml --train.steps 60 ...

OUT/whole and OUT/killed get the two runs; every save must be kept (train.save_every 1 makes each start get on).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from launching import ENVIRONMENT, ROOT, TORCHRUN
from safetensors.torch import load_file

from tcl.checkpoints.checkpoint_store import newest_intact

STATE = ("student.safetensors", "teacher.safetensors", "optimizer.safetensors")


def start(command: list[str], output_dir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*command, f"--output_dir={output_dir}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_step(process: subprocess.Popen, steps: int) -> str:
    """Read what the run prints until it has taken `steps` steps or ended; returns that."""
    printed = ""
    for line in process.stdout:
        printed += line
        steps -= line.startswith("step ")
        if steps <= 0:
            break
    return printed


def children_of(parent: int) -> list[int]:
    """Process ids of the children of a process."""
    children = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                children.append(pid)
        except OSError:
            continue
    return children


def ranks_of(process: subprocess.Popen) -> list[int]:
    """Process ids of torchrun's workers, by rank."""
    ranks = {}
    for pid in children_of(process.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks |= {int(entry[5:]): pid for entry in environment if entry.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def losses(output_dir: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def run_to_the_end(command: list[str], output_dir: Path) -> str:
    """Returns what it printed. RuntimeError: it failed."""
    process = start(command, output_dir)
    printed = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(printed)
    return printed


def kill_at_random(command: list[str], output_dir: Path, times: int, seed: int) -> Iterator[str]:
    """Start `command` (with torchrun) and kill it one to three steps later, `times` times; says whom, each time."""
    rng = random.Random(seed)
    for _ in range(times):
        process = start(command, output_dir)
        wait_for_step(process, rng.randint(1, 3))
        victim = rng.choice(("all", "rank 0", "rank 1", "launcher"))
        if victim == "all":
            for pid in (process.pid, *ranks_of(process)):  # torchrun's workers have sessions of their own
                os.kill(pid, signal.SIGKILL)
        elif victim == "launcher":
            process.send_signal(signal.SIGTERM)
        else:
            os.kill(ranks_of(process)[int(victim[-1])], signal.SIGKILL)
        process.communicate()
        yield victim if process.returncode != 0 else ""


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same, bit by bit, in the last checkpoints and the losses of two runs."""
    ours, theirs = (newest_intact(run / "checkpoints")[0] for run in (one, other))
    found = [] if ours.name == theirs.name else [f"{ours.name} and {theirs.name}"]
    for name in STATE:
        first, second = load_file(ours / name), load_file(theirs / name)
        keys = first.keys() | second.keys()
        found += [
            f"{name}: {key}"
            for key in sorted(keys)
            if key not in first or key not in second or not first[key].equal(second[key])
        ]
    if (ours / "progress.json").read_text() != (theirs / "progress.json").read_text():
        found.append("progress.json")
    if losses(one) != losses(other):
        found.append("losses")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options, script = parser.parse_known_args()
    command, killed = [*TORCHRUN, *script], options.out / "killed"
    run_to_the_end(command, options.out / "whole")
    for victim in kill_at_random(command, killed, options.times, options.seed):
        print(f"killed {victim}; newest checkpoint: {newest_intact(killed / 'checkpoints')[0]}", flush=True)
    run_to_the_end(command, killed)
    different = differences(killed, options.out / "whole")
    print(f"different: {', '.join(different) or 'nothing, bit by bit'}")
    sys.exit(bool(different))
