"""faust's consumer, a chunk of records at a time, committing exactly what the ledger says.

faust makes two tasks and a turn of the event loop of every event, several times what scoring costs without a model. So
an event here is a chunk: neighbours of one partition. And as the ledger acknowledges in order, the last offset it names
is all there is to commit: faust's own search for gaps among acknowledged offsets, which can step over a record that is
not done, has no part in it. Redis is told of it before Kafka is, and asked when partitions are assigned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP, Message
from faust.types.tuples import ConsumerMessage

from inference_worker.resumption import Resuming
from inference_worker.topic_id import TIMEOUT_S, topic_id

CHUNK: Final = 64
"""Records at most; pictures inside, about 1 MB."""
FETCH_WAIT_MS: Final = 20
"""How long a broker may hold a fetch while it has nothing. Apache Kafka answers as soon as a record comes; the embedded
one looks again only after half of this, which at faust's 1,500 ms made a lone post wait 400 ms. Asking 50 times a
second costs an idle worker 2 % of a core."""


class Chunk(ConsumerMessage):
    """Some records of one partition; to faust it is one message, at the place of the last of them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        last = messages[-1]
        super().__init__(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp,
            last.timestamp_type,
            headers=None,
            key=None,
            value=b"",
            checksum=None,
            tp=last.tp,
            generation_id=last.generation_id,
        )
        self.messages = messages
        self.tracked = True  # the stream is not to wait for it


class PromptThread(AIOKafkaConsumerThread):
    """Fetches with FETCH_WAIT_MS.

    is_unheard: on stopping it tells the group nothing, which then waits for the end of its session.
    """

    is_unheard = False

    async def on_thread_stop(self) -> None:
        if self.is_unheard and self._consumer is not None:
            coordinator = self._consumer._coordinator
            coordinator._group_instance_id = coordinator.member_id  # members of a fixed name do not take leave
        await super().on_thread_stop()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # faust has no setting for it; read when the consumer starts
        return consumer

    async def rejoin(self) -> None:
        """Has the group assign its partitions anew."""
        await self.call_thread(self._request_rejoin)

    async def topic_id(self, topic: str) -> str | None:
        """See topic_id.topic_id."""
        return cast("str | None", await self.call_thread(self._topic_id, topic))

    async def _topic_id(self, topic: str) -> str | None:
        return await topic_id(self._ensure_consumer()._client, topic)

    async def _request_rejoin(self) -> None:
        consumer = self._ensure_consumer()
        consumer._client.force_metadata_update()  # else a topic that was away for a moment is so for five minutes
        consumer._coordinator.request_rejoin()


class ChunkConsumer(Consumer):
    """Use as the transport's `Consumer`; `topic`, which it reads, and `resuming` are to be set before it starts."""

    topic: str
    resuming: Resuming

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_assigned_anew = False
        self._seeking = asyncio.Lock()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return PromptThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  # faust's
        """A fetch, which faust gives in turn by partition, as chunks."""
        waiting: dict[TP, list[Message]] = {}
        async for tp, message in super().getmany(timeout):
            chunk = waiting.setdefault(tp, [])
            chunk.append(message)
            if len(chunk) == CHUNK:
                yield tp, Chunk(waiting.pop(tp))
        for tp, chunk in waiting.items():
            yield tp, Chunk(chunk)

    @property
    def is_alone(self) -> bool:
        """It has all partitions of its topic, and nobody joins."""
        mine = sum(tp.topic == self.topic for tp in self.assignment())
        return mine > 0 and mine == self.topic_partitions(self.topic)

    def leave_unheard(self) -> None:
        """See PromptThread; to be said before it stops."""
        cast(PromptThread, self._thread).is_unheard = True

    def acknowledge(self, tp: TP, offset: int) -> None:
        """The record there and all before it are done."""
        self._acked[tp] = [offset]

    def acknowledged(self, tp: TP) -> int | None:
        """The last offset that is done; None before the first in this assignment."""
        acknowledged = self._acked.get(tp)
        return acknowledged[0] if acknowledged else None

    def ack(self, message: Message) -> bool:
        """Not faust's to say: it acknowledges what it skips while partitions move."""
        return False

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: whoever fetches waits at a full buffer. faust would fetch no more from this partition, and where
        that was the last one sleep a whole second, in which a worker that is quick runs dry."""

    def forget(self, revoked: Iterable[TP]) -> None:
        """What was acknowledged of them says nothing of where they are taken up again."""
        for tp in revoked:
            self._acked.pop(tp, None)

    async def rejoin(self) -> None:
        """See PromptThread.rejoin; nothing while that is under way."""
        if self.flow_active:
            await cast(PromptThread, self._thread).rejoin()

    async def topic_id(self) -> str | None:
        """See topic_id.topic_id."""
        try:
            async with asyncio.timeout(TIMEOUT_S):  # its thread may be waiting for a broker
                return await cast(PromptThread, self._thread).topic_id(self.topic)
        except TimeoutError:
            return None

    async def is_topic_anew(self) -> bool:
        """It was deleted and made again: the places of our partitions mean nothing in it, or none is assigned yet."""
        if not self.flow_active or (now := await self.topic_id()) is None:
            return False
        return self.resuming.topic not in (None, now) if self.assignment() else self.topic_partitions(self.topic) == 0

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._is_assigned_anew = True
        await super().on_partitions_assigned(assigned, generation_id)

    def resume_flow(self) -> None:
        self._is_assigned_anew = False
        super().resume_flow()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Or before, to what Redis lacks; then that is committed, so that whoever seeks there next finds the same.

        faust seeks from two tasks while partitions move.
        """
        async with self._seeking:
            committed = await super().seek_to_committed()
            return {**committed, **await self._seek_back(committed)} if self._is_assigned_anew else committed

    async def _seek_back(self, committed: Mapping[TP, int | None]) -> dict[TP, int]:
        begins = await self.earliest_offsets(*committed)
        resumptions = await self.resuming.find(committed, begins, await self.topic_id())
        again = {tp: one.offset for tp, one in resumptions.items() if one.is_back}
        if again:
            await self._commit(again)
        if back := self._first_reads(committed, begins) | again:
            await self.seek_wait(back)
        return back

    def _first_reads(self, committed: Mapping[TP, int | None], begins: Mapping[TP, int]) -> dict[TP, int]:
        """Where nothing is committed: aiokafka seeks nowhere then, and what was fetched meanwhile faust dropped."""
        if self.app.conf.consumer_auto_offset_reset != "earliest":
            return {}
        return {tp: begins[tp] for tp, offset in committed.items() if not offset}

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Once Redis has noted them."""
        assignment = self.assignment()
        if not await self.resuming.mark({tp: offset for tp, offset in offsets.items() if tp in assignment}):
            return False
        return await super()._commit_offsets(offsets, start_new_transaction)

    def _new_offset(self, tp: TP) -> int | None:
        acknowledged = self._acked[tp]
        return acknowledged[0] + 1 if acknowledged else None

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets without a record need no acknowledgement."""
