"""DATA_SOURCE: folders, sub-folders, archives good and bad, and settings that cannot be met."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, run

LOG = "user_id,item_id,timestamp\na,x,1\na,y,2\n"


def make_zip(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def make_tar(path: Path, member: str, *, link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as packed:
        entry = tarfile.TarInfo(member)
        if link is not None:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            packed.addfile(entry)
        else:
            entry.size = len(LOG)
            packed.addfile(entry, io.BytesIO(LOG.encode()))
    return path


@pytest.mark.parametrize("inside", ["interactions.csv", "pack/interactions.csv", "pack/Interactions.CSV"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_every_kind_of_source_gives_the_same(tmp_path: Path, kind: str, inside: str) -> None:
    source = tmp_path / f"mine.{kind}"
    if kind == "folder":
        (source / inside).parent.mkdir(parents=True)
        (source / inside).write_text(LOG)
    elif kind == "zip":
        make_zip(source, **{inside: LOG, "__MACOSX/interactions.csv": "junk"})
    else:
        make_tar(source, inside)
    prepared = run(tmp_path, "csv", source)
    assert prepared.interactions["item_id"].to_list() == ["x", "y"]
    assert not list((tmp_path / "data").glob("unpacked/*"))


@pytest.mark.parametrize("member", ["../interactions.csv", "a/../../interactions.csv", "/tmp/interactions.csv"])
def test_a_zip_that_reaches_outside_is_refused(tmp_path: Path, member: str) -> None:
    source = make_zip(tmp_path / "mine.zip", **{"interactions.csv": LOG, member: "evil"})
    with pytest.raises(DataError, match="the archive has a path outside of its folder"):
        run(tmp_path, "csv", source)
    assert not list((tmp_path / "data").rglob("interactions.csv"))


@pytest.mark.parametrize(("member", "link"), [("../interactions.csv", None), ("interactions.csv", "/etc/passwd")])
def test_a_tar_that_reaches_outside_is_refused(tmp_path: Path, member: str, link: str | None) -> None:
    source = make_tar(tmp_path / "mine.tar", member, link=link)
    with pytest.raises(DataError, match="the archive has a path outside of its folder"):
        run(tmp_path, "csv", source)
    assert not list((tmp_path / "data").rglob("interactions.csv"))


@pytest.mark.parametrize("name", ["mine.zip", "mine.tar", "mine.tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_broken_archive_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    source = tmp_path / name
    whole = (
        make_zip(source, **{"interactions.csv": LOG}) if name == "mine.zip" else make_tar(source, "interactions.csv")
    ).read_bytes()
    source.write_bytes(
        whole[: len(whole) // 2 if "gz" in name or "zip" in name else 520] if damage == "cut" else b"noise" * 200
    )
    with pytest.raises(DataError, match=rf"{re.escape(name)}: the archive is damaged"):
        run(tmp_path, "csv", source)


def test_two_sub_folders_with_the_file_are_refused(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "mine.zip", **{"a/interactions.csv": LOG, "b/interactions.csv": LOG})
    with pytest.raises(DataError, match=r"interactions\.csv exists more than once"):
        run(tmp_path, "csv", source)


@pytest.mark.parametrize(
    ("dataset", "source", "columns", "message"),
    [
        ("csv", "nowhere", None, "DATA_SOURCE=nowhere: this folder or archive does not exist"),
        ("csv", None, None, "DATA_SOURCE: DATASET=csv needs a folder or an archive"),
        ("shop", ".", None, "DATA_SOURCE: the shop is generated"),
        ("ml-1m", ".", "user_id=u", "DATA_COLUMNS: it is valid only with DATASET=csv"),
        (
            "netflix",
            None,
            None,
            "'netflix' is not a known data set; the known ones are shop, ml-latest-small, ml-100k, ml-1m",
        ),
        ("amazon-../../etc", None, None, "DATASET: 'amazon-../../etc' is not a known data set"),
    ],
)
def test_settings_that_cannot_be_met(
    tmp_path: Path, dataset: str, source: str | None, columns: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, dataset, None if source is None else Path(source), columns)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, interactions__csv=LOG) / "interactions.csv"
    with pytest.raises(DataError, match="this is neither a folder nor an archive"):
        run(tmp_path, "csv", source)
