"""For every test, and for the processes that tests start.

No test reaches for the network: an unknown hub name fails at once. Models are tiny, and threads that share a busy core
wait for each other: one thread.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
