"""Templates that turn the number or name of an image into its path: --image_name of `tcl shards`."""

from tcl.annotations.row import is_whole_id
from tcl.errors import InputError

VQA_V2_IMAGE_NAME = "COCO_train2014_{:012d}.jpg"
BY_ID = "{image_id}.jpg"


def image_path(template: str, image_id: object) -> str | None:
    """None where image_id is no number or text, or none that the template takes."""
    if not is_whole_id(image_id):
        return None
    try:
        return template.format(image_id, image_id=image_id)
    except (ValueError, LookupError, AttributeError, TypeError):
        return None


def checked_template(given: str | None, default: str) -> str:
    """The template that is given, or else the default. InputError: one that gives no name per image."""
    template = default if given is None else given
    if image_path(template, 1) == image_path(template, 2):
        accepted = f"such as {VQA_V2_IMAGE_NAME} or {BY_ID}"
        raise InputError(f"image_name: {template!r} gives no name per image; accepted: {accepted}")
    return template
