"""``skex ca``: a small certificate authority for the hop between an application and its KME."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.secret import Secret
from skex.cli.common import Noun, result, talk
from skex.cli.files import PUBLIC, read_bounded, write_new
from skex.enrol import ca as authority
from skex.enrol.ca import Issued, Revocation, Subject
from skex.runtime import clock, entropy
from skex.runtime.files import replace_file

CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca.key"
REVOKED: Final = "crl.pem"
_PEM_BYTES: Final = 65_536
_LIST_BYTES: Final = 16 * 1024 * 1024
"""A list of more than 200,000 certificates; its authority needs other tools by then."""
_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Noun)
def ca() -> None:
    """Certificates for doors whose standard demands them (ETSI GS QKD 014).

    For sites without a PKI of their own. They protect the way between an application and its own KME,
    never the way of a key between KMEs.
    """


@ca.command("init")
@click.option(
    "--directory", "-d", type=_DIRECTORY, required=True, help="Where ca.pem and ca.key are written."
)
@click.option("--name", default="skex local CA", show_default=True, help="The authority's name.")
@click.option("--days", type=click.IntRange(1, authority.DAYS_MAX), default=3650, show_default=True)
def init(*, directory: Path, name: str, days: int) -> None:
    r"""Make an authority.

    \b
    Example:
      skex ca init -d ca

    Keep ca.key away from KMEs and applications: whoever has it can be any SAE.
    """
    made = authority.create_ca(name, days, now=clock.wall(), entropy=entropy.random_bytes)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = _write(directory, CERTIFICATE, KEY, made)
    talk(f"Give {files['certificate']} to the KMEs (etsi014.client_ca) and to the applications.")
    result({"name": name, **files}, f"Made the authority {name} in {directory}.")


@ca.command("issue")
@click.argument("subject", type=click.Choice([one.value for one in Subject]))
@click.argument("name")
@click.option("--ca", "ca_directory", type=_DIRECTORY, required=True, help="Where ca.pem and ca.key are.")
@click.option(
    "--output", "-o", type=_DIRECTORY, required=True, help="Where NAME.pem and NAME.key are written."
)
@click.option(
    "--host", "hosts", multiple=True, help="A DNS name or address of a KME's door; may be repeated."
)
@click.option("--days", type=click.IntRange(1, authority.DAYS_MAX), default=365, show_default=True)
def issue(
    *, subject: str, name: str, ca_directory: Path, output: Path, hosts: tuple[str, ...], days: int
) -> None:
    r"""Issue a certificate: "kme" for a KME's door, "sae" for an application.

    \b
    Examples:
      skex ca issue kme site-a --host kme.site-a.example.net --ca ca -o tls
      skex ca issue sae vpn@site-a --ca ca -o tls
    """
    made = authority.issue(
        _authority(ca_directory),
        Subject(subject),
        name,
        hosts,
        days,
        now=clock.wall(),
        entropy=entropy.random_bytes,
    )
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = _write(output, f"{name}.pem", f"{name}.key", made)
    result({"subject": subject, "name": name, **files}, f"Issued {files['certificate']} for {name}.")


@ca.command("revoke")
@click.argument("certificates", type=_READABLE, nargs=-1, metavar="[CERTIFICATE]...")
@click.option("--ca", "ca_directory", type=_DIRECTORY, required=True, help="Where ca.pem and ca.key are.")
@click.option("--days", type=click.IntRange(1, authority.DAYS_MAX), default=30, show_default=True)
def revoke(*, certificates: tuple[Path, ...], ca_directory: Path, days: int) -> None:
    r"""Revoke certificates: write crl.pem beside ca.pem, with all that were ever revoked.

    \b
    Examples:
      skex ca revoke tls/vpn@site-a.pem --ca ca
      skex ca revoke --ca ca

    Without a certificate the list is written anew, to be valid for so many more days. Give it to the
    KMEs in time (etsi014.revoked, then skex kme reload): behind an expired list they let nobody in.
    """
    issuer, now, file = _authority(ca_directory), clock.wall(), ca_directory / REVOKED
    known: tuple[Revocation, ...] = ()
    number = 0
    if file.exists():
        known, number = authority.revoked_so_far(issuer, read_bounded(file, _LIST_BYTES))
    serials = {one.serial for one in known}
    named = {authority.serial_of(issuer, read_bounded(one, _PEM_BYTES)) for one in certificates}
    revoked = [*known, *(Revocation(serial, now) for serial in sorted(named - serials))]
    data = authority.revocation_list(issuer, revoked, number + 1, days, now=now)
    try:
        replace_file(file, data, PUBLIC)
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{file}: {error.strerror}") from error
    talk(f"Give {file} to the KMEs (etsi014.revoked) and reload them; write it anew within {days} days.")
    shown = {"list": str(file), "number": number + 1, "revoked": [f"{one.serial:x}" for one in revoked]}
    result(shown, f"Wrote {file}, number {number + 1}: {len(revoked)} revoked.")


def _authority(directory: Path) -> Issued:
    return authority.load_ca(
        read_bounded(directory / CERTIFICATE, _PEM_BYTES), Secret(read_bounded(directory / KEY, _PEM_BYTES))
    )


def _write(directory: Path, certificate: str, key: str, made: Issued) -> dict[str, str]:
    """The key first: a certificate without one is of no use to anybody, and easy to see."""
    authority.write_private(directory / key, made.key)
    write_new(directory / certificate, made.certificate)
    return {
        "certificate": str(directory / certificate),
        "key": str(directory / key),
        "serial": f"{made.serial:x}",
    }
