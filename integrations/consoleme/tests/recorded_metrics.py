"""A plugin for ConsoleMe's `metrics.metrics_plugin` that records counts for the tests."""

COUNTS = []


class RecordedMetric:
    def count(self, metric_name, tags=None):
        COUNTS.append((metric_name, tags))

    def gauge(self, metric_name, metric_value, tags=None):
        pass

    def timer(self, metric_name, tags=None):
        pass
