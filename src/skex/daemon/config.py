"""What operators can set: every option of ``hub.toml`` and ``kme.toml``, once, and the typed result.

Addresses and coordinates of hubs are in the realm file, who may do what is in the policy; here is only
what belongs to one machine. Unknown keys are mistakes, so that a misspelt option never silently means
its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName
from skex.daemon import options
from skex.daemon.options import Endpoint, Entries, Layout, Option, Reader
from skex.keys.settings import KeySettings
from skex.pad.forecast import Thresholds

HUB_FILE: Final = "hub.toml"
KME_FILE: Final = "kme.toml"
SYSTEM_DIRECTORY: Final = Path("/etc/skex")
"""Where a configuration is looked for that is not in the home."""
SYSTEM_HOME: Final = Path("/var/lib/skex")
"""The home where neither --home nor SKEX_HOME says otherwise."""
HUB_PORT: Final = 7300
ETSI014_PORT: Final = 7443

_KEYS: Final = KeySettings()
_SEGMENT_BYTES: Final = (65_536, 1_073_741_824)
_CONNECTIONS: Final = (1, 65_536)
_RESERVE_KEYS: Final = (0, 1_000_000)
_LOW_PADS: Final = Thresholds()
_LOW_DAYS_MAX: Final = 3650
_BATCH_OVERHEAD: Final = 80
"""u and v of a batch: what its secret holds besides keys."""


# ── what daemons get ────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The audit log: its directory, and the size in bytes beyond which a segment is closed."""

    directory: Path
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """The operators' socket, None where there is none, and the group that may connect to it."""

    socket: Path | None
    group: str


@dataclass(frozen=True, slots=True)
class Etsi014Config:
    """The ETSI GS QKD 014 door. ``identity`` says which field of a certificate names the SAE;
    ``revoked`` is None where no revocation lists are used.
    """

    enabled: bool
    listen: Endpoint
    certificate: Path
    key: Path
    client_ca: Path
    revoked: Path | None
    identity: str


@dataclass(frozen=True, slots=True)
class ReserveConfig:
    """Keys of one length kept ready for one peer; filled up to ``high`` when fewer than ``low``."""

    peer: KmeName
    key_bytes: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One hub's settings; every path is absolute or starts at the home."""

    home: Path
    name: HubName
    listen: Endpoint
    connections_max: int
    realm: Path
    policy: Path
    log_level: str
    audit: AuditConfig
    low_pads: Thresholds
    admin: AdminConfig
    allow_root: bool


@dataclass(frozen=True, slots=True)
class KmeConfig:
    """One KME's settings. ``hub_addresses`` override those of the realm file."""

    home: Path
    name: KmeName
    threshold_floor: int
    hub_addresses: Mapping[HubName, Endpoint]
    etsi014: Etsi014Config
    keys: KeySettings
    reserves: tuple[ReserveConfig, ...]
    policy: Path
    log_level: str
    audit: AuditConfig
    low_pads: Thresholds
    admin: AdminConfig
    allow_root: bool


# ── every option ────────────────────────────────────────────────────────────────────────────────
_COMMON: Final = (
    Option("policy.path", options.PATH, Path("policy.toml"), "", "who may do what; default deny"),
    Option(
        "log.level",
        options.choice("debug", "info", "warning", "error"),
        "info",
        "",
        "the least important records that are written to stderr",
    ),
    Option(
        "pads.low_percent",
        options.integer(0, 100),
        _LOW_PADS.percent,
        "percent",
        "an alarm is raised when less is left of a table pad; 0 for never",
    ),
    Option(
        "pads.low_days",
        options.integer(0, _LOW_DAYS_MAX),
        _LOW_PADS.days,
        "days",
        "an alarm is raised when a table pad will last less at its present pace; 0 for never",
    ),
    Option("audit.directory", options.PATH, Path("audit"), "", "where the audit log's segments lie"),
    Option(
        "audit.segment_bytes",
        options.integer(*_SEGMENT_BYTES),
        limits.AUDIT_SEGMENT_BYTES,
        "bytes",
        "a segment beyond this is closed and the next one begun; nothing is ever deleted",
    ),
    Option(
        "admin.socket",
        options.OPTIONAL_PATH,
        options.NO_PATH,
        "",
        "a second admin socket, for operators other than the daemon's own user; policy says what they may",
    ),
    Option(
        "admin.group",
        options.optional_text(limits.NAME_CHARACTERS),
        "",
        "",
        "the Unix group that may connect to admin.socket; the daemon's own where none is stated",
    ),
    Option(
        "run.allow_root",
        options.FLAG,
        False,  # noqa: FBT003  # a default value, not an argument that hides its meaning
        "",
        "run as root, which nothing here needs; refused otherwise",
    ),
)

