"""Serve the champion: `python -m local.demo` runs the stores, the services and the tour until Ctrl-C."""

import shlex
import sys

from honcho.manager import Manager

from local import commands
from local.ports import require_free
from local.running import services_lock
from local.settings import LocalSettings
from local.stores import dies_with_parent, missing_stores
from recsys.errors import JobError

INTERRUPTED = 130


def main() -> int:
    settings = LocalSettings()
    try:
        stores = missing_stores(settings)
        require_free(settings.feature_service_port, "FEATURE_SERVICE_PORT")
        require_free(settings.collector_port, "COLLECTOR_PORT")
        if settings.ramp != "100":
            require_free(settings.guard_port, "GUARD_PORT")
        if settings.retrains:
            require_free(settings.retrainer_port, "RETRAINER_PORT")
        require_free(settings.ranker_port, "RANKER_PORT")
        require_free(settings.orchestrator_port, "ORCHESTRATOR_PORT")
        processes = {store.name: store.command(settings) for store in stores}
    except JobError as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    processes["feature_service"] = commands.feature_service(settings)
    processes["collector"] = commands.collector(settings)
    if settings.ramp != "100":  # otherwise nothing ramps, unless by hand
        processes["guard"] = commands.guard(settings)
    processes["ranker_service"] = commands.ranker_service(settings)
    processes["orchestrator"] = commands.orchestrator(settings)
    if settings.retrains:
        processes["retrainer"] = commands.retrainer(settings)
    processes["tour"] = [sys.executable, "-m", "local.tour"]
    manager = Manager()
    for name, command in processes.items():
        manager.add_process(name, "exec " + shlex.join(dies_with_parent(command)), env=settings.environment())
    with services_lock(settings):
        manager.loop()
    return 0 if manager.returncode == INTERRUPTED else int(manager.returncode or 1)


if __name__ == "__main__":
    sys.exit(main())
