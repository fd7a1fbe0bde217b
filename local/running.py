"""Whether the services of a state folder are running, by a lock that `make demo` holds as long as it runs.

The operating system releases the lock when the process ends in any way, so a demo that was killed counts as stopped,
and one that is busy or frozen counts as running.
"""

from filelock import FileLock, Timeout

from local.settings import LocalSettings

LOCK_FILE = "services.lock"


def services_lock(settings: LocalSettings) -> FileLock:
    settings.home.mkdir(parents=True, exist_ok=True)
    return FileLock(settings.home / LOCK_FILE)


def services_run(settings: LocalSettings) -> bool:
    """Whether a process holds the lock."""
    lock = services_lock(settings)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
