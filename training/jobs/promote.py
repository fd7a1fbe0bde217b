"""Make a version the champion: `python -m training.jobs.promote`.

It is compared with the champion, indexed, loaded by every ranker, and its lists for active users are stored. The alias
moves last. If the job fails or is killed at any step, the current champion keeps serving, with its own lists.

With RAMP, the version serves a share of the users at first, and the champion before it the others.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from recsys.errors import JobError, ReleaseNotLoaded
from recsys.internal_token import internal_headers
from recsys.model.registry import CHAMPION, NEXT, PREVIOUS, ModelRegistry
from recsys.model.release import Release
from recsys.model.release_manifest import ReleaseManifest
from recsys.ramp import RAMP_TAG
from training.indexing.build import index_release, newest_version
from training.job import run_job
from training.precomputed_lists import store_lists
from training.promotion.baseline_gate import pass_baseline
from training.promotion.gate import GATE_TAG, GateRecord, pass_gate
from training.promotion.lease import Lease, promotion_lease
from training.promotion.ramp import begin_ramp, require_no_ramp
from training.promotion.rolled_back import ROLLED_BACK_TAG, require_not_rolled_back
from training.promotion.warm_up import wait_until_loaded
from training.settings import JobSettings, RegistrySettings, ReleaseSettings


def promote(settings: JobSettings) -> str:
    """The job. Raises JobError if the version is worse than the champion or the best baseline, or was rolled back, if a
    ranker does not load it, or if another promotion is running or ramps.
    """
    registry, wanted = ModelRegistry(RegistrySettings().mlflow_tracking_uri), ReleaseSettings()
    version = wanted.version or newest_version(registry, settings)
    with promotion_lease(registry, f"promote version {version}") as lease, TemporaryDirectory() as scratch:
        champion = registry.aliases().get(CHAMPION)
        if version == champion:
            return f"version {version} is already the champion"
        _require_rankers(wanted)
        tags = _tags_of(registry, version)
        if not wanted.force:
            require_not_rolled_back(version, tags)
            require_no_ramp(registry)
        directory = Path(scratch)
        registry.fetch(version, directory)
        gate = _pass_gate(registry, version, champion, directory, settings, wanted)
        release = Release.load(version, directory)
        print(f"promote: {index_release(registry, release, directory, settings)}", flush=True)
        warmed = _warm_up_and_move(registry, release, champion, gate, lease, wanted)
    return f"version {version} is the champion{_beside(champion, wanted)}; {warmed}"


def _warm_up_and_move(
    registry: ModelRegistry,
    release: Release,
    champion: int | None,
    gate: GateRecord,
    lease: Lease,
    wanted: ReleaseSettings,
) -> str:
    """Prepare everything that serves the release, then move the aliases; returns a clause about the rankers."""
    version = release.version
    registry.set_alias(NEXT, version)
    try:
        warmed = "no ranker was asked, because NO_RANKER is set"
        if wanted.ranker_url is not None and not wanted.no_ranker:
            warmed = asyncio.run(wait_until_loaded(wanted.ranker_url, version, internal_headers(wanted.internal_token)))
        print(f"promote: {store_lists(release, champion)}", flush=True)
        lease.require()
        registry.set_tag(version, GATE_TAG, gate.model_dump_json())
        if champion is not None:
            begin_ramp(registry, version, champion, wanted.ramp)
            registry.set_alias(PREVIOUS, champion)
        registry.set_alias(CHAMPION, version)
        if champion is not None:
            registry.delete_tag(champion, RAMP_TAG)  # with FORCE, its own ramp may not have ended
        registry.delete_tag(version, ROLLED_BACK_TAG)
    finally:
        if registry.aliases().get(NEXT) == version:  # another job may have taken the lease over
            registry.delete_alias(NEXT)
    return warmed


def _beside(champion: int | None, wanted: ReleaseSettings) -> str:
    """A clause about the champion before."""
    if champion is None:
        return ""
    if not wanted.ramp:
        return f", version {champion} stays warm"
    return f" for {wanted.ramp[0]:g}% of the users, version {champion} serves the others until `make ramp`"


def _require_rankers(wanted: ReleaseSettings) -> None:
    if wanted.ranker_url is None and not wanted.no_ranker:
        raise JobError(
            "RANKER_URL is not set, so no ranker would load the version before it serves; set it to the addresses of "
            "the rankers, or NO_RANKER=1 if none is running"
        )


def _tags_of(registry: ModelRegistry, version: int) -> dict[str, str]:
    try:
        return registry.tags_of(version)
    except ReleaseNotLoaded:
        versions = sorted(each.version for each in registry.versions())
        raise JobError(f"version {version} does not exist; the versions are {versions}") from None


def _pass_gate(
    registry: ModelRegistry,
    version: int,
    champion: int | None,
    directory: Path,
    settings: JobSettings,
    wanted: ReleaseSettings,
) -> GateRecord:
    metrics = ReleaseManifest.read(directory).metrics
    print(f"promote: {pass_baseline(version, metrics, force=wanted.force, first=champion is None)}", flush=True)
    if champion is None or wanted.force:
        reason = "there is no champion" if champion is None else "FORCE is set"
        print(f"promote: version {version} is not compared with other releases, because {reason}", flush=True)
        return GateRecord(best=version)
    record, line = pass_gate(registry, version, champion, settings, wanted.promote_margin)
    print(f"promote: {line}", flush=True)
    return record


if __name__ == "__main__":
    run_job("promote", promote)
