"""The catalogue in memory: loaded from the ranker's items file, decoded on request."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from recsys.adapters.release_catalogue import KEPT_RELEASES, PackedItems, ReleaseCatalogue
from recsys.contracts.retrieval import CatalogueItem, ServingReleases
from recsys.errors import ReleaseNotLoaded, UpstreamAnswerInvalid, UpstreamUnavailable

METADATA = {"categories": ["Books", "Größe 🚀"], "year": None, "price": 12.5}
ITEMS = [
    CatalogueItem(item_id, f"Thing {item_id!r}", METADATA)
    for item_id in ("a/b", "..", " ", 'say "it\'s"', "line\nbreak", "übergröße 🚀", "a\0b", *map(str, range(500)))
]


def line(item: CatalogueItem) -> bytes:
    return json.dumps({"item_id": item.item_id, "title": item.title, **item.metadata}).encode() + b"\n"


LINES = b"".join(map(line, ITEMS))


class Source:
    """Sends the same items for every release, and records the requests."""

    def __init__(self, lines: bytes = LINES) -> None:
        self.lines = lines
        self.sent: list[int] = []

    async def releases(self) -> ServingReleases:
        raise UpstreamUnavailable("not used here")

    async def item_lines(self, release_version: int) -> bytes:
        self.sent.append(release_version)
        return self.lines


async def test_items_are_described_as_they_were_written() -> None:
    catalogue = ReleaseCatalogue(Source())
    assert await catalogue.load(1, "w") == [item.item_id for item in ITEMS]
    assert await catalogue.items(1, [item.item_id for item in ITEMS]) == {item.item_id: item for item in ITEMS}


async def test_unknown_items_are_left_out_and_repeated_ones_described_once() -> None:
    catalogue = ReleaseCatalogue(Source())
    await catalogue.load(1, "w")
    assert list(await catalogue.items(1, ["7", "unknown", "..", "7"])) == ["7", ".."]
    assert await catalogue.items(1, []) == {}


async def test_a_release_is_downloaded_once_per_weights() -> None:
    source = Source()
    catalogue = ReleaseCatalogue(source)
    for weights_hash in ("first", "first", "second", "second"):
        await catalogue.load(1, weights_hash)
    assert source.sent == [1, 1]


async def test_the_most_recently_loaded_releases_are_kept() -> None:
    catalogue = ReleaseCatalogue(Source())
    for release_version in range(1, KEPT_RELEASES + 1):
        await catalogue.load(release_version, "w")
    await catalogue.load(1, "w")
    await catalogue.load(KEPT_RELEASES + 1, "w")
    assert await catalogue.items(1, ["7"])
    with pytest.raises(ReleaseNotLoaded, match="release 2"):
        await catalogue.items(2, ["7"])


async def test_a_release_that_is_not_loaded_is_an_error() -> None:
    with pytest.raises(ReleaseNotLoaded):
        await ReleaseCatalogue(Source()).items(1, ["7"])


async def test_without_a_version_the_most_recently_loaded_release_describes_the_items() -> None:
    source = Source()
    catalogue = ReleaseCatalogue(source)
    with pytest.raises(ReleaseNotLoaded):
        await catalogue.items(None, ["7"])
    assert list(catalogue.newest_item_ids) == []
    await catalogue.load(1, "w")
    source.lines = line(CatalogueItem("7", "Renamed", {}))
    await catalogue.load(2, "w")
    assert (await catalogue.items(None, ["7"]))["7"].title == "Renamed"
    assert list(catalogue.newest_item_ids) == ["7"]
    await catalogue.load(1, "w")  # loaded again, so it is the most recent one
    assert list(catalogue.newest_item_ids) == [item.item_id for item in ITEMS]


async def test_a_failed_download_keeps_the_loaded_release() -> None:
    source = Source()
    catalogue = ReleaseCatalogue(source)
    await catalogue.load(1, "first")
    source.lines = LINES[:-5]
    with pytest.raises(UpstreamAnswerInvalid):
        await catalogue.load(1, "second")
    assert await catalogue.items(1, ["7"])


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        LINES[:-1],
        b"<html>\n",
        b"null\n",
        b'{"item_id": "a"}\n',
        b'{"item_id": 7, "title": "t"}\n',
        b'{"item_id": "a", "title": null}\n',
        LINES + b"\n",
        b'{"item_id": "\xff", "title": "t"}\n',
    ],
)
def test_invalid_lines_are_an_error(lines: Any) -> None:
    with pytest.raises(UpstreamAnswerInvalid):
        PackedItems(lines)


async def test_the_used_memory_is_reported() -> None:
    await ReleaseCatalogue(Source()).load(1, "w")
    taken = REGISTRY.get_sample_value("tandem_catalogue_bytes")
    assert len(LINES) < taken < 4 * len(LINES)


async def test_a_download_may_be_a_bytearray() -> None:
    assert PackedItems(bytearray(LINES)).described(["7"])["7"].title == "Thing '7'"
