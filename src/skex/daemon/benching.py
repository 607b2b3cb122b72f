"""How a KME's hubs conduct themselves: for its status, for monitoring, and what operators do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from skex.audit.fields import Digest
from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.base.ids import HubName
from skex.daemon.admin import Command, caller
from skex.daemon.evidence import operator
from skex.daemon.recording import Recording
from skex.protocol.bench import Bench, BenchHub, BringBack
from skex.protocol.changes import BenchKept, Change, EvidenceKept, Tally
from skex.protocol.evidence import Evidence
from skex.runtime.commit import Committer
from skex.store.benches import KeptEvidence
from skex.wire.realm import Realm

_OUTCOMES: Final = ("in_time", "late", "missing", "wrong", "suspected")


class HubConduct(Collector):
    """What hubs brought and which are on the bench, asked whenever somebody looks."""

    def __init__(
        self,
        bench: Bench,
        hubs: Callable[[], list[HubName]],
        realm: Callable[[], Realm | None],
        now: Callable[[], float],
    ) -> None:
        """``hubs`` are those to tell about, in their order; ``realm`` is the file in force, if one is."""
        self._bench = bench
        self._hubs = hubs
        self._realm = realm
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The metrics of ``/metrics``."""
        shares = CounterMetricFamily(
            "skex_kme_hub_shares",
            "What became of a hub's shares of peers' batches",
            labels=("hub", "outcome"),
        )
        benched = GaugeMetricFamily(
            "skex_kme_hub_benched", "For how many peers policy has a hub on the bench", labels=("hub",)
        )
        out = GaugeMetricFamily(
            "skex_kme_hub_out", "Whether an operator took a hub out of use", labels=("hub",)
        )
        entries = [one for one in self._bench.entries(self._now()) if one.benched and one.peer is not None]
        for hub in self._hubs():
            for outcome, count in _counts(self._bench.tally(hub)).items():
                shares.add_metric([hub, outcome.replace("_", "-")], count)
            benched.add_metric([hub], sum(one.hub == hub for one in entries))
            out.add_metric([hub], self._bench.is_out(hub))
        yield from (shares, benched, out)

    def status(self, hub: HubName) -> Mapping[str, Any]:
        """What ``skex kme status`` says of one hub, besides its link."""
        tally = self._bench.tally(hub)
        return {
            "blamed": tally.wrong + tally.suspected,
            "shares": _counts(tally),
            "out": self._bench.is_out(hub),
            "bench": [_entry(one) for one in self._bench.entries(self._now()) if one.hub == hub],
        }

    def left(self) -> Mapping[str, Any]:
        """How many hubs of the realm are not out of use, and how many a key needs."""
        realm = self._realm()
        if realm is None:
            return {"hubs_used": 0, "threshold": None}
        used = [hub.name for hub in realm.active_hubs if not self._bench.is_out(hub.name)]
        return {"hubs_used": len(used), "threshold": realm.threshold}

    def report(self, hub: HubName | None, evidence: tuple[KeptEvidence, ...]) -> Mapping[str, Any]:
        """What ``skex kme blame`` says of one hub, or of all."""
        hubs = self._hubs() if hub is None else [hub]
        return {
            "hubs": [
                {
                    "hub": one,
                    **self.status(one),
                    "peers": [{"peer": of.peer, **_counts(of.tally)} for of in self._bench.tallies(one)],
                }
                for one in hubs
            ],
            "evidence": [_evidence(one) for one in evidence],
        }


def _counts(tally: Tally) -> dict[str, int]:
    return {outcome: getattr(tally, outcome) for outcome in _OUTCOMES}


def _entry(kept: BenchKept) -> Mapping[str, Any]:
    return {
        "peer": kept.peer,
        "benched": kept.benched,
        "seconds_left": None if kept.seconds is None else round(kept.seconds),
        "cause": kept.cause.value,
        "rule": kept.rule,
        "by": kept.by,
        "reason": kept.reason,
    }


def _evidence(kept: KeptEvidence) -> Mapping[str, Any]:
    what = kept.what
    return {
        "hub": what.hub,
        "peer": what.peer,
        "batch": str(what.batch),
        "at": kept.at,
        "blame": what.blame.name.lower().replace("_", "-"),
        "certain": what.certain,
        "evidence": evidence_digest(what).hex,
        "digests": _digests(what.evidence),
    }


def _digests(evidence: Evidence) -> Mapping[str, str]:
    names = ("share", "expected", "context", "accepted_context", "tag", "accepted_tag")
    found = {name: getattr(evidence, name) for name in names}
    return {name: digest.hex() for name, digest in found.items() if digest is not None}


def evidence_digest(what: EvidenceKept) -> Digest:
    """What names a piece of evidence, in the audit log and where it is shown."""
    return Digest(what.to_bytes())


# ── what operators ask ──────────────────────────────────────────────────────────────────────────
class BenchEngine(Protocol):
    """What carries a command out."""

    def handle(self, event: BenchHub | BringBack) -> None:
        """Hand it to the machines. Raises ``Refused``."""


class EvidenceStore(Protocol):
    """Where evidence is kept; called on the store's thread."""

    def evidence(self, hub: HubName | None = None) -> tuple[KeptEvidence, ...]:
        """That against one hub, or against all; the newest first."""


class BenchCommands:
    """``blame``, ``bench`` and ``bring-back`` of the admin socket."""

    def __init__(
        self,
        conduct: HubConduct,
        engine: BenchEngine,
        store: EvidenceStore,
        committer: Committer[Change],
        recording: Recording,
    ) -> None:
        self._conduct = conduct
        self._engine = engine
        self._store = store
        self._committer = committer
        self._recording = recording

    def commands(self) -> Mapping[str, Command]:
        """By their names."""
        return {"blame": self._blame, "bench": self._bench, "bring-back": self._bring_back}

    async def _blame(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """What shows that hubs, or one of them, did wrong."""
        hub = _hub(arguments) if "hub" in arguments else None
        return self._conduct.report(hub, await self._committer.call(lambda: self._store.evidence(hub)))

    async def _bench(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take a hub out of use, for all peers."""
        seconds, reason = arguments.get("seconds"), arguments.get("reason", "")
        if seconds is not None and not (type(seconds) is int and 1 <= seconds <= limits.BENCH_SECONDS_MAX):
            raise Refused(codes.BENCH_INVALID, f"seconds are 1 to {limits.BENCH_SECONDS_MAX}")
        most = limits.BENCH_REASON_CHARACTERS
        if not (isinstance(reason, str) and reason.isprintable() and len(reason) <= most):
            raise Refused(codes.BENCH_INVALID, f"reasons are one line of at most {most} printable characters")
        return await self._put(BenchHub(_hub(arguments), seconds, operator(caller()).name, reason))

    async def _bring_back(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Use a hub again, on probation."""
        return await self._put(BringBack(_hub(arguments), operator(caller()).name))

    async def _put(self, command: BenchHub | BringBack) -> Mapping[str, Any]:
        """Change a hub's use; the answer comes once that and its record are durable."""
        async with self._recording.on_medium():
            self._engine.handle(command)
            await self._committer.durable(())
        return {"hub": command.hub, **self._conduct.status(command.hub), **self._conduct.left()}


def _hub(arguments: Mapping[str, Any]) -> HubName:
    stated = arguments.get("hub")
    if not isinstance(stated, str):
        raise Refused(codes.NAME_INVALID, "a hub's name is expected")
    return ids.parse_hub_name(stated)
