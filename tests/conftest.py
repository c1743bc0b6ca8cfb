"""No test reaches for the network: an unknown hub name fails at once, here and in the processes that tests start."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
