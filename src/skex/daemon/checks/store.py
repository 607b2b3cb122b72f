"""Checks of what enrolment made: the master key, the store, the pads, the links, the realm.

A stopped daemon's store is opened under the home's lock, never migrated, and let go at once; SQLite
may bring its own log home, as at every start. A running daemon is asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from skex.base import codes, limits
from skex.base.errors import SkexError, StoreFault
from skex.base.ids import Direction, HubName
from skex.daemon.checks.findings import Finding, Kept, Subject, fail, fault, ok, warn
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.enrolment import StoredRealms, StoreRegistry
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    PADS_DIRECTORY,
    STORE_FILE,
    locked,
)
from skex.enrol.collecting import CollectedKits
from skex.enrol.links import pad_name
from skex.pad.kinds import PadKind
from skex.pad.looking import Seen, look
from skex.runtime import entropy
from skex.runtime.files import DiskFileSystem
from skex.store.database import Database, StoreKind
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.links import StoredLink
from skex.store.opened import OpenedStore, open_unmigrated
from skex.store.sealing import Sealer
from skex.wire.independence import collusion
from skex.wire.realm import Realm

_PAD_NAME: Final = re.compile(r"([0-9a-f]{16})-(to-hub|to-kme)\.pad")
_FACTS: Final = ("hub", "kme", "realm", "created")
_MOVED: Final = "Put the right file back if it was only moved; otherwise re-enrol the link."
_LOW: Final = 0.1
"""A realm file's age is worth a word when only this share is left."""


# ── the store, or the daemon that holds it ──────────────────────────────────────────────────────
def daemon(subject: Subject) -> Iterator[Finding]:
    """Whether a daemon runs; read the store of one that does not. Leaves ``kept`` or ``status``."""
    settings = subject.config
    if settings is None:
        return
    try:
        with _lock_if_there(subject):
            yield ok("daemon", "No daemon runs in this home; its store is read.")
            yield from _store(subject, settings)
    except SkexError as error:
        if error.code is not codes.HOME_IN_USE:
            yield fault("daemon", error)
            return
        yield from _running(subject)


@contextmanager
def _lock_if_there(subject: Subject) -> Iterator[None]:
    """Hold the lock, but never make it: made as another user, it would keep the daemon out."""
    if not (subject.home / "lock").exists():
        yield
        return
    with locked(subject.home):
        yield


def _running(subject: Subject) -> Iterator[Finding]:
    try:
        subject.status = subject.ask()
    except SkexError as error:
        mend = "Wait a moment if it just starts; otherwise look at its log, and restart it."
        sentence = f"A process holds this home, but its admin socket does not answer ({error.code.name})."
        yield fail("daemon", sentence, mend)
        return
    yield ok("daemon", "A daemon runs in this home and answers; its store is left alone.")
    if subject.status.get("ready") is False:
        mend = "It waits for word from its hubs whether it was rolled back: see skex kme status."
        yield warn("daemon", "It may not deliver keys yet.", mend)


def _store(subject: Subject, settings: HubConfig | KmeConfig) -> Iterator[Finding]:
    try:
        master = read_master_key(subject.home)
    except SkexError as error:
        yield fault("master-key", error)
        return
    kind = StoreKind.HUB if isinstance(settings, HubConfig) else StoreKind.KME
    try:
        database, sealer = open_unmigrated(str(subject.home / STORE_FILE), kind, master, entropy.random_bytes)
    except SkexError as error:
        yield fault("master-key" if error.code is codes.STORE_WRONG_KEY else "store", error)
        return
    finally:
        master.wipe()
    yield ok("master-key", "The master key opens the store.")
    try:
        if not database.is_current:
            mend = "Nothing to do; a backup of the home before that start is wise."
            yield warn("store", "The store is from an older version; the next start upgrades it.", mend)
            return
        subject.kept = _read(subject, settings, database, sealer)
        yield ok("store", f"The store is whole and holds {len(subject.kept.links)} links.")
        yield from _names(subject.kept, settings)
    except SkexError as error:
        yield fault("store", error)
    finally:
        database.close()
        sealer.wipe()


