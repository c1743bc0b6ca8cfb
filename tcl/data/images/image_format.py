"""What a file is by its first bytes, whatever it is called."""

READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are decoded; none of its other readers is let near a file, and one of them starts
other programs."""

DECODED = (*READ, "HEIC")
"""With what other packages than Pillow read."""

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jpe", "jfif", "avif", "heic", "heif")
"""That files with images have, whatever is in them."""
TOKENS_EXTENSION = "tokens"
"""Of a file that stands in place of an image: the tokens of its views (tcl.data.tokens.token_sample)."""

HEIC_MISSING = "HEIC, which needs pip install 'tcl-vlp[heic]'"

_AT_START = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL is not read",
    b"\0\0\0\x0cJXL ": "JPEG XL is not read",
    b"\0\0\0\x0cjP  ": "JPEG 2000 is not read",
    b"\xff\x4f\xff\x51": "JPEG 2000 is not read",
    b"8BPS": "Photoshop file is not read",
    b"\0\0\1\0": "icon is not read",
    b"%PDF": "PDF, no image",
    b"%!PS": "PostScript, no image",
    b"PK\3\4": "zip archive, no image",
    b"\x1f\x8b": "gzip, no image",
    b"\x7fELF": "program, no image",
    b"OggS": "sound or video, no image",
    b"ID3": "sound or video, no image",
    b"\x1a\x45\xdf\xa3": "sound or video, no image",
    b"\x93NUMPY": "array, no image",
}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
}
_MARKUP = {b"<svg": "SVG is not read", b"<html": "HTML, no image", b"<!doctype html": "HTML, no image"}


def format_of(content: bytes) -> str | None:
    """One of READ, "HEIC", or for what is never an image to us a phrase to count it by; None for other bytes.

    content: a file or its first 1,024 bytes.
    """
    if content[:4] == b"RIFF":
        return "WEBP" if content[8:12] == b"WEBP" else "sound or video, no image"
    if content[4:8] == b"ftyp":
        return _by_brand(content)
    start = next((name for magic, name in _AT_START.items() if content.startswith(magic)), None)
    return start or _markup(content[:1024])


def is_image(content: bytes) -> bool:
    """Is it of DECODED? content: a file or its first 1,024 bytes."""
    return format_of(content) in DECODED


def _by_brand(content: bytes) -> str:
    """Of an ISO container: its main brand, or else the first that it is compatible with."""
    size = int.from_bytes(content[:4], "big")
    brands = [content[8:12], *(content[at : at + 4] for at in range(16, min(size, 128), 4))]
    known = [name for brand in brands for name, names in _BRANDS.items() if brand in names]
    generic = known and "AVIF" in known and brands[0] in (b"mif1", b"msf1")
    return "AVIF" if generic else known[0] if known else "sound or video, no image"


def extension_of(content: bytes) -> str:
    """What an image that decode_image has accepted is called in a shard."""
    kind = format_of(content) or "TIFF"
    return "jpg" if kind == "JPEG" else kind.lower()


def described(content: bytes) -> str:
    """What a file that is no image of READ is, to count it by; content: as in format_of."""
    if not content:
        return "empty file"
    return format_of(content) or ("text, no image" if _is_text(content[:1024]) else "unknown format, no image")


def _markup(start: bytes) -> str | None:
    folded = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not folded.startswith(b"<"):
        return None
    found = min(((folded.find(tag), name) for tag, name in _MARKUP.items() if tag in folded), default=None)
    return found[1] if found else "XML, no image" if folded.startswith(b"<?xml") else None


def _is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a character is cut at the end
            return False
    return bool(start) and not any((byte < 32 and byte not in b"\t\n\r") or byte == 127 for byte in start)
