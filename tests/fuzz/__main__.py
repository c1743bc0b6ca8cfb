"""Fuzz the readers. Exit status 1: something was found, or a kind of input had no case.

python -m tests.fuzz --seconds 60 --seed 0 --only shards,images --out found
python -m tests.fuzz --replay found/shards-0-17
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import KINDS, fuzz, replay


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0, help="the sequence of inputs depends on it alone")
    options.add_argument("--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    options.add_argument("--out", type=Path, default=Path("fuzz-found"), help="gets the input of each finding")
    options.add_argument("--replay", type=Path, metavar="FOLDER", help="try the input of a finding again")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if given.replay is not None:
            problem = replay(given.replay, Path(scratch))
            print(problem or "nothing is wrong any more")
            return int(problem is not None)
        names = given.only.split(",")
        if unknown := set(names) - set(KINDS):
            options.error(f"--only: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        done = fuzz(names, given.seed, given.seconds, Path(scratch), given.out)
    for name in names:
        print(f"{name}: {done.cases[name]} cases, {sum(f.kind == name for f in done.findings)} findings")
    for finding in done.findings:
        print(f"\n{finding.where} ({finding.count} times): {finding.mutation!a}\n{finding.problem.strip()}")
    return int(bool(done.findings) or not all(done.cases[name] for name in names))


if __name__ == "__main__":
    sys.exit(main())
