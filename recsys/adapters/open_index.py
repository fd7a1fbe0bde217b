"""Chooses the vector index, once for the services and the jobs."""

from collections.abc import Callable, Mapping
from pathlib import Path

from yarl import URL

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.ports import VectorIndex


def _open_qdrant_server(url: str, api_key: str | None) -> VectorIndex:
    from recsys.adapters.qdrant_server_index import QdrantServerIndex  # importing Qdrant's client takes a second

    return QdrantServerIndex(url, api_key)


ADAPTERS: Mapping[str, Callable[[str, str | None], VectorIndex]] = {
    "http": _open_qdrant_server,
    "https": _open_qdrant_server,
}
"""By URL scheme; called with the URL and the API key. Another index needs its adapter and a line here."""


def open_index(url: str | None, api_key: str | None, edge_dir: Path | None) -> VectorIndex:
    """The index at `url` or, without one, the embedded index in `edge_dir`. Call it inside a running event loop.

    Raises `ValueError` if neither is set, or if no adapter handles the URL's scheme.
    """
    if url is not None:
        scheme = URL(url).scheme
        if scheme not in ADAPTERS:
            raise ValueError(f"QDRANT_URL must start with one of {', '.join(f'{each}://' for each in ADAPTERS)}")
        return ADAPTERS[scheme](url, api_key)
    if edge_dir is None:
        raise ValueError("set QDRANT_URL (a server) or QDRANT_EDGE_DIR (a folder of embedded collections)")
    return QdrantEdgeIndex(edge_dir)
