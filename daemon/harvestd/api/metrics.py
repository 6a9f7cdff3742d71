"""The daemon's metrics, in Prometheus's format. Hosts are labelled by name; no label is a path.

Everything is collected at each request, so that the series of a host that is gone are gone as well.
"""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from harvestd import __version__
from harvestd.api.state import Source, status_of_run
from harvestd.harvest.metrics import POLL_BOUNDS
from harvestd.planning.run_status import RunStatus
from harvestd.safety.verdict import is_fresh
from harvestd.telemetry.sanitize import escaped

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_HOUR: Final = 3_600.0


def metrics(source: Source, free_bytes: int) -> bytes:
    """Return all metrics as text, for `CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Daemon(source, free_bytes))
    return generate_latest(registry)


class _Daemon(Collector):
    def __init__(self, source: Source, free_bytes: int) -> None:
        self._source = source
        self._free_bytes = free_bytes

    def describe(self) -> list[Metric]:
        """Return nothing: the registry is made for one answer."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._of_hosts()
        yield from self._of_costs()
        yield from self._of_verdicts()
        yield self._of_runs()
        yield from self._of_live_runs()
        yield from self._of_notifications()
        yield self._of_services()
        yield self._polls()
        free = "Bytes that are free where experiments are filed."
        yield GaugeMetricFamily("harvestd_disk_free_bytes", free, value=self._free_bytes)
        paused = "1 while a person wants nothing to be fetched."
        yield GaugeMetricFamily("harvestd_paused", paused, value=float(self._source.context.fleet.is_paused))
        build = GaugeMetricFamily("harvestd_build_info", "Always 1: which harvestd this is.", labels=["version"])
        build.add_metric([__version__], 1.0)
        yield build

    def _of_hosts(self) -> Iterator[Metric]:
        context, tally = self._source.context, self._source.tally
        up = GaugeMetricFamily("harvestd_host_up", "1 while the host is connected.", labels=["host"])
        success = GaugeMetricFamily(
            "harvestd_host_last_success_timestamp_seconds",
            "When a look at the host, and all that it asked for at once, was last done, in Unix time.",
            labels=["host"],
        )
        moved = CounterMetricFamily(
            "harvestd_transferred_bytes", "Bytes that came from the host since the start.", labels=["host"]
        )
        failures = CounterMetricFamily(
            "harvestd_transfer_failures", "How often something could not be brought home.", labels=["host"]
        )
        defects = CounterMetricFamily(
            "harvestd_host_failures",
            "How often the work on the host ended by an unexpected exception.",
            labels=["host"],
        )
        pending = GaugeMetricFamily("harvestd_pending_bytes", "Bytes that are wanted and not here.", labels=["host"])
        names = ["host", "source", "hardware", "instance_type", "region"]
        info = GaugeMetricFamily("harvestd_host_info", "Always 1: what is known of the host.", labels=names)
        for host in {each.name: each for each in context.fleet.present.values()}.values():
            name, counted = [escaped(host.name)], tally.of(host.name)
            up.add_metric(name, float(host.name in tally.connected))
            if counted.last_success is not None:
                success.add_metric(name, counted.last_success.timestamp())
            moved.add_metric(name, counted.moved)
            failures.add_metric(name, counted.failures)
            defects.add_metric(name, counted.defects)
            pending.add_metric(name, counted.pending)
            known = (host.source, host.hardware, host.instance_type, host.region)
            info.add_metric([*name, *(escaped(each or "") for each in known)], 1.0)
        yield from (up, success, moved, failures, defects, pending, info)

    def _of_costs(self) -> Iterator[Metric]:
        context, now = self._source.context, time.time()
        price = GaugeMetricFamily(
            "harvestd_host_cost_dollars_per_hour", "The price of the host, where it is known.", labels=["host"]
        )
        idle = GaugeMetricFamily(
            "harvestd_host_idle_seconds",
            "For how long nothing has changed and nothing has run on the host; missing while something does.",
            labels=["host"],
        )
        spent = GaugeMetricFamily(
            "harvestd_host_idle_cost_dollars",
            "What the host has cost since then, where its price is known.",
            labels=["host"],
        )
        for host in {each.name: each for each in context.fleet.present.values()}.values():
            name, judged = [escaped(host.name)], context.states.of(host.identity).verdict
            if host.cents_per_hour is not None:
                price.add_metric(name, host.cents_per_hour / 100)
            if judged is not None and judged.idle_since is not None:
                rested = max(0.0, now - judged.idle_since)
                idle.add_metric(name, rested)
                if host.cents_per_hour is not None:
                    spent.add_metric(name, host.cents_per_hour / 100 * rested / _HOUR)
        yield from (price, idle, spent)

    def _of_verdicts(self) -> Iterator[Metric]:
        context = self._source.context
        safe = GaugeMetricFamily(
            "harvestd_safe_to_terminate",
            "1 while the host may be switched off, by its newest verdict; 0 when that is not about now any more.",
            labels=["host"],
        )
        made = GaugeMetricFamily(
            "harvestd_verdict_timestamp_seconds",
            "When the newest verdict on the host was made, in Unix time.",
            labels=["host"],
        )
        all_safe: dict[str, bool] = {}
        oldest: dict[str, float] = {}
        for host in context.fleet.present.values():
            timed = context.states.of(host.identity).verdict
            if timed is not None:
                # Where two hosts have one name for a moment, the name is safe only if both are.
                fresh = is_fresh(abs(time.time() - timed.at), watched=True)
                all_safe[host.name] = all_safe.get(host.name, True) and fresh and timed.verdict.is_safe
                oldest[host.name] = min(oldest.get(host.name, timed.at), timed.at)
        for name, is_safe in all_safe.items():
            safe.add_metric([escaped(name)], float(is_safe))
            made.add_metric([escaped(name)], oldest[name])
        yield from (safe, made)

    def _of_services(self) -> Metric:
        failures = CounterMetricFamily(
            "harvestd_service_failures",
            "How often a part of the daemon beside the hosts failed by an unexpected exception.",
            labels=["service"],
        )
        for service, count in self._source.tally.services.items():
            failures.add_metric([escaped(service)], count)
        return failures

    def _of_runs(self) -> Metric:
        context, now = self._source.context, time.time()
        runs = context.catalogue.knowledge.runs() if context.catalogue_opened.is_set() else []
        counts = Counter(status_of_run(run, self._source, now).status for run in runs)
        family = GaugeMetricFamily("harvestd_runs", "Training runs that were ever seen, by state.", labels=["state"])
        for status in RunStatus:
            family.add_metric([status.value], float(counts[status]))
        return family

    def _of_live_runs(self) -> Iterator[Metric]:
        """Yield the metrics of runs that are not over, on hosts that there are: past ones have no series."""
        context = self._source.context
        labels = ["host", "run"]
        step = GaugeMetricFamily("harvestd_run_step", "The newest step in the log of the run.", labels=labels)
        total = GaugeMetricFamily("harvestd_run_steps", "The steps that the run is to make.", labels=labels)
        left = GaugeMetricFamily("harvestd_run_left_seconds", "For how long it will go on at its pace.", labels=labels)
        present = {host.name for host in context.fleet.present.values()}
        runs = context.catalogue.knowledge.runs() if context.catalogue_opened.is_set() else []
        live = {(run.host, run.name): run for run in runs if not run.is_over and run.host in present}
        for (host, name), run in live.items():
            names = [escaped(host), escaped(name)]
            for family, value in ((step, run.step), (total, run.config.total_steps), (left, run.seconds_left)):
                if value is not None:
                    family.add_metric(names, value)
        yield from (step, total, left)

    def _of_notifications(self) -> Iterator[Metric]:
        labels = ["receiver"]
        waiting = GaugeMetricFamily(
            "harvestd_notifications_waiting", "Alarms that the receiver has not got yet.", labels=labels
        )
        delivered = CounterMetricFamily(
            "harvestd_notifications_delivered", "Alarms that the receiver got since the start.", labels=labels
        )
        dropped = CounterMetricFamily(
            "harvestd_notifications_dropped", "Alarms that were given up since the start.", labels=labels
        )
        failures = CounterMetricFamily(
            "harvestd_notification_failures", "How often the receiver did not take a message.", labels=labels
        )
        for receiver, counts in self._source.tally.notifications.items():
            waiting.add_metric([receiver], counts.waiting)
            delivered.add_metric([receiver], counts.delivered)
            dropped.add_metric([receiver], counts.dropped)
            failures.add_metric([receiver], counts.failures)
        yield from (waiting, delivered, dropped, failures)

    def _polls(self) -> Metric:
        tally = self._source.tally
        bounds = [*(repr(bound) for bound in POLL_BOUNDS), "+Inf"]
        return HistogramMetricFamily(
            "harvestd_poll_duration_seconds",
            "How long looks took, each with all that it asked for at once.",
            buckets=list(zip(bounds, map(float, accumulate(tally.polls)), strict=True)),
            sum_value=tally.polling,
        )
