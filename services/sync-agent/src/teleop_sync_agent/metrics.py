"""The agent's metrics for Prometheus."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class AgentMetrics(Collector):
    """Metrics of the agent that runs, read when Prometheus asks.

    take  (name, help, value, labels) of each; a name that ends with `_total` is a counter
    """

    def __init__(self) -> None:
        self.take: Callable[[], Iterable[tuple[str, str, float, dict[str, str]]]] = tuple

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, text, value, labels in self.take():
            if name not in families:
                family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = family(name, text, labels=list(labels))
            families[name].add_metric(list(labels.values()), value)
        yield from families.values()

    def serve(self, port: int) -> None:
        """Serve them on 127.0.0.1 at `port`; raises OSError if it is taken."""
        REGISTRY.register(self)
        start_http_server(port, addr="127.0.0.1")
