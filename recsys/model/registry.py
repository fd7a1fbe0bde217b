"""Releases in the MLflow model registry. The only module that imports mlflow.

A version is created last, after all of its files were uploaded, so every existing version is complete.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from recsys.errors import ReleaseDamaged, ReleaseNotLoaded, UpstreamUnavailable
from recsys.model.release_manifest import RELEASE_FILE, ReleaseManifest

MODEL_NAME = "two_tower"
CHAMPION = "champion"
"""Serves all traffic, or what an experiment leaves to it."""
CHALLENGER = "challenger"
"""Serves a share of the traffic during an experiment."""
PREVIOUS = "previous"
"""The previous champion; kept loaded for a fast rollback."""
NEXT = "next"
"""About to become the champion; rankers load it in advance."""
FINGERPRINT_TAG = "fingerprint"
WEIGHTS_TAG = "weights"
VALIDATION_FIT_TAG = "validation_fit"
"""The weights that the version's metrics are of: before it learned from what they were measured on."""
SIZE_TAG = "bytes"
SEARCH_TAG = "search"
"""How the version's collection is searched: `SearchSettings` as JSON, with the measurements behind them."""
SHOWN_METRICS = ("ndcg_at_10", "hr_at_200")
RELEASE_PATH = "release"
"""Folder of the release's files among the artifacts of its run."""
VALIDATION_FIT_PATH = "validation_fit"
"""Folder of the files of its validation fit, which is a release, too, but never serves users."""
REPORT_PATH = "report"
"""Folder of its reports."""
MISSING = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    version: int
    created: float
    """Seconds since 1970."""
    tags: dict[str, str]


