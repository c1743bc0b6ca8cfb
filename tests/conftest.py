"""For every test, and for the processes that tests start.

No test reaches for the network: an unknown hub name fails at once. Models are tiny, and threads that share a busy core
wait for each other: one thread. Their own process is in fp32 by default, whatever the processor is fast at.
"""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def default_precision():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcl.precision.multiplies_bf16_fast", lambda device: False)
        yield
