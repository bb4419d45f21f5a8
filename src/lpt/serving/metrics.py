"""The metrics of the server for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """Counters of one app.

    Args:
        queued: returns the number of images that wait.
        packs: returns the number of packs.
    """

    def __init__(self, queued: Callable[[], float] = lambda: 0, packs: Callable[[], float] = lambda: 0) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "lpt_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "lpt_request_seconds",
            "Time from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._images = Counter("lpt_images", "Images that were classified, by pack.", ["pack"], registry=self._registry)
        self._batches = Histogram("lpt_batch_images", "Images of a batch.", buckets=_SIZES, registry=self._registry)
        self._network = Counter("lpt_network_seconds", "Time in which the network ran.", registry=self._registry)
        Gauge("lpt_queue_images", "Images that wait.", registry=self._registry).set_function(queued)
        Gauge("lpt_packs", "Packs that are served.", registry=self._registry).set_function(packs)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def images(self, pack: str, count: int) -> None:
        """Count the images that a pack classified."""
        self._images.labels(pack).inc(count)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(images)
        self._network.inc(seconds)

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self._registry)

    def families(self, *, only: Collection[str] = ()) -> list[Metric]:
        """Return all metrics with their values, or only some by their names; they may go to another process."""
        return [metric for metric in self._registry.collect() if not only or metric.name in only]


def labelled(metric: Metric, replica: str) -> list[Sample]:
    """Return the values of a metric with the name of a replica as a label."""
    return [sample._replace(labels={**sample.labels, "replica": replica}) for sample in metric.samples]