def _read(subject: Subject, settings: HubConfig | KmeConfig, database: Database, sealer: Sealer) -> Kept:
    """Everything that later checks compare."""
    age: float | None = None
    collected: CollectedKits | None = None
    store: OpenedStore
    if isinstance(settings, HubConfig):
        store = hub = HubStore(database, sealer)
        data = hub.realm()
    else:
        store = kme = KmeStore(database, sealer, lambda: int(subject.now.wall.timestamp()))
        held = kme.load(0.0).realm
        data, age = (None, None) if held is None else (held.data, held.age)
        collected = StoredRealms(kme, settings.threshold_floor, StoreRegistry(store)).collected()
    names = {name: value for name in _FACTS if (value := store.meta(name)) is not None}
    names["collected"] = _collected(collected)
    with suppress(ValueError):
        subject.witnesses["the store was made"] = float(names.get("created", ""))
    links = store.links()
    for one in links:
        subject.witnesses[f"the link with {one.link.hub} ({one.link.kme}) was enrolled"] = one.created
        one.link.key.wipe()
    marks = {one.link.link_id: store.marks(one.link.link_id) for one in links}
    awaiting = tuple(one.kme if isinstance(settings, HubConfig) else one.hub for one in store.awaiting_kits())
    return Kept(links, marks, None if data is None else Realm.from_bytes(data), age, names, awaiting)


def _collected(kits: CollectedKits | None) -> str:
    return "no kit was imported" if kits is None else f"kits of {', '.join(sorted(kits.kits))} were imported"


def _names(kept: Kept, settings: HubConfig | KmeConfig) -> Iterator[Finding]:
    kind = "hub" if isinstance(settings, HubConfig) else "kme"
    made = kept.names.get(kind)
    if made != settings.name:
        mend = f'Set name = "{made}" in {kind}.toml; another name needs another home.'
        yield fail("name", f"{kind}.toml says {settings.name}, the store was made for {made}.", mend)
    for link in (one.link for one in kept.links):
        if settings.name not in (link.hub, link.kme):
            mend = "The store holds what another daemon was enrolled for: restore this home's own store."
            yield fail("name", f"A link between {link.kme} and {link.hub} is enrolled here.", mend)


# ── pads ────────────────────────────────────────────────────────────────────────────────────────
def pads(subject: Subject) -> Iterator[Finding]:
    """Each link's two pads: present, whole, its own, and in agreement with the store's marks."""
    files = DiskFileSystem(subject.home / PADS_DIRECTORY)
    if subject.kept is None:
        yield from _whole_pads(subject, files)
        return
    wrong = False
    expected = set()
    for stored in subject.kept.links:
        marks = subject.kept.marks[stored.link.link_id]
        for direction, mark in ((Direction.TO_HUB, marks.to_hub), (Direction.TO_KME, marks.to_kme)):
            name = pad_name(stored.link.link_id, direction)
            expected.add(name)
            found = list(_pad(files, stored, direction, name, mark))
            found = found or list(_low(subject, stored, direction, mark))
            wrong = wrong or bool(found)
            yield from found
    strays = [path.name for path in _pad_files(subject) if path.name not in expected]
    if strays:
        mend = "The next skex kit command in this home erases them."
        yield warn("pads", f"{len(strays)} pad files belong to no link.", mend)
    if not wrong:
        yield ok("pads", f"{len(expected)} pads are whole and agree with the store.")


def _pad(
    files: DiskFileSystem, stored: StoredLink, direction: Direction, name: str, mark: int
) -> Iterator[Finding]:
    """What is wrong with one pad; nothing if nothing is."""
    link = stored.link
    what = f"{name} ({link.kme} with {link.hub})"
    if not files.exists(name):
        mend = "Restore nothing: pads are in no backup. Re-enrol the link with a new kit."
        yield fail("pads", f"{what} is missing.", mend)
        return
    try:
        seen = look(files, name)
    except StoreFault as error:
        yield fault("pads", StoreFault(error.code, f"{what}: {error.detail}"))
        return
    identity = seen.identity
    capacity = link.capacity_to_hub if direction is Direction.TO_HUB else link.capacity_to_kme
    stated = (identity.kind, identity.link_id, identity.direction)
    if stated != (link.kind, link.link_id, direction) or (
        link.kind is PadKind.TABLE and identity.capacity != capacity
    ):
        yield fail("pads", f"{what} is another link's, direction's, kind's or size's pad.", _MOVED)
        return
    yield from _marks(what, seen, mark)


