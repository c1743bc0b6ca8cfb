"""Which structure a JSON value has, for the advice that `tcl shards` gives where --from names another one."""

ROWS_OF_STRUCTURE = (
    ("vg_qa", {"qas"}),
    ("vqa", {"question"}),
    ("refcoco", {"ref_id", "sentences"}),
    ("refcoco", {"text", "box"}),
    ("snli_ve", {"hypothesis"}),
    ("snli_ve", {"sentence2"}),
    ("snli_ve", {"image", "sentence", "label"}),
    ("nlvr2", {"identifier", "sentence"}),
    ("nlvr2", {"images", "sentence"}),
    ("clips", {"video"}),
    ("clips", {"audio"}),
    ("json", {"image"}),
)
"""What some row of a list in each structure has together, in the order in which they count."""


def structure_of(content: object) -> str | None:
    """One of tcl.annotations.read_rows.STRUCTURES; None where the value has none of them."""
    if isinstance(content, list):
        return _of_rows([item for item in content if isinstance(item, dict)])
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("questions"), list) or _holds(content, "annotations", "answers"):
        return "vqa_v2"
    if _holds(content, "images", "caption"):
        return "refcoco"
    if isinstance(content.get("images"), list):
        return "karpathy" if _holds(content, "images", "split") else "coco"
    return "vqa" if is_one_value(content) and not isinstance(content.get("annotations"), list) else None


def _holds(content: dict, name: str, field: str) -> bool:
    found = content.get(name)
    return isinstance(found, list) and any(isinstance(item, dict) and field in item for item in found)


def _of_rows(rows: list[dict]) -> str | None:
    for structure, named in ROWS_OF_STRUCTURE:
        if any(named <= row.keys() for row in rows):
            return structure
    return None


def is_one_value(content: dict) -> bool:
    """Whether an object is a whole file of annotations rather than a row, which names its image, video or sound or has
    a sentence."""
    if any(name in content for name in ("image", "video", "audio", "sentence")):
        return False
    if any(isinstance(content.get(name), list) for name in ("images", "annotations", "questions", "data")):
        return True
    return any(isinstance(item, dict) and "question" in item for item in content.values())
