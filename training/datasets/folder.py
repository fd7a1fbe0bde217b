"""Find files by name in a data set's folder, or in the one subfolder that has them."""

from pathlib import Path

from recsys.errors import DataError


def find(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists, in any letter case. Raises DataError if two subfolders have it."""
    for name in names:
        places = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(("_", "."))]
        for found in (_in(folder, name), [path for place in places for path in _in(place, name)]):
            if len(found) > 1:
                raise DataError(f"{name} exists more than once: {', '.join(map(str, found))}", file=folder)
            if found:
                return found[0]
    return None


def need(folder: Path, *names: str) -> Path:
    found = find(folder, *names)
    if found is None:
        here = sorted(path.name for path in folder.iterdir())
        listed = ", ".join(here[:10]) + (", ..." if len(here) > 10 else "") if here else "nothing"
        raise DataError(f"{' or '.join(names)} is missing; the folder holds {listed}", file=folder)
    return found


def _in(folder: Path, name: str) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower() == name.lower())
    exact = [path for path in files if path.name == name]
    return exact or files
