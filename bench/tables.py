"""Puts the results of a benchmark into a page of the documentation."""

from pathlib import Path


def write_between_markers(page: Path, name: str, text: str) -> None:
    """Replace what is between `<!-- name: begin -->` and `<!-- name: end -->`. Raises ValueError without these."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no lines {begin} and {end}, between which the results belong")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
