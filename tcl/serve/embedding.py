"""/v1/embeddings on the models' thread: texts of all requests that wait go together, and so do images."""

from collections.abc import Sequence

import numpy as np

from tcl.errors import InputError
from tcl.index.index import Index
from tcl.serve.contents import Content, Known, Picture, Text


def embed(index: Index, requests: Sequence[Sequence[Content]]) -> list[np.ndarray | InputError]:
    """For each request rows float32 [n, embed_dim], as the stages make them. InputError in the place of one that names
    what is not there, or has a text without words."""
    answers: list = [_problem(index, contents) for contents in requests]
    good = [place for place, problem in enumerate(answers) if problem is None]
    flat = [content for place in good for content in requests[place]]
    vectors = np.empty((len(flat), index.stages.embed_dim), np.float32)
    for kind, embed_some in (
        (Text, lambda some: index.stages.embed_texts([one.text for one in some])),
        (Picture, lambda some: index.stages.embed_seen([one.seen for one in some])),
        (Known, lambda some: index.embeddings([one.id for one in some])),
    ):
        places = [i for i, content in enumerate(flat) if isinstance(content, kind)]
        if places:
            vectors[places] = embed_some([flat[i] for i in places])
    ends = np.cumsum([len(requests[place]) for place in good])
    for place, own in zip(good, np.split(vectors, ends[:-1]) if good else (), strict=True):
        answers[place] = own
    return answers


def _problem(index: Index, contents: Sequence[Content]) -> InputError | None:
    try:
        for content in contents:
            if isinstance(content, Text):
                index.stages.knows(content.text)  # raises where there is no word at all
        index.embeddings([content.id for content in contents if isinstance(content, Known)])
    except InputError as error:
        return error
    return None
