"""The choice of the vector index, made once for the services and the jobs."""

from pathlib import Path

from recsys.adapters.qdrant_edge_index import QdrantEdgeIndex
from recsys.adapters.qdrant_server_index import QdrantServerIndex
from recsys.ports import VectorIndex


def open_index(url: str | None, api_key: str | None, edge_dir: Path | None) -> VectorIndex:
    """The server at `url` or, without one, the collections in `edge_dir`. Call it inside a running event loop."""
    if url is not None:
        return QdrantServerIndex(url, api_key)
    if edge_dir is None:
        raise ValueError("set QDRANT_URL (a server) or QDRANT_EDGE_DIR (a folder of embedded collections)")
    return QdrantEdgeIndex(edge_dir)
