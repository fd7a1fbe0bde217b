"""One rig for all that is done to a stack that runs."""

import gc
from collections.abc import Iterator

import pytest

from tests.faults.rig import PARTS, Rig, release, wired


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("faults")
    with wired(folder) as rig:
        for name in PARTS:
            rig.processes[name].start()
        for name in PARTS:
            rig.processes[name].wait_until_up()
        release(rig, folder / "data")
        rig.wait_until_well()
        gc.collect()
        gc.freeze()  # the load and the cables share this process with all that the jobs imported
        yield rig
        gc.unfreeze()
