"""Mutated inputs for every reader: `python -m tests.fuzz --seconds 60 --seed 0 --only shards,images`."""

import sys
from pathlib import Path

if str(Path(__file__).parents[1]) not in sys.path:  # the tests' own helpers are modules beside each other
    sys.path.insert(0, str(Path(__file__).parents[1]))
