"""Checks of what a daemon meets: its hubs, its door's certificates, its audit log, the time of day."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from skex.audit.chain import Record
from skex.base.errors import DeliveryFault, SkexError
from skex.base.ids import HubName
from skex.daemon.checks.findings import Finding, Subject, fail, fault, ok, warn
from skex.daemon.config import Etsi014Config, HubConfig, KmeConfig
from skex.daemon.options import Endpoint, parse_endpoint
from skex.delivery.etsi014.revocations import check_revocations
from skex.runtime.auditfile import lines_of, segments, verify

_CONNECT_SECONDS: Final = 3.0
_TOLERANCE: Final = timedelta(minutes=5)
"""Clocks differ; what a certificate authority backdates by, too."""
_EXPIRES_SOON: Final = timedelta(days=30)
_OTHERS: Final = 0o077
_SET_CLOCK: Final = "Set the clock (chronyc makestep, timedatectl), and keep it set with NTP."


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
def hubs(subject: Subject) -> Iterator[Finding]:
    """Whether a KME's hubs can be reached: asked of the daemon, otherwise by connecting."""
    if not isinstance(subject.config, KmeConfig):
        return
    if subject.status is not None:
        up = {str(one["hub"]): bool(one["connected"]) for one in subject.status["hubs"]}
        why = dict.fromkeys(up, "the daemon has no connection")
        threshold = int(subject.status.get("threshold") or 0)
    else:
        realm, kept = subject.realm, subject.kept
        if realm is None or kept is None:
            return
        enrolled = {one.link.hub for one in kept.links if not one.suspended and not one.frozen}
        addresses = {
            hub.name: parse_endpoint(hub.address) for hub in realm.active_hubs if hub.name in enrolled
        }
        addresses |= {name: at for name, at in subject.config.hub_addresses.items() if name in addresses}
        tried = _connect_all(addresses)
        up, why = {name: not said for name, said in tried.items()}, dict(tried)
        threshold = realm.threshold
    yield from _reached(up, why, threshold, runs=subject.status is not None)


def _reached(up: dict[str, bool], why: dict[str, str], threshold: int, *, runs: bool) -> Iterator[Finding]:
    """Too few hubs fail a daemon that runs; one that is stopped waits for them once it is started."""
    for name in (name for name, is_up in up.items() if not is_up):
        mend = "Ask its operator whether it runs; check routes, firewalls and realm.hub_addresses."
        yield warn("hubs", f"{name} cannot be reached: {why[name]}.", mend)
    sentence = f"{sum(up.values())} of {len(up)} hubs can be reached, {threshold} are needed for a key."
    if sum(up.values()) >= threshold:
        yield ok("hubs", sentence)
    else:
        say = fail if runs else warn
        yield say("hubs", sentence, "Reach more of them: see above, one by one.")


def conduct(subject: Subject) -> Iterator[Finding]:
    """Whether hubs did wrong, or are not used; only a daemon that runs knows."""
    if subject.status is None or not isinstance(subject.config, KmeConfig):
        return
    found = False
    for one in subject.status["hubs"]:
        name, wrong = one["hub"], int(one.get("blamed", 0))
        benched = [
            entry["peer"] for entry in one.get("bench", ()) if entry["benched"] and entry["peer"] is not None
        ]
        if one.get("out"):
            found = True
            mend = f"skex kme bring-back {name} uses it again, once its operator has dealt with it."
            yield warn("conduct", f"{name} is out of use, by command.", mend)
        elif wrong or benched:
            found = True
            last = f" It is used last with {', '.join(sorted(benched))}." if benched else ""
            mend = f"See skex kme blame {name}, and ask its operator: it lies, or its memory is failing."
            yield warn("conduct", f"{name} brought {wrong} shares that were wrong, or seem so.{last}", mend)
    if not found:
        yield ok("conduct", "No hub brought a wrong share, and all are used.")


def _connect_all(addresses: dict[HubName, Endpoint]) -> dict[str, str]:
    """Why each hub cannot be reached; empty for one that can."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(len(addresses)) as threads:
        tried = threads.map(_connect, addresses.values())
        return dict(zip(map(str, addresses), tried, strict=True))


def _connect(endpoint: Endpoint) -> str:
    """Connect and say nothing."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), _CONNECT_SECONDS).close()
    except OSError as error:
        return f"{endpoint}: {error.strerror or type(error).__name__.lower()}"
    return ""