HUB: Final = Layout(
    "hub",
    (
        Option(
            "name",
            options.name(ids.parse_hub_name, "a hub's name"),
            None,
            "",
            "this hub's name in the realm file",
        ),
        Option(
            "listen.address",
            options.LISTEN,
            Endpoint("0.0.0.0", HUB_PORT),  # noqa: S104  # a hub is there to be dialled
            "",
            "where KMEs connect; a port that the system chose is in ports.json",
        ),
        Option(
            "listen.connections_max",
            options.integer(*_CONNECTIONS),
            1024,
            "connections",
            "more than so many at once are closed unanswered",
        ),
        Option("realm.path", options.PATH, Path("realm.cbor"), "", "the realm file that this hub serves"),
        *_COMMON,
    ),
)

KME: Final = Layout(
    "kme",
    (
        Option(
            "name",
            options.name(ids.parse_kme_name, "a KME's name"),
            None,
            "",
            "this KME's name, the same at every hub; SAEs are called sae@name",
        ),
        Option(
            "realm.threshold_floor",
            options.integer(1, limits.REALM_HUBS),
            2,
            "hubs",
            "no key is made with a lower threshold, whatever a realm file says; 1 is for links without hubs",
        ),
        Option(
            "realm.hub_addresses",
            options.HUB_ADDRESSES,
            {},
            "",
            "where to dial hubs instead of where the realm file says (NAT, tests)",
        ),
        Option(
            "etsi014.enabled",
            options.FLAG,
            False,  # noqa: FBT003  # a default value, not an argument that hides its meaning
            "",
            "open the ETSI GS QKD 014 door; it needs the certificates below",
        ),
        Option(
            "etsi014.listen",
            options.LISTEN,
            Endpoint("127.0.0.1", ETSI014_PORT),
            "",
            "where SAEs connect; a port that the system chose is in ports.json",
        ),
        Option(
            "etsi014.certificate", options.PATH, Path("tls/server.pem"), "", "the door's own certificates"
        ),
        Option("etsi014.key", options.PATH, Path("tls/server.key"), "", "its private key, mode 0600"),
        Option(
            "etsi014.client_ca",
            options.PATH,
            Path("tls/ca.pem"),
            "",
            "the CA of the SAEs' certificates",
        ),
        Option(
            "etsi014.revoked",
            options.OPTIONAL_PATH,
            options.NO_PATH,
            "",
            "the revocation lists of that CA (PEM); read at start and by skex kme reload",
        ),
        Option(
            "etsi014.identity",
            options.choice("uri", "common-name", "dns", "email"),
            "uri",
            "",
            "the field of a client's certificate that names the SAE",
        ),
        Option(
            "keys.key_bytes",
            options.integer(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
            _KEYS.key_bytes,
            "bytes",
            "the length of a key that nobody asked a length for",
        ),
        Option(
            "keys.key_bytes_min",
            options.integer(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
            _KEYS.key_bytes_min,
            "bytes",
            "shorter keys are refused",
        ),
        Option(
            "keys.key_bytes_max",
            options.integer(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
            _KEYS.key_bytes_max,
            "bytes",
            "longer keys are refused",
        ),
        Option(
            "keys.per_request_max",
            options.integer(1, limits.BATCH_KEYS),
            _KEYS.per_request_max,
            "keys",
            "more keys in one request are refused",
        ),
        Option(
            "keys.slaves_max",
            options.integer(1, limits.SLAVES),
            _KEYS.slaves_max,
            "SAEs",
            "more slave SAEs in one request are refused",
        ),
        Option(
            "keys.lifetime",
            options.integer(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX),
            _KEYS.lifetime,
            "seconds",
            "a key that was not delivered by then is erased at both ends",
        ),
        Option(
            "keys.batch_keys",
            options.integer(1, limits.BATCH_KEYS),
            _KEYS.batch_keys,
            "keys",
            "keys established at once: more cost less pad each, fewer are there sooner",
        ),
        Option(
            "keys.reserve_low",
            options.integer(*_RESERVE_KEYS),
            _KEYS.reserve_low,
            "keys",
            "the reserve of a peer is filled when it holds fewer",
        ),
        Option(
            "keys.reserve_high",
            options.integer(*_RESERVE_KEYS),
            _KEYS.reserve_high,
            "keys",
            "how far the reserve of a peer is filled",
        ),
        *_COMMON,
    ),
    (
        Entries(
            "reserve",
            "A peer whose reserve is filled from the start on; other peers' once keys were asked for.",
            (
                Option("peer", options.name(ids.parse_kme_name, "a KME's name"), None, "", "the other KME"),
                Option(
                    "key_bytes",
                    options.integer(0, limits.KEY_BYTES_MAX),
                    0,
                    "bytes",
                    "the length of these keys; 0 for keys.key_bytes",
                ),
                Option(
                    "low",
                    options.integer(*_RESERVE_KEYS),
                    _KEYS.reserve_low,
                    "keys",
                    "filled when it holds fewer",
                ),
                Option(
                    "high",
                    options.integer(*_RESERVE_KEYS),
                    _KEYS.reserve_high,
                    "keys",
                    "how far it is filled",
                ),
            ),
        ),
    ),
)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
def configuration_file(home: Path, name: str, given: Path | None = None) -> Path:
    """The file that counts: the one given, the home's, or the one in ``SYSTEM_DIRECTORY``.

    Raises ``Refused`` (config-missing).
    """
    candidates = [given] if given is not None else [home / name, SYSTEM_DIRECTORY / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise Refused(codes.CONFIG_MISSING, ", ".join(str(one) for one in candidates))


def load_hub(home: Path, given: Path | None = None) -> HubConfig:
    """A hub's configuration. Raises ``Refused``: config-missing, config-syntax, config-invalid."""
    file = configuration_file(home, HUB_FILE, given)
    return parse_hub(_read(file), str(file), home)


def load_kme(home: Path, given: Path | None = None) -> KmeConfig:
    """A KME's configuration. Raises ``Refused``: config-missing, config-syntax, config-invalid."""
    file = configuration_file(home, KME_FILE, given)
    return parse_kme(_read(file), str(file), home)


def parse_hub(data: bytes, file: str, home: Path) -> HubConfig:
    """Read ``hub.toml``; ``file`` is its name for messages. Raises ``Refused`` like ``load_hub``."""
    reader = Reader(data, file, HUB)
    stated = reader.read().options
    admin = _admin(reader, stated, home)
    reader.finish()
    return HubConfig(
        home=home,
        name=stated["name"],
        listen=stated["listen.address"],
        connections_max=stated["listen.connections_max"],
        realm=home / stated["realm.path"],
        policy=home / stated["policy.path"],
        log_level=stated["log.level"],
        audit=_audit(stated, home),
        admin=admin,
        low_pads=_low_pads(stated),
        allow_root=stated["run.allow_root"],
    )


def parse_kme(data: bytes, file: str, home: Path) -> KmeConfig:
    """Read ``kme.toml``; ``file`` is its name for messages. Raises ``Refused`` like ``load_kme``."""
    reader = Reader(data, file, KME)
    values = reader.read()
    stated = values.options
    keys = KeySettings(
        **{
            option.key.removeprefix("keys."): stated[option.key]
            for option in KME.options
            if option.key.startswith("keys.")
        }
    )
    _check_keys(reader, keys)
    reserves = _reserves(reader, values.entries["reserve"], keys)
    admin = _admin(reader, stated, home)
    reader.finish()
    return KmeConfig(
        home=home,
        name=stated["name"],
        threshold_floor=stated["realm.threshold_floor"],
        hub_addresses=stated["realm.hub_addresses"],
        etsi014=Etsi014Config(
            enabled=stated["etsi014.enabled"],
            listen=stated["etsi014.listen"],
            certificate=home / stated["etsi014.certificate"],
            key=home / stated["etsi014.key"],
            client_ca=home / stated["etsi014.client_ca"],
            revoked=_optional(home, stated["etsi014.revoked"]),
            identity=stated["etsi014.identity"],
        ),
        keys=keys,
        reserves=reserves,
        policy=home / stated["policy.path"],
        log_level=stated["log.level"],
        audit=_audit(stated, home),
        admin=admin,
        low_pads=_low_pads(stated),
        allow_root=stated["run.allow_root"],
    )


def _optional(home: Path, stated: Path) -> Path | None:
    return None if stated == options.NO_PATH else home / stated


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(limits.CONFIG_FILE_BYTES + 1)
    except OSError as error:
        raise Refused(codes.CONFIG_MISSING, f"{file}: {error.strerror}") from error


def _audit(stated: Mapping[str, Any], home: Path) -> AuditConfig:
    return AuditConfig(home / stated["audit.directory"], stated["audit.segment_bytes"])


def _low_pads(stated: Mapping[str, Any]) -> Thresholds:
    return Thresholds(stated["pads.low_percent"], stated["pads.low_days"])


def _admin(reader: Reader, stated: Mapping[str, Any], home: Path) -> AdminConfig:
    found = AdminConfig(_optional(home, stated["admin.socket"]), stated["admin.group"])
    if found.group and found.socket is None:
        reader.wrong("is for admin.socket, which is not stated", "admin", "group")
    return found


def _check_keys(reader: Reader, keys: KeySettings) -> None:
    """What single options cannot say: how they fit each other."""
    if not keys.key_bytes_min <= keys.key_bytes <= keys.key_bytes_max:
        reader.wrong(
            f"must lie between key_bytes_min ({keys.key_bytes_min}) and key_bytes_max"
            f" ({keys.key_bytes_max}), not {keys.key_bytes}",
            *("keys", "key_bytes"),
        )
    if keys.reserve_low > keys.reserve_high:
        reader.wrong(f"is above keys.reserve_high ({keys.reserve_high})", "keys", "reserve_low")
    room = limits.BATCH_SECRET_BYTES - _BATCH_OVERHEAD
    if keys.batch_keys * keys.key_bytes > room:
        reader.wrong(
            f"is too many for keys of {keys.key_bytes} bytes: at most {room // keys.key_bytes}",
            *("keys", "batch_keys"),
        )


def _reserves(
    reader: Reader, stated: Sequence[Mapping[str, Any]], keys: KeySettings
) -> tuple[ReserveConfig, ...]:
    found: dict[tuple[KmeName, int], ReserveConfig] = {}
    for index, one in enumerate(stated):
        reserve = ReserveConfig(one["peer"], one["key_bytes"] or keys.key_bytes, one["low"], one["high"])
        if not keys.key_bytes_min <= reserve.key_bytes <= keys.key_bytes_max:
            reader.wrong(
                f"must lie between keys.key_bytes_min ({keys.key_bytes_min}) and keys.key_bytes_max"
                f" ({keys.key_bytes_max}), not {reserve.key_bytes}",
                *("reserve", index, "key_bytes"),
            )
        if reserve.low > reserve.high:
            reader.wrong(f"is above high ({reserve.high})", "reserve", index, "low")
        if (reserve.peer, reserve.key_bytes) in found:
            reader.wrong("is a second reserve for the same peer and length", "reserve", index)
        found[reserve.peer, reserve.key_bytes] = reserve
    return tuple(found.values())
