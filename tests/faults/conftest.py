"""One running stack for all fault tests."""

import gc
from collections.abc import Iterator

import pytest

from tests.faults.rig import STARTED, Rig, release, wired


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("faults")
    with wired(folder) as rig:
        for name in STARTED:
            rig.processes[name].start()
        for name in STARTED:
            rig.processes[name].wait_until_up()
        release(rig, folder / "data")
        rig.wait_until_well()
        gc.collect()
        gc.freeze()  # keeps garbage collection short: the load and the proxies run in this process
        yield rig
        gc.unfreeze()
