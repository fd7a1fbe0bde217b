"""The Lua scripts of the feature store and the event log. Each begins with the functions that it needs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from recsys.adapters.redis_client import Client


class Script:
    """A script that servers know by the hash of its text."""

    def __init__(self, *files: str) -> None:
        self.text = "\n".join(Path(__file__).with_name(f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


RECORD_EVENTS = Script("history", "popularity", "activity", "record_events")
SEED_USER = Script("history", "popularity", "seed_user")
APPEND_IMPRESSIONS = Script("append_impressions")
NEXT_LOG_BATCH = Script("next_log_batch")
FORGET_LOG_BATCH = Script("forget_log_batch")
PUBLISH_POPULAR = Script("publish_popular")


async def run_script(redis: Client, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
    """Run a script in one round trip; in three on a server that does not know it yet."""
    command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
    try:
        return await redis.execute_command(*command)
    except NoScriptError:
        await redis.script_load(script.text)
        return await redis.execute_command(*command)