class ModelRegistry:
    """Client of the model registry. Its calls block: use it in jobs, or in a thread.

    Raises `UpstreamUnavailable` if the tracking server cannot be reached or rejects a request.
    """

    def __init__(self, tracking_uri: str) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._tracking_uri = tracking_uri
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def version_of(self, fingerprint: str, file_hashes: Mapping[str, str]) -> int | None:
        """The newest version of this training with exactly these files (sha256 by name); None if there is none.

        The fingerprint alone is not enough: training with the same settings again results in other weights.
        """
        for version in self._versions_of(fingerprint):
            with suppress(ReleaseDamaged):  # such as one from an incompatible version of Tandem
                if self.manifest_of(version).file_hashes == file_hashes:
                    return version
        return None

    def manifest_of(self, version: int) -> ReleaseManifest:
        """The `release.json` of a version. Raises `ReleaseNotLoaded` if there is no such version."""
        with TemporaryDirectory() as scratch, self._translated_errors():
            _download(self._files_of(version), RELEASE_FILE, Path(scratch))
            return ReleaseManifest.read(Path(scratch))

    def register(
        self,
        manifest: ReleaseManifest,
        directory: Path,
        *,
        params: dict[str, str],
        history: list[tuple[str, float, int]],
        report: Path | None,
        validation_fit: Path | None = None,
    ) -> int:
        """Upload a release with its training parameters and metrics, and create the next version.

        `history` contains (metric, value, round). `validation_fit` is the folder of what was measured, if that is not
        the release itself. Runs left by an interrupted call are deleted first.
        """
        with self._translated_errors():
            experiment_id = self._experiment(manifest.dataset)
            self._delete_unfinished_runs(experiment_id, manifest.fingerprint)
            run = self._client.create_run(
                experiment_id, run_name=manifest.fingerprint, tags={FINGERPRINT_TAG: manifest.fingerprint}
            )
            run_id = run.info.run_id
            finished = run.info.start_time
            metrics = [Metric(key, value, finished, 0) for key, value in manifest.metrics.items()]
            metrics += [Metric(key, value, finished, step) for key, value, step in history]
            self._client.log_batch(run_id, metrics, [Param(key, value) for key, value in params.items()])
            self._upload(run_id, directory, manifest, RELEASE_PATH)
            if validation_fit is not None:
                self._upload(run_id, validation_fit, ReleaseManifest.read(validation_fit), VALIDATION_FIT_PATH)
            if report is not None:
                self._client.log_artifacts(run_id, str(report), REPORT_PATH)
            self._client.set_terminated(run_id)
            self._ensure_model()
            version = self._client.create_model_version(
                MODEL_NAME,
                source=f"{run.info.artifact_uri}/{RELEASE_PATH}",
                run_id=run_id,
                tags={
                    FINGERPRINT_TAG: manifest.fingerprint,
                    WEIGHTS_TAG: manifest.weights_hash,
                    VALIDATION_FIT_TAG: manifest.validation_fit or manifest.weights_hash,
                    SIZE_TAG: str(sum((directory / name).stat().st_size for name in manifest.file_hashes)),
                    "dataset": manifest.dataset,
                    **{name: f"{manifest.metrics[name]:.4f}" for name in SHOWN_METRICS if name in manifest.metrics},
                },
            )
        return int(version.version)

    def aliases(self) -> dict[str, int]:
        """All aliases and their versions, read in one call; empty before the first registration."""
        try:
            with self._translated_errors():
                named = self._client.get_registered_model(MODEL_NAME).aliases
        except ReleaseNotLoaded:
            return {}
        return {alias: int(version) for alias, version in named.items()}

    def set_alias(self, alias: str, version: int) -> None:
        with self._translated_errors():
            self._client.set_registered_model_alias(MODEL_NAME, alias, str(version))

    def delete_alias(self, alias: str) -> None:
        with self._translated_errors():
            self._client.delete_registered_model_alias(MODEL_NAME, alias)

    def shared_tag(self, key: str) -> str | None:
        """A tag of all versions together; None if it is not set or nothing is registered."""
        try:
            with self._translated_errors():
                tags: dict[str, str] = self._client.get_registered_model(MODEL_NAME).tags
        except ReleaseNotLoaded:
            return None
        return tags.get(key)

    def set_shared_tag(self, key: str, value: str) -> None:
        """Set a tag of all versions together. Raises `ReleaseNotLoaded` if nothing is registered."""
        with self._translated_errors():
            self._client.set_registered_model_tag(MODEL_NAME, key, value)

    def delete_shared_tag(self, key: str) -> None:
        with self._translated_errors():
            self._client.delete_registered_model_tag(MODEL_NAME, key)

    def versions(self) -> list[RegisteredVersion]:
        """All versions, newest first."""
        with self._translated_errors():
            found = self._client.search_model_versions(f"name = '{MODEL_NAME}'")
        described = [
            RegisteredVersion(int(each.version), each.creation_timestamp / 1000, dict(each.tags)) for each in found
        ]
        return sorted(described, key=lambda each: -each.version)

    def tags_of(self, version: int) -> dict[str, str]:
        """The tags of a version. Raises `ReleaseNotLoaded` if there is no such version."""
        with self._translated_errors():
            return dict(self._client.get_model_version(MODEL_NAME, str(version)).tags)

    def set_tag(self, version: int, key: str, value: str) -> None:
        """Tag a version after it was registered."""
        with self._translated_errors():
            self._client.set_model_version_tag(MODEL_NAME, str(version), key, value)

    def delete_tag(self, version: int, key: str) -> None:
        """Remove a tag of a version, if it has it."""
        with self._translated_errors():
            self._client.delete_model_version_tag(MODEL_NAME, str(version), key)

    def add_measurement(self, version: int, metrics: dict[str, float], files: Iterable[Path]) -> None:
        """Add metrics and reports to the run of a registered version.

        Raises `ReleaseNotLoaded` if there is no such version.
        """
        now = int(time.time() * 1000)  # noqa: TID251 (beside times that MLflow sets)
        with self._translated_errors():
            run_id = self._client.get_model_version(MODEL_NAME, str(version)).run_id
            self._client.log_batch(run_id, [Metric(key, value, now, 0) for key, value in metrics.items()])
            for file in files:
                self._client.log_artifact(run_id, str(file), REPORT_PATH)

    def fetch(self, version: int, destination: Path) -> None:
        """Download the files that a version serves into an existing folder."""
        self._fetch(version, RELEASE_PATH, destination)

    def fetch_validation_fit(self, version: int, destination: Path) -> None:
        """Download the files of the fit that a version's metrics are of, which may be those that it serves."""
        served = self.manifest_of(version).validation_fit is None
        self._fetch(version, RELEASE_PATH if served else VALIDATION_FIT_PATH, destination)

    def _fetch(self, version: int, path: str, destination: Path) -> None:
        with self._translated_errors():
            files = self._files_of(version, path)
            _download(files, RELEASE_FILE, destination)
            for name in ReleaseManifest.read(destination).file_hashes:
                _download(files, name, destination)

    def _upload(self, run_id: str, directory: Path, manifest: ReleaseManifest, path: str) -> None:
        for name in (*manifest.file_hashes, RELEASE_FILE):
            self._client.log_artifact(run_id, str(directory / name), path)

    def _versions_of(self, fingerprint: str) -> list[int]:
        """The versions of a training, newest first."""
        with self._translated_errors():
            found = self._client.search_model_versions(_of_training(fingerprint))
        return sorted((int(each.version) for each in found), reverse=True)

    def _delete_unfinished_runs(self, experiment_id: str, fingerprint: str) -> None:
        """Delete the runs of a training that no version names. An interrupted `register` leaves such runs."""
        finished = {version.run_id for version in self._client.search_model_versions(_of_training(fingerprint))}
        for run in self._client.search_runs([experiment_id], f"tags.{FINGERPRINT_TAG} = '{fingerprint}'"):
            if run.info.run_id not in finished:
                self._client.delete_run(run.info.run_id)

    def _files_of(self, version: int, path: str = RELEASE_PATH) -> ArtifactRepository:
        source = self._client.get_model_version(MODEL_NAME, str(version)).source.removesuffix(RELEASE_PATH)
        return get_artifact_repository(f"{source}{path}", tracking_uri=self._tracking_uri)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _ensure_model(self) -> None:
        try:
            self._client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            if error.error_code == MISSING:
                raise ReleaseNotLoaded(f"MLflow: {error.message}") from error
            reason = f" ({error.__cause__})" if error.__cause__ else ""  # only the cause names a full disk
            raise UpstreamUnavailable(f"MLflow at {self._tracking_uri}: {error.message}{reason}") from error
        except OSError as error:
            raise UpstreamUnavailable(f"MLflow at {self._tracking_uri}: {error}") from error


def _of_training(fingerprint: str) -> str:
    """MLflow's filter for the versions of a training."""
    return f"name = '{MODEL_NAME}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"


def _download(files: ArtifactRepository, name: str, destination: Path) -> None:
    """Download a file in this thread. `MlflowClient.download_artifacts` starts a thread per file and leaves it to the
    garbage collector, which rarely runs in a service."""
    path = destination / name
    try:
        files._download_file(name, str(path))
    except OSError as error:
        if error.errno is not None:  # a full disk, for example; a failed write does not name the file
            error.filename = str(path)
        raise