# ── the door ────────────────────────────────────────────────────────────────────────────────────
def door(subject: Subject) -> Iterator[Finding]:
    """The certificates of the ETSI 014 door."""
    settings = subject.config
    if not isinstance(settings, KmeConfig) or not settings.etsi014.enabled:
        return
    files = settings.etsi014
    if files.key.exists() and files.key.stat().st_mode & _OTHERS:
        yield fail("door", f"{files.key} is open to other users.", f"chmod 600 {files.key}; issue another.")
    try:
        chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
        authorities = x509.load_pem_x509_certificates(files.client_ca.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except OSError as error:
        mend = "Issue it with skex ca issue kme, or name the right file under etsi014 in kme.toml."
        yield fail("door", f"{error.filename} cannot be read: {error.strerror}.", mend)
        return
    except (ValueError, TypeError):
        mend = "Issue them anew with skex ca issue kme; keys must be PEM without a passphrase."
        yield fail("door", "A certificate or the key of the door is no PEM file that can be read.", mend)
        return
    if chain[0].public_key() != key.public_key():
        mend = "Put the key and the certificate of one skex ca issue there."
        yield fail("door", "The door's key does not belong to its certificate.", mend)
    found = [
        *_valid(subject, chain[0], f"The door's certificate ({files.certificate.name})"),
        *(one for ca in authorities for one in _valid(subject, ca, f"{files.client_ca.name}")),
        *_named(chain[0], settings.name),
        *_issued(chain, authorities),
        *_revocations(files, subject.now.wall),
    ]
    yield from found
    if not found:
        until = chain[0].not_valid_after_utc.date().isoformat()
        yield ok("door", f"The door's certificate is valid until {until}.")


def _revocations(files: Etsi014Config, now: datetime) -> Iterator[Finding]:
    if files.revoked is None:
        return
    try:
        check_revocations(files.revoked, files.client_ca, now)
    except DeliveryFault as error:
        mend = 'Get the authority\'s current list, or set etsi014.revoked to "" to use none.'
        yield fail("door", f"The revocation list cannot be used: {error.detail}.", mend)


def _valid(subject: Subject, certificate: x509.Certificate, what: str) -> Iterator[Finding]:
    now, end = subject.now.wall, certificate.not_valid_after_utc
    subject.witnesses[f"{what} became valid"] = certificate.not_valid_before_utc.timestamp()
    if now > end:
        mend = "Issue another (skex ca issue); if it should still be valid, see what is said of the clock."
        yield fail("door", f"{what} expired on {end.date().isoformat()}.", mend)
    elif now + _EXPIRES_SOON > end:
        yield warn(
            "door", f"{what} expires on {end.date().isoformat()}.", "Issue another with skex ca issue."
        )


def _named(certificate: x509.Certificate, name: str) -> Iterator[Finding]:
    """Whether clients can tell whom they reached."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        mend = "Issue it with skex ca issue kme --host NAME."
        yield fail("door", "The door's certificate names no host: clients will refuse it.", mend)
        return
    names = extension.value
    hosts = names.get_values_for_type(x509.DNSName) or names.get_values_for_type(x509.IPAddress)
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri[:4] == "kme:"]
    if not hosts:
        mend = "Issue it with skex ca issue kme --host NAME."
        yield warn("door", "The door's certificate names no host: clients will refuse it.", mend)
    if uris and f"kme:{name}" not in uris:
        mend = f"Issue one for {name}: skex ca issue kme {name}."
        yield fail("door", f"The door's certificate is for {uris[0][4:]}, not for {name}.", mend)


def _issued(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> Iterator[Finding]:
    """Whether SAEs that trust the clients' CA will trust the door; two separate CAs are possible."""
    last = chain[-1]
    for authority in authorities:
        try:
            last.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    mend = "Fine if it is meant so and SAEs trust that CA; otherwise put both files of one CA there."
    yield warn("door", "The door's certificate is of another CA than the SAEs' certificates.", mend)


# ── the audit log ───────────────────────────────────────────────────────────────────────────────
def audit(subject: Subject) -> Iterator[Finding]:
    """Whether its chain is whole."""
    if subject.config is None:
        return
    directory = subject.config.audit.directory
    try:
        report = verify(directory)
        last = _last_record(directory)
    except SkexError as error:
        yield fault("audit", error)
        return
    if last is not None:
        subject.witnesses["the last audit record was written"] = _moment(last).timestamp()
        yield from _drift(subject, last)
    if report.problem is not None:
        mend = "Keep the log as it is; find out who changed it, and what the copies elsewhere say."
        yield fail("audit", f"The audit log does not verify: {report.problem}.", mend)
    else:
        yield ok("audit", f"The audit log verifies: {report.records} records.")


def _last_record(directory: Path) -> Record | None:
    for segment in reversed(segments(directory)):
        for line, _ in reversed(list(lines_of(segment))):
            record = Record.from_line(line)
            if record is not None:
                return record
    return None


def _moment(record: Record) -> datetime:
    return datetime.fromisoformat(record.time)


def _drift(subject: Subject, last: Record) -> Iterator[Finding]:
    """Within one run of the machine, both clocks must have gone on alike."""
    if last.boot != subject.now.boot:
        return
    by_wall = (subject.now.wall - _moment(last)).total_seconds()
    by_boot = subject.now.clock - last.clock / 1000
    if abs(by_wall - by_boot) > _TOLERANCE.total_seconds():
        sentence = f"The clock was set by {by_wall - by_boot:+.0f} s since the last audit record."
        mend = f"If it is wrong now: {_SET_CLOCK} If it was wrong before, nothing needs to be done."
        yield fail("clock", sentence, mend)


# ── the time of day ─────────────────────────────────────────────────────────────────────────────
def clock(subject: Subject) -> Iterator[Finding]:
    """Whether now is after everything that has certainly happened. Comes last: others bring witnesses."""
    now = subject.now.wall
    late = {
        what: moment for what, moment in subject.witnesses.items() if moment > (now + _TOLERANCE).timestamp()
    }
    shown = now.isoformat(timespec="seconds")
    if late:
        what, moment = max(late.items(), key=lambda one: one[1])
        behind = (moment - now.timestamp()) / 60
        yield fail("clock", f"It is {shown} here, but {what} {behind:.0f} minutes later.", _SET_CLOCK)
    else:
        yield ok("clock", f"It is {shown} here, after everything recorded in this home.")


def port(subject: Subject) -> Iterator[Finding]:
    """Whether a stopped daemon will find its port free."""
    settings = subject.config
    if settings is None or subject.status is not None or subject.kept is None:
        return
    if isinstance(settings, HubConfig):
        endpoint = settings.listen
    elif settings.etsi014.enabled:
        endpoint = settings.etsi014.listen
    else:
        return
    try:
        _try_binding(endpoint)
    except OSError as error:
        mend = "Find out who has it (ss -ltnp), or configure another address."
        yield fail("port", f"The daemon could not listen on {endpoint}: {error.strerror}.", mend)
    else:
        yield ok("port", f"The daemon can listen on {endpoint}.")


def _try_binding(endpoint: Endpoint) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(address)
