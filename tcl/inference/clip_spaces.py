"""In which space a model of clips compares two modalities, and what it says where there is none."""

from tcl.errors import InputError
from tcl.objectives.clips import ClipsStudent

MODALITIES = ("video", "audio", "text")


def trained_modalities(student: ClipsStudent) -> list[str]:
    """Those that training compared with others."""
    return [one for one in MODALITIES if one in student.modalities]


def check_modality(student: ClipsStudent, modality: str, name: str) -> None:
    """InputError, naming `name`: no loss had a part of it."""
    known = trained_modalities(student)
    if modality not in known:
        raise InputError(f"{name}: {modality!r}, which this model was not trained on; it knows {_quoted(known)}")


def space_between(student: ClipsStudent, modality: str, other: str, name: str = "to") -> str:
    """Where two modalities are compared. InputError, naming the argument that says `other`: nowhere."""
    check_modality(student, modality, name)
    check_modality(student, other, name)
    known = trained_modalities(student)
    partners = [one for one in known if one != modality and shared_space(student, modality, one)]
    if other not in partners:
        raise InputError(
            f"{name}: {other!r}, which this model does not compare with {modality!r}; accepted: {_quoted(partners)}"
        )
    return shared_space(student, modality, other)


def shared_space(student: ClipsStudent, one: str, other: str) -> str | None:
    """Where two modalities can be compared; None: nowhere."""
    return student.encoders.spaces.space_of(one, other)


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
