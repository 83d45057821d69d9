"""A worker's counts as Prometheus' metrics, and what it needs for its work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from prometheus_client.metrics_core import Metric

from inference_worker.consumer import ChunkConsumer
from ingest.telemetry.endpoint import Check, NotReady
from ingest.telemetry.families import counter, counters, gauge, gauges, histogram, histograms, info

if TYPE_CHECKING:
    from inference_worker.agent import WorkerApp


class WorkerMetrics:
    """See `telemetry.endpoint.Observed`.

    Its model reproduced its golden rows, else there were no worker. One beyond the number of partitions is not ready.
    """

    name = "worker"

    def __init__(self, app: WorkerApp) -> None:
        self._app = app
        self.checks: Mapping[str, Check] = {"partitions": self._partitions, "kafka": self._kafka, "store": self._store}

    async def _partitions(self) -> None:
        if not self._app.partitions():
            raise NotReady(
                "no partition is assigned: the group may be rebalancing, or have more workers than partitions"
            )

    async def _kafka(self) -> None:
        """Not by way of the thread's queue of calls, where a broker that hangs would hold up fetches and commits."""
        thread = cast(Any, self._app.consumer)._thread
        asking = asyncio.run_coroutine_threadsafe(thread._ensure_consumer().topics(), thread.thread_loop)
        await asyncio.wrap_future(asking)

    async def _store(self) -> None:
        await self._app.redis.ping()

    def told(self) -> Mapping[str, Any]:
        stats = self._app.stats
        return {"worker": stats.name, "model": stats.model, "engine": stats.engine, "started_at": stats.started_at}

    def families(self) -> Iterator[Metric]:
        stats = self._app.stats
        labels = {"namespace": self._app.settings.namespace, "worker": stats.name}
        labels |= {"model": stats.model, "engine": stats.engine}
        yield info("moodstream_worker", "Which worker this is, and what it scores with", labels)
        yield from self._posts()
        yield from self._engine()
        yield from self._partition()
        told = "Writes to Redis that had to be repeated"
        yield counter("moodstream_worker_store_retries", told, self._app.store.retries)
        told = "Records applied again because Redis had forgotten them"
        yield counter("moodstream_worker_records_reapplied", told, stats.applied_again)
        told = "Records that are not in Redis and no longer in Kafka"
        yield counter("moodstream_worker_records_gap", told, stats.gap)

    def _posts(self) -> Iterator[Metric]:
        stats = self._app.stats
        yield counter("moodstream_worker_posts_scored", "Posts whose prediction is in Redis", stats.written)
        yield counter("moodstream_worker_posts_abstained", "Of these, too uncertain to count", stats.abstained)
        told = "Posts counted without having been scored, by reason"
        yield counters("moodstream_worker_posts_shed", told, "reason", {"age": 0, "sample": 0} | stats.shed)
        told = "Share of the posts that is scored; less than 1 only while the worker is behind and may sample"
        yield gauge("moodstream_worker_sample_ratio", told, self._app.pipeline.shedding.share)
        told = "Records no worker could score, by kind of failure"
        yield counters("moodstream_worker_dead_letters", told, "reason", stats.dead_letters)
        told = "From a post's creation, and from its ingestion, until its prediction is in Redis"
        latencies = {"created": stats.since_created, "ingested": stats.since_ingested}
        observed = {since: (seconds.buckets(), seconds.total) for since, seconds in latencies.items()}
        yield histograms("moodstream_worker_post_latency_seconds", told, "since", observed)

    def _engine(self) -> Iterator[Metric]:
        stats, batcher, images = self._app.stats, self._app.pipeline.batcher, self._app.predictor.images
        sizes = stats.batch_sizes
        yield histogram("moodstream_worker_batch_posts", "Posts in a batch", sizes.buckets(), sizes.total)
        yield gauge(
            "moodstream_worker_batch_limit_posts", "Most posts in a batch, halved out of memory", batcher.max_items
        )
        yield counter("moodstream_worker_batch_tokens", "Tokens in batches", stats.tokens)
        yield counter("moodstream_worker_batch_padded_tokens", "The same with padding", stats.padded_tokens)
        told = "Share of its tolerance the model needed to reproduce its golden rows; past 1 no worker starts"
        yield gauge("moodstream_worker_golden_deviation_ratio", told, self._app.predictor.golden_deviation)
        yield counter("moodstream_worker_engine_busy_seconds", "Time with a batch in the engine", stats.busy_s)
        yield gauge("moodstream_worker_queue_age_seconds", "Age of the oldest post no batch has", batcher.queue_age_s)
        pictures = {"remembered": images.hits, "computed": images.misses}
        yield counters("moodstream_worker_pictures", "Pictures by where features came from", "features", pictures)

    def _partition(self) -> Iterator[Metric]:
        app, ledger = self._app, self._app.pipeline.ledger
        consumer = cast(ChunkConsumer, app.consumer)
        yield counter(
            "moodstream_worker_records_done", "Records acknowledged, whatever became of them", ledger.acknowledged
        )
        yield gauge("moodstream_worker_records_in_flight", "Records read and not done", len(ledger))
        yield counter("moodstream_worker_revocations", "Times partitions went to another worker", ledger.revocations)
        lags = {str(partition): lag for partition, lag in app.lags().items()}
        yield gauges("moodstream_worker_partition_lag_records", "Records not done, read or not", "partition", lags)
        told = "Age of the oldest record read and not done, since it was sent to Kafka"
        behind = {str(partition): seconds for partition, seconds in app.behind().items()}
        yield gauges("moodstream_worker_partition_behind_seconds", told, "partition", behind)
        offsets = {str(tp.partition): consumer.acknowledged(tp) for tp in app.partitions()}
        yield gauges("moodstream_worker_partition_done_offset", "Offset of the last record done", "partition", offsets)
