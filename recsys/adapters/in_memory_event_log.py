"""The port EventLog in this process's memory, for tests, notebooks and demos."""

from recsys.contracts.event_log import Impression, ImpressionBatch, ImpressionsAppended


class InMemoryEventLog:
    def __init__(self) -> None:
        self.impressions: list[Impression] = []
        self._batch_ids: set[str] = set()

    async def append(self, batch: ImpressionBatch) -> ImpressionsAppended:
        if batch.batch_id in self._batch_ids:
            return ImpressionsAppended(appended=0)
        self._batch_ids.add(batch.batch_id)
        self.impressions.extend(batch.impressions)
        return ImpressionsAppended(appended=len(batch.impressions))
