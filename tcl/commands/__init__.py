"""The command `tcl`: one file for each subcommand, with `main(arguments)` and, for the completion, its options.

Importing one needs neither torch nor transformers: `--help` and mistakes are answered at once.
"""

COMMANDS = {
    "pretrain": "pre-train on image-text pairs",
    "finetune": "fine-tune on retrieval, questions, classes, entailment or NLVR2",
    "evaluate": "evaluate a run, a checkpoint or an export on a task",
    "shards": "make webdataset shards of images and texts, or of image tokens",
    "tokenizer": "train a tokenizer on the texts of shards",
    "answers": "collect the commonest answers of shards into a list",
    "convert": "published TCL and ALBEF checkpoints, or a BERT, in and out",
    "export": "turn a run or a checkpoint into a folder that needs nothing else",
    "deflate": "turn a model of clips into one of images",
    "onnx": "write a model as ONNX graphs and compare them with torch",
    "encode": "embed a folder of images, shards or texts into one file",
    "rescore": "choose how to re-score a search against hubs, if at all",
    "index": "write an index of images, or bring one up to date",
    "search": "search an index by text, by image or by both",
    "serve": "serve an index: a page to search it, and HTTP for programs",
    "match": "say which texts belong to which images",
    "vqa": "answer questions about an image",
    "entail": "say whether an image entails a text or contradicts it",
    "nlvr": "say whether a text is true of two images",
    "plot": "draw the curves of a run",
    "compare": "show how runs differ, in a table and a picture",
    "explain": "show what in an image speaks for a text",
    "ground": "find the box of what a text means in an image",
    "completion": "print the completion of this command for bash or zsh",
}
"""What the files of this folder do, in the order of `tcl --help`."""