def _marks(what: str, seen: Seen, mark: int) -> Iterator[Finding]:
    """Compare the file's mark with the store's."""
    derived = seen.identity.kind is PadKind.DERIVED
    if seen.mark > mark or mark > seen.identity.capacity:
        mend = "The store was restored or copied, or the pad was: re-enrol the link, and find out which."
        yield fail("pads", f"{what} contradicts the store's mark.", mend)
    elif derived and mark - seen.mark > limits.DERIVED_JUMP_STEPS + 1:
        yield fault("pads", StoreFault(codes.PAD_JUMP, what))


def _low(subject: Subject, stored: StoredLink, direction: Direction, mark: int) -> Iterator[Finding]:
    """Whether little is left of a table pad."""
    link, settings = stored.link, subject.config
    capacity = link.capacity_to_hub if direction is Direction.TO_HUB else link.capacity_to_kme
    percent = 100 * (capacity - mark) // capacity
    if settings is not None and link.kind is PadKind.TABLE and percent < settings.low_pads.percent:
        what = f"{pad_name(link.link_id, direction)} ({link.kme} with {link.hub})"
        mend = "Re-enrol the link with a new kit before it is used up."
        yield warn("pads", f"{what} has {percent} % of its pad left.", mend)


def _pad_files(subject: Subject) -> list[Path]:
    try:
        found = sorted((subject.home / PADS_DIRECTORY).iterdir())
    except OSError:
        return []
    return [path for path in found if _PAD_NAME.fullmatch(path.name)]


def _whole_pads(subject: Subject, files: DiskFileSystem) -> Iterator[Finding]:
    """Without the store: whether each file is a whole pad and its own."""
    found = _pad_files(subject)
    wrong = False
    for path in found:
        try:
            identity = _look_twice(files, path.name).identity
        except StoreFault as error:
            wrong = True
            yield fault("pads", StoreFault(error.code, f"{path.name}: {error.detail}"))
            continue
        if pad_name(identity.link_id, identity.direction) != path.name:
            wrong = True
            yield fail("pads", f"{path.name} is another link's or direction's pad.", _MOVED)
    if not wrong:
        yield ok("pads", f"{len(found)} pad files are whole.")


def _look_twice(files: DiskFileSystem, name: str) -> Seen:
    """A daemon may change the file's state between two reads."""
    try:
        return look(files, name)
    except StoreFault:
        return look(files, name)


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def links(subject: Subject) -> Iterator[Finding]:
    """Which links rest, and whether enough are left."""
    settings = subject.config
    if subject.kept is not None:
        kept = subject.kept.links
        rests = [(_other(settings, one), one.suspended, one.frozen) for one in kept]
        awaiting = subject.kept.awaiting
    elif subject.status is not None:
        listed = subject.status.get("hubs") or subject.status.get("kmes") or []
        rests = [
            (str(one.get("hub") or one.get("kme")), bool(one["suspended"]), tuple(one["frozen"]))
            for one in listed
        ]
        awaiting = tuple(subject.status.get("awaiting_kits", ()))
    else:
        return
    if awaiting:
        sentence = f"The home was restored: the links with {', '.join(awaiting)} await new kits."
        yield warn("links", sentence, "Make a new kit for each at its hub, and import it at its KME.")
    for other, suspended, frozen in rests:
        if frozen:
            why = f"The link with {other} is frozen ({', '.join(frozen)})."
            yield fail("links", why, "Find out why, then re-enrol the link with a new kit.")
        elif suspended:
            yield warn("links", f"The link with {other} is suspended.", "Resume it, or re-enrol it.")
    usable = [other for other, suspended, frozen in rests if not suspended and not frozen]
    if isinstance(settings, KmeConfig):
        yield from _enough(subject, usable)
    elif not rests:
        yield warn("links", "No KME is enrolled here.", "Make a kit for one: skex kit create.")
    else:
        yield ok("links", f"{len(usable)} of {len(rests)} links may be used.")


def _other(settings: HubConfig | KmeConfig | None, stored: StoredLink) -> str:
    return stored.link.hub if isinstance(settings, KmeConfig) else stored.link.kme


