"""Prometheus metrics: every service declares its own by name in its `metrics.py`, in this one registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

HTTP_REQUESTS = Counter(
    "http_requests_total", "Answered HTTP requests", ["method", "route", "status"], registry=REGISTRY
)
HTTP_SECONDS = Histogram(
    "http_request_seconds", "Time from a request to the start of its answer", ["route"], registry=REGISTRY
)
BACKGROUND_FAILURES = Counter(
    "background_failures_total", "Failures of background tasks, by name", ["task"], registry=REGISTRY
)
BACKGROUND_IN_TROUBLE = Gauge(
    "background_in_trouble", "1 while a background task is failing, by name", ["task"], registry=REGISTRY
)
REQUESTS_LIMITED = Counter(
    "requests_limited_total",
    "Requests that were refused because one caller, or one address, sent too many",
    registry=REGISTRY,
)
ERRORS = Counter("errors_total", "Errors sent to clients, by code", ["code"], registry=REGISTRY)


async def show_metrics(_request: Request) -> Response:
    """Every metric in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
