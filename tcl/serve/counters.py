"""What Prometheus is told at /metrics."""

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tcl.serve.batching import Batcher

SIZES = (1, 2, 4, 8, 16, 32, 64)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Counters:
    """Of one service."""

    def __init__(self, batcher: Batcher):
        self.registry = CollectorRegistry()
        self.requests = Counter("tcl_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "tcl_request_seconds", "From request to answer.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.sizes = Histogram(
            "tcl_batch_items",
            "Requests that went together.",
            ["work"],
            buckets=SIZES,
            registry=self.registry,
        )
        self.running = Gauge("tcl_running_requests", "Requests that are being answered.", registry=self.registry)
        self.images = Gauge("tcl_index_images", "Images that can be found.", registry=self.registry)
        waiting = Gauge("tcl_waiting_requests", "Requests that wait for the model.", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting)
        batcher.batches = lambda work, size: self.sizes.labels(work).observe(size)

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """Counts what passes, by the route's pattern: paths of a client's making would be endless."""

    def __init__(self, app: ASGIApp, counters: Counters):
        self.app, self.counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.counters.running.inc()
        try:
            await self.app(scope, receive, counted)
        finally:
            self.counters.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            self.counters.requests.labels(route, str(status)).inc()
            self.counters.seconds.labels(route).observe(perf_counter() - started)