def _enough(subject: Subject, usable: list[str]) -> Iterator[Finding]:
    """Whether a threshold of hubs can be reached at all."""
    realm = subject.realm
    if realm is not None:
        threshold = realm.threshold
        usable = [hub for hub in usable if realm.hub_named(HubName(hub)) is not None]
    elif subject.status is not None and subject.status.get("threshold"):
        threshold = int(subject.status["threshold"])
    else:
        return
    sentence = f"{len(usable)} hubs can be used, {threshold} are needed for a key."
    if len(usable) < threshold:
        yield fail("links", sentence, "Import kits of more hubs, or re-enrol links that rest.")
    elif len(usable) == threshold:
        yield warn("links", sentence, "Enrol with more hubs: as it is, no hub may fail.")
    else:
        yield ok("links", sentence)


# ── realm ───────────────────────────────────────────────────────────────────────────────────────
def realm(subject: Subject) -> Iterator[Finding]:
    """The realm file: there, in agreement with the configuration, young enough."""
    settings = subject.config
    if isinstance(settings, HubConfig):
        yield from _hub_realm(subject, settings)
    elif isinstance(settings, KmeConfig) and subject.kept is not None:
        yield from _kme_realm(subject.kept, settings)


def _hub_realm(subject: Subject, settings: HubConfig) -> Iterator[Finding]:
    serving = subject.realm
    try:
        stated = Realm.from_bytes(settings.realm.read_bytes())
    except OSError as error:
        if serving is None:
            sentence = f"{settings.realm} cannot be read: {error.strerror}."
            yield fail("realm", sentence, "Put the realm file there that all hubs agreed on.")
            return
        stated = serving
    except SkexError as error:
        yield fault("realm", error)
        return
    serving = stated if serving is None else serving
    subject.witnesses["the realm file was issued"] = serving.issued
    made_for = subject.kept.names.get("realm") if subject.kept is not None else None
    if made_for is not None and {made_for, serving.name} != {stated.name}:
        mend = f"Put the file of realm {made_for} there."
        yield fail("realm", f"{settings.realm} is of realm {stated.name}, this hub of {made_for}.", mend)
    elif serving.hub_named(settings.name) is None:
        names = ", ".join(hub.name for hub in serving.active_hubs)
        mend = f"Active hubs are {names}: correct the name in hub.toml, or get a realm file that has it."
        yield fail("realm", f"{settings.name} is no active hub of {serving.name}.", mend)
    else:
        yield ok("realm", f"Realm {serving.name}, epoch {serving.epoch}, threshold {serving.threshold}.")


def _kme_realm(kept: Kept, settings: KmeConfig) -> Iterator[Finding]:
    found = kept.realm
    if found is None:
        state = kept.names.get("collected", "no kit was imported")
        yield fail("realm", f"No realm is in force yet: {state}.", codes.NOT_ENROLLED.hint)
        return
    if found.threshold < settings.threshold_floor:
        sentence = f"The realm's threshold {found.threshold} is below realm.threshold_floor."
        yield fail("realm", sentence, "Lower the floor if you accept it; otherwise leave the realm.")
    unknown = [hub for hub in settings.hub_addresses if hub not in {one.name for one in found.hubs}]
    if unknown:
        sentence = f"realm.hub_addresses names {', '.join(unknown)}, unknown to {found.name}."
        yield warn("realm", sentence, "Correct the names in kme.toml.")
    parties = collusion([hub.attributes for hub in found.active_hubs], found.threshold)
    together = " and ".join(map(str, parties.parties))
    sentence = f"Independent parties that must collude for a key: {parties.count} ({together})."
    yield ok("effective-threshold", sentence)
    left = found.max_age - (kept.realm_age or 0.0)
    days = f"{max(0.0, left) / 86_400:.0f} days"
    if left <= 0:
        mend = "Import a newer kit, or connect with hubs that serve a newer epoch."
        yield fail("realm", f"The realm file of {found.name} is older than it may become.", mend)
    elif left < _LOW * found.max_age:
        mend = "Ask the hubs' operators for the next epoch of the realm file."
        yield warn("realm", f"The realm file of {found.name} may be used for {days} more.", mend)
    else:
        yield ok(
            "realm", f"Realm {found.name}, epoch {found.epoch}, threshold {found.threshold}, {days} left."
        )
