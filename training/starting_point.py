"""Which release a training starts from, or why it starts from nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from recsys.errors import ReleaseDamaged
from recsys.model.files import CONFIG_FILE, VOCABULARY_FILE
from recsys.model.release_manifest import ReleaseManifest, StartedFrom, verify_release
from recsys.model.two_tower import TwoTowerConfig, load_model
from recsys.model.vocabulary import Vocabulary
from training.datasets.manifest import events_until
from training.datasets.splits import SplitKind
from training.models.warm_start import StartingTowers, same_architecture
from training.settings import JobSettings, RegistrySettings, StartSettings

if TYPE_CHECKING:
    # MLflow takes seconds to import, and most trainings start from nothing.
    from recsys.model.registry import ModelRegistry


class Start(NamedTuple):
    origin: StartedFrom
    towers: StartingTowers


class ColdStart(Exception):
    """The training starts from nothing; the message says why."""


def find_start(settings: JobSettings, data_hash: str, wanted: TwoTowerConfig) -> Start | None:
    """The release that START_FROM names; None without it, and, with a line about it, if the release is no start.

    Raises ReleaseNotLoaded if there is no such version.
    """
    start_from = StartSettings().start_from
    if start_from is None:
        return None
    from recsys.model.registry import ModelRegistry

    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    try:
        start = _start(registry, start_from, settings, data_hash, wanted)
    except (ColdStart, ReleaseDamaged) as reason:
        print(f"train: cold start, because {reason}", flush=True)
        return None
    print(f"train: starting from version {start.origin.version} ({start.origin.weights})", flush=True)
    return start


def _start(
    registry: "ModelRegistry", start_from: int | str, settings: JobSettings, data_hash: str, wanted: TwoTowerConfig
) -> Start:
    if settings.split != SplitKind.LEAVE_ONE_OUT:
        raise ColdStart(f"SPLIT={settings.split} is for measuring, and a release may have seen what it tests")
    from recsys.model.registry import CHAMPION

    version = registry.aliases().get(CHAMPION) if start_from == CHAMPION else int(start_from)
    if version is None:
        raise ColdStart("there is no champion yet")
    manifest = registry.manifest_of(version)
    if manifest.data_hash == data_hash:
        # So that a run that is repeated after its promotion is the same training, and not one more.
        if manifest.started_from is None:
            raise ColdStart(f"version {version} is a cold start on the same data")
        version = manifest.started_from.version
        manifest = registry.manifest_of(version)
    _require_earlier(version, manifest, settings)
    with TemporaryDirectory() as scratch:
        # Not the final fit, which has learned from what may be held out now.
        registry.fetch_validation_fit(version, Path(scratch))
        return _load(version, Path(scratch), wanted)


def _require_earlier(version: int, manifest: ReleaseManifest, settings: JobSettings) -> None:
    """Raises ColdStart if the release learned from other data, or from what is held out now."""
    if manifest.dataset != settings.dataset:
        raise ColdStart(f"version {version} is of DATASET={manifest.dataset}")
    until = events_until(settings.processed_dir)
    if manifest.ends_after(until):
        raise ColdStart(
            f"version {version} learned from events until {manifest.events_until}, and the prepared data ends with "
            f"{until or 'its own log'}: it may have seen what is held out"
        )


def _load(version: int, directory: Path, wanted: TwoTowerConfig) -> Start:
    manifest = verify_release(directory)
    if not same_architecture(TwoTowerConfig.load(directory / CONFIG_FILE), wanted):
        raise ColdStart(f"the towers of version {version} have another architecture")
    towers = StartingTowers(load_model(directory), Vocabulary.load(directory / VOCABULARY_FILE))
    return Start(StartedFrom(version=version, weights=manifest.weights_hash), towers)
