"""What Prometheus reads at ``/metrics``. Labels are bounded: a caller cannot make new ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from core.records import Prediction
from core.serving.workers import Workers

CONTENT_TYPE = CONTENT_TYPE_LATEST
RECENT = 1_000  # predictions that the unknown ratio is over
PATHS = frozenset(
    {
        "/v1/classify",
        "/v1/classify/batch",
        "/v1/explain",
        "/v1/model",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
    }
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one API."""

    def __init__(self, workers: Workers) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("earshot_requests", "Requests answered", "method", "path", "status")
        self.request_s = self._histogram("earshot_request_seconds", "Time from header to answer", "path")
        self.refused = self._counter("earshot_errors", "Requests answered with an error", "code")
        self.predictions = self._counter("earshot_predictions", "Sounds classified and stored")
        self.unknown = self._counter("earshot_unknown_predictions", "… of which none of the classes")
        self.prediction_s = self._histogram("earshot_prediction_seconds", "Time from bytes to prediction")
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._gauge("earshot_unknown_ratio", f"Share unknown of the last {RECENT:,} predictions", self._unknown_ratio)
        self._gauge("earshot_queue_depth", "Requests that wait for a worker", lambda: workers.waiting)
        self._gauge("earshot_queue_capacity", "Requests that may wait", lambda: workers.capacity)
        self._gauge("earshot_workers_busy", "Workers at work", lambda: workers.busy)
        self._gauge("earshot_workers", "Workers", lambda: workers.count)

    def count_request(self, method: str, path: str, status: int, seconds: float) -> None:
        path = path if path in PATHS else "other"
        self.requests.labels(method if method in METHODS else "other", path, str(status)).inc()
        self.request_s.labels(path).observe(seconds)

    def count_predictions(self, predictions: Iterable[Prediction]) -> None:
        for prediction in predictions:
            self.predictions.inc()
            self.unknown.inc(prediction.unknown)
            self.prediction_s.observe(prediction.latency_ms / 1000)
            self._recent.append(prediction.unknown)

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        return generate_latest(self.registry)

    def _unknown_ratio(self) -> float:
        recent = list(self._recent)
        return sum(recent) / len(recent) if recent else 0.0

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, *labels: str) -> Histogram:
        return Histogram(name, says, labels, registry=self.registry, buckets=BUCKETS_S)

    def _gauge(self, name: str, says: str, value: Callable[[], float]) -> None:
        Gauge(name, says, registry=self.registry).set_function(value)
