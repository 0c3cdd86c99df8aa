"""A metrics plugin, as ConsoleMe's `metrics.metrics_plugin` takes it, that the tests can read."""

COUNTS = []


class RecordedMetric:
    def count(self, metric_name, tags=None):
        COUNTS.append((metric_name, tags))

    def gauge(self, metric_name, metric_value, tags=None):
        pass

    def timer(self, metric_name, tags=None):
        pass
