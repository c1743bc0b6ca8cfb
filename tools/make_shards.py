"""Turn image-text data into webdataset shards.

    python tools/make_shards.py --from jsonl --annotations train.jsonl --images images/ --out shards/train

--from says what the annotations are:
    jsonl  a line {"image": path, "captions": [...]} or {"image": path, "caption": "..."} per sample
    json   a list [{"image": path, "caption": "..." or [...]}], as ALBEF and TCL use them; rows that name the same image
           are not merged, each is a sample
    coco   a COCO captions file; one sample per image with all its captions
Paths are relative to --images and may not leave it; absolute ones are taken as they are.

Row i becomes KEY.<image type> and KEY.json = {"captions", "image"}, plus "image_id" for COCO, with KEY = i in nine
digits, whatever the number of workers. Images that decode are stored byte for byte, unless --max_side shrinks them.
sizes.json counts the samples of each shard; report.json lists the rows that were skipped and why.
"""

import argparse
import json
import re
import sys
from pathlib import Path

# Files of the same folder come first on the path of a script.
from tools_rows_placeholder import x
