"""The port Catalogue in this process's memory: item descriptions of recent releases, downloaded from the ranker."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from recsys.adapters.item_rows import ItemRows
from recsys.contracts.retrieval import CatalogueItem
from recsys.errors import ReleaseNotLoaded, UpstreamAnswerInvalid
from recsys.ports import ReleaseSource

KEPT_RELEASES = 4
NEWLINE = 10
SCANNED_BYTES = 1 << 24
"""Newlines are searched in chunks of this size, which bounds the memory used."""
CATALOGUE_BYTES = Gauge("tandem_catalogue_bytes", "Memory used by item descriptions.")


class _Named(msgspec.Struct, gc=False):
    item_id: str
    title: str


NAMED = msgspec.json.Decoder(_Named)
DESCRIBED = msgspec.json.Decoder(dict[str, Any])


class PackedItems:
    """The undecoded lines of an items file. A line is decoded when its item is requested."""

    def __init__(self, lines: bytes | bytearray) -> None:
        """Raises `UpstreamAnswerInvalid` for a line that does not describe an item."""
        self._lines = memoryview(lines)
        self._ends = _newlines(lines)
        if not len(self._ends) or int(self._ends[-1]) + 1 != len(lines):
            raise UpstreamAnswerInvalid("the items file of the release is truncated")
        try:
            self.item_ids = [NAMED.decode(self._line(row)).item_id for row in range(len(self._ends))]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UpstreamAnswerInvalid("the items file of the release has an unexpected format") from error
        self._rows = ItemRows(self.item_ids)
        # Unlike `map`, a generator lets other threads run in between.
        ids_bytes = sum(sys.getsizeof(each) for each in self.item_ids) + sys.getsizeof(self.item_ids)
        self.nbytes = self._lines.nbytes + self._ends.nbytes + self._rows.nbytes + ids_bytes

    def described(self, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        rows = zip(item_ids, self._rows.rows_of(item_ids), strict=True)
        return {item_id: self._item(row) for item_id, row in rows if row is not None}

    def _item(self, row: int) -> CatalogueItem:
        described = DESCRIBED.decode(self._line(row))
        return CatalogueItem(described.pop("item_id"), described.pop("title"), described)

    def _line(self, row: int) -> memoryview:
        return self._lines[self._ends[row - 1] + 1 if row else 0 : self._ends[row]]


class ReleaseCatalogue:
    def __init__(self, source: ReleaseSource) -> None:
        self._source = source
        self._releases: dict[int, tuple[str, PackedItems]] = {}

    async def load(self, release_version: int, weights_hash: str) -> Sequence[str]:
        """Download a release's items, unless they are loaded. Returns their ids in the order of item_index.

        `weights_hash` distinguishes retrained releases with the same version. Raises `UpstreamError` or `ReleaseError`.
        """
        known = self._releases.get(release_version)
        if known is None or known[0] != weights_hash:
            lines = await self._source.item_lines(release_version)
            known = weights_hash, await asyncio.to_thread(PackedItems, lines)
        self._releases.pop(release_version, None)
        self._releases[release_version] = known  # now the most recent
        for version in list(self._releases)[:-KEPT_RELEASES]:
            del self._releases[version]
        CATALOGUE_BYTES.set(sum(packed.nbytes for _, packed in self._releases.values()))
        return known[1].item_ids

    async def items(self, release_version: int | None, item_ids: Sequence[str]) -> dict[str, CatalogueItem]:
        version = next(reversed(self._releases), None) if release_version is None else release_version
        if version is None:
            raise ReleaseNotLoaded("no release has a loaded catalogue yet")
        if version not in self._releases:
            raise ReleaseNotLoaded(f"the catalogue of release {version} is not loaded")
        return self._releases[version][1].described(item_ids)

    @property
    def newest_item_ids(self) -> Sequence[str]:
        return next(reversed(self._releases.values()))[1].item_ids if self._releases else ()


def _newlines(lines: bytes | bytearray) -> NDArray[np.int64]:
    content = np.frombuffer(lines, dtype=np.uint8)
    parts = range(0, len(content), SCANNED_BYTES)
    found = [np.flatnonzero(content[at : at + SCANNED_BYTES] == NEWLINE) + at for at in parts]
    return np.concatenate(found) if found else np.zeros(0, np.int64)
