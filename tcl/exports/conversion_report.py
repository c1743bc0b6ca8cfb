"""What became of the tensors of a checkpoint that was converted, for people and in conversion.json."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tcl.errors import InputError
from tcl.shown import shown

REPORT = "conversion.json"


@dataclass
class ConversionReport:
    """What became of every tensor of `source`."""

    source: str
    mapped: dict[str, str] = field(default_factory=dict)
    """Its name -> ours, of the student or the teacher."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Its name -> why it is not needed."""
    errors: dict[str, str] = field(default_factory=dict)
    """Its name -> why it cannot be used."""
    notices: list[str] = field(default_factory=list)
    """Lines for the person watching."""

    def write(self, folder: Path) -> None:
        """conversion.json into `folder`. InputError: it cannot be written."""
        path = folder / REPORT
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"out: {path} cannot be written ({error.strerror}); name another folder") from error

    def refuse_errors(self, folder: Path) -> None:
        """InputError: there are errors; conversion.json in `folder` lists them."""
        if self.errors:
            self.write(folder)
            name, why = next(iter(self.errors.items()))
            raise InputError(
                f"source: {len(self.errors)} of the tensors of {self.source} cannot be used, the first is {name}: "
                f"{why}; {folder / REPORT} lists all"
            )

    def lines(self) -> list[str]:
        """In short, as a terminal may show them."""
        reasons = Counter(self.ignored.values()).most_common()
        counted = [f"{count:10,}  {reason}" for reason, count in reasons]
        notices = map(shown, self.notices)  # they name tensors and files of others
        return [f"{len(self.mapped):,} tensors mapped, {len(self.ignored):,} ignored:", *counted, *notices]
