"""How reserves stand, for ``skex kme status`` and for monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from skex.keys.filling import Filling, ReserveMarks
from skex.keys.health import Health
from skex.keys.reserve import Reserve

_LABELS: Final = ("peer", "key_bytes")


class Reserves(Collector):
    """Every reserve that is kept filled, asked when somebody looks: more may come while the KME runs."""

    def __init__(self, reserve: Reserve, filling: Filling) -> None:
        self._reserve = reserve
        self._filling = filling

    def status(self) -> Sequence[Mapping[str, Any]]:
        """One entry a reserve. Counts are keys, times seconds."""
        return [self._status(marks) for marks in self._filling.reserves]

    def collect(self) -> Iterator[Metric]:
        """The gauges of ``/metrics``."""
        keys = _family("skex_kme_reserve_keys", "Free keys kept for a peer")
        taken = _family("skex_kme_reserve_taken_per_second", "Keys a second that leave a reserve, of late")
        starved = _family("skex_kme_reserve_starved", "Whether a reserve stays below its low mark")
        for one in self.status():
            labels = [one["peer"], str(one["key_bytes"])]
            keys.add_metric(labels, one["keys"])
            taken.add_metric(labels, one["taken_per_second"])
            starved.add_metric(labels, one["health"] in {Health.STARVED.value, Health.EMPTY.value})
        yield from (keys, taken, starved)

    def _status(self, marks: ReserveMarks) -> Mapping[str, Any]:
        watch = self._filling.watch(marks)
        left = watch.seconds_left
        return {
            "peer": marks.peer,
            "key_bytes": marks.key_bytes,
            "keys": self._reserve.depth(marks.peer, marks.key_bytes),
            "low": marks.low,
            "high": marks.high,
            "failures": self._filling.failures(marks.peer, marks.key_bytes),
            "health": watch.health.value,
            "taken_per_second": round(watch.taken_per_second, 3),
            "seconds_left": None if left is None else round(left),
        }


def _family(name: str, what: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, labels=_LABELS)
