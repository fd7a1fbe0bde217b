"""The settings of a stack that only one job uses: free ports, a folder of its own, and no server of anybody else."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from local.ports import free_ports
from local.settings import LocalSettings

PORTS = tuple(name for name in LocalSettings.model_fields if name.endswith("_port"))


def own_settings(folder: Path, dataset: str, more: Mapping[str, Any] = MappingProxyType({})) -> LocalSettings:
    """`more` holds other settings, which take precedence. The environment is ignored."""
    ports: dict[str, Any] = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    unset = {"redis_url": None, "mlflow_tracking_uri": None, "qdrant_url": None}
    folders = {"state_dir": folder, "event_log": str(folder / "event_log")}
    return LocalSettings.model_validate({"dataset": dataset, **folders, **ports, **unset, **more})
