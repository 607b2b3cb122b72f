"""``skex backup`` and ``skex restore``: what a machine needs to be itself again, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from skex.audit.fields import Digest
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.cli import passphrases
from skex.cli.admin import ask
from skex.cli.common import Noun, Verb, result, table, talk
from skex.cli.files import PRIVATE, moment, new_file
from skex.cli.homes import any_config, home
from skex.daemon.backup import making, restoring
from skex.daemon.backup.container import BackupReader, DaemonKind
from skex.daemon.backup.contents import FileRole, State
from skex.daemon.backup.handing import received
from skex.daemon.backup.restoring import Contents
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.enrolment import open_hub, open_kme
from skex.enrol.passphrase import DEFAULT_COST
from skex.runtime.files import sync_directory
from skex.store.links import LinkRecord

COST: Final = DEFAULT_COST
"""What guessing the passphrase of a backup costs."""
_READABLE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Noun)
def backup() -> None:
    """Backups: configuration, policy, audit log and enrolment state of a home, in one sealed file.

    Never in them: pads, chain states, marks, keys of any kind, the master key. A restored home is
    the same hub or KME as before, but each of its links needs a new kit.
    """


@backup.command("create")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write; must not exist.",
)
@passphrases.passphrase_options
def create(*, output: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    r"""Make a backup of the home; its daemon may run meanwhile.

    \b
    Example:
      skex backup create -o /backup/site-a.skexback --passphrase-file /etc/skex/backup-words

    The passphrase seals the backup and vouches for it: without it nobody reads or changes it, and
    nobody restores it. Keep it elsewhere than the backup.
    """
    config, file = any_config()
    passphrase = passphrases.ask(passphrase_file, passphrase_fd, confirm=True, of=passphrases.BACKUP)
    backup_id = making.new_backup_id()
    with _arriving(output) as part, new_file(part, PRIVATE) as sink:
        state = _state(config, backup_id)
        made = making.make(
            sink,
            config,
            configuration=file,
            backup_id=backup_id,
            state=state,
            passphrase=passphrase,
            cost=COST,
        )
        sink.sync()
    passphrase.wipe()
    talk(f"Wrote {output}. Keep its passphrase elsewhere.")
    _show(Contents(made.header, made.manifest), {"file": str(output)})


@backup.command("show")
@click.argument("file", type=_READABLE)
@passphrases.passphrase_options
def show(*, file: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    """Check FILE from end to end, and show what it holds. Changes nothing."""
    with _opened(file, passphrase_file, passphrase_fd) as (reader, contents):
        restoring.examine(reader, contents)
    _show(contents, {"file": str(file)})


@click.command("restore", cls=Verb)
@click.argument("file", type=_READABLE)
@passphrases.passphrase_options
def restore(*, file: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    r"""Make a home of the backup FILE (--home is the new home; it must not exist, or be empty).

    \b
    Example:
      skex restore /backup/site-a.skexback --home /var/lib/skex

    The machine that was backed up must never run again. Every link comes back suspended, because its
    material is in no backup; what is said at the end brings the links back.
    """
    with _opened(file, passphrase_file, passphrase_fd) as (reader, contents):
        config = restoring.restore(home(), reader, contents)
    steps = _steps(contents, config)
    talk(f"Made {home()}. The machine that was backed up must never run again.")
    lines = ["", "Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]
    awaiting = [_other(contents.header.daemon, link) for link in contents.awaiting]
    _show(contents, {"home": str(home()), "awaiting_kits": awaiting, "next": steps}, "\n".join(lines))


# ── making ──────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def _arriving(path: Path) -> Iterator[Path]:
    """Another name to write to; the file has its own once it is whole and durable.

    Raises ``Refused`` (file-exists), ``StoreFault`` (file-io).
    """
    part = path.with_name(f".{path.name}.part")
    _refuse_existing(path)
    try:
        part.unlink(missing_ok=True)  # a crash left it
        yield part
        _refuse_existing(path)
        part.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refused(codes.FILE_EXISTS, str(path))


def _state(config: HubConfig | KmeConfig, backup_id: bytes) -> State:
    """The state of enrolment, from the store or from the daemon that has it open; recorded before."""
    try:
        if isinstance(config, HubConfig):
            with open_hub(config) as hub:
                hub.record_backup(backup_id)
                return hub.state()
        with open_kme(config) as kme:
            kme.record_backup(backup_id)
            return kme.state()
    except StoreFault as error:
        if error.code is not codes.HOME_IN_USE:
            raise
    return received(ask(config.home, "backup", {"id": backup_id.hex()}))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def _opened(
    file: Path, passphrase_file: Path | None, passphrase_fd: int | None
) -> Iterator[tuple[BackupReader, Contents]]:
    """A backup, unlocked, its manifest read."""
    try:
        source = file.open("rb")
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{file}: {error.strerror}") from error
    with source:
        reader = BackupReader(source)
        passphrase = passphrases.ask(passphrase_file, passphrase_fd, confirm=False, of=passphrases.BACKUP)
        contents = restoring.unlock(reader, passphrase)
        passphrase.wipe()
        yield reader, contents


# ── what people are told ────────────────────────────────────────────────────────────────────────
def _show(contents: Contents, extra: dict[str, Any], behind: str = "") -> None:
    header, manifest = contents.header, contents.manifest
    audit = manifest.of_role(FileRole.AUDIT)
    record = Digest(header.backup_id).hex
    data = {
        "backup": record,
        "daemon": header.daemon.word,
        "name": header.name,
        "realm": header.realm,
        "created": header.created,
        "version": manifest.version,
        "bytes": header.content_bytes,
        "links": [_link_data(link) for link in contents.awaiting],
        "removed_links": len(manifest.state.links) - len(contents.awaiting),
        "files": [{"role": one.role.word, "path": one.path, "bytes": one.size} for one in manifest.files],
        "outside": list(contents.outside),
        **extra,
    }
    others = [_other(header.daemon, link) for link in contents.awaiting]
    rows = [
        ("backup of", f"the {header.daemon.word} {header.name}, realm {header.realm or '(none yet)'}"),
        ("made", f"{moment(header.created)}, by skex {manifest.version}"),
        ("audited as", record[:16] + "…"),
        ("links with", ", ".join(others) or "nobody"),
        ("files", ", ".join(one.path for one in manifest.files if one.role is not FileRole.AUDIT)),
        ("audit log", f"{len(audit)} segments, {sum(one.size for one in audit):,} bytes"),
        ("never in it", "pads, chain states, marks, keys, the master key"),
    ]
    result(data, table(rows) + behind)


def _link_data(link: LinkRecord) -> dict[str, Any]:
    return {
        "link": link.link_id.hex(),
        "hub": link.hub,
        "kme": link.kme,
        "pad": link.kind.name.lower(),
        "suspended": link.suspended,
        "frozen": list(link.frozen),
    }


def _other(daemon: DaemonKind, link: LinkRecord) -> str:
    return link.kme if daemon is DaemonKind.HUB else link.hub


def _steps(contents: Contents, config: HubConfig | KmeConfig) -> list[str]:
    """What brings a restored home back to work, in its order."""
    daemon, where = contents.header.daemon, home()
    rested = [
        f"{_other(daemon, link)} ({', '.join(link.frozen) or 'by its operator'})"
        for link in contents.awaiting
        if link.suspended or link.frozen
    ]
    steps = []
    if rested:
        steps.append(f"These links rested already; find out why first: {', '.join(rested)}.")
    steps += [
        f"Put back {path}, which lay outside the home; a copy is in {where}/outside."
        for path in contents.outside
    ]
    steps += _hub_steps(contents) if isinstance(config, HubConfig) else _kme_steps(contents, config)
    steps.append(f"skex doctor --home {where}, then skex {daemon.word} run --home {where}")
    return steps


def _hub_steps(contents: Contents) -> list[str]:
    name, where = contents.header.name, home()
    return [
        f"If the realm has a later epoch than this backup: skex hub update-realm REALM_FILE --home {where}",
        *(
            f"For {link.kme}: skex kit create {link.kme} -o {name}.kit --home {where};"
            f" at {link.kme}: skex kit import {name}.kit --replace"
            for link in contents.awaiting
        ),
    ]


def _kme_steps(contents: Contents, config: KmeConfig) -> list[str]:
    name, where, door = contents.header.name, home(), config.etsi014
    steps = [
        f"At {link.hub}: skex kit create {name} -o {link.hub}.kit --replace;"
        f" here: skex kit import {link.hub}.kit --home {where}"
        for link in contents.awaiting
    ]
    if door.enabled:
        steps.append(
            f"Issue a certificate for the door (skex ca issue kme {name}): its private key is in no"
            f" backup. They belong in {door.certificate} and {door.key}."
        )
    return steps
