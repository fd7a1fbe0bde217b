"""The feature store's Lua scripts. Each runs with the functions of the files that it needs in front of it."""

import hashlib
from pathlib import Path


class Script:
    """A script that servers know by the hash of its text."""

    def __init__(self, *files: str) -> None:
        self.text = "\n".join(Path(__file__).with_name(f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


RECORD_EVENTS = Script("history", "popularity", "record_events")
SEED_USER = Script("history", "popularity", "seed_user")
PUBLISH_POPULAR = Script("publish_popular")
