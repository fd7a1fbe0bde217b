"""Readable MovieLens titles: "Matrix, The (1999)" becomes "The Matrix" of 1999."""

import re
from typing import NamedTuple

_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
_ARTICLES = (
    "The|A|An|Le|La|Les|L'|Un|Une|El|Los|Las|Una|Il|Lo|I|Gli|Uno|O|Os|As|Um|Uma|Der|Die|Das|Ein|Eine|De|Het|Een|"
    "Den|Det|En|Ett|Et"
)
# One segment: the title itself, or an alternative title in brackets, optionally after "a.k.a.".
_INVERTED = re.compile(rf"(a\.k\.a\. )?([^()\s][^()]*?), ({_ARTICLES})(?=\s*(?:[()]|$))")


class TitleAndYear(NamedTuple):
    title: str
    year: int | None


def readable(raw: str) -> TitleAndYear:
    """Remove the year from the end, and move every article to the front."""
    bare = raw.strip()
    found = _YEAR.search(bare)
    title = bare[: found.start()] if found else bare
    title = _INVERTED.sub(_restored, title).strip()
    return TitleAndYear(title or bare, int(found[1]) if found else None)


def _restored(inverted: re.Match[str]) -> str:
    known_as, name, article = inverted[1] or "", inverted[2], inverted[3]
    return f"{known_as}{article}{name}" if article.endswith("'") else f"{known_as}{article} {name}"
