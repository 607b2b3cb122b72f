"""The key that seals a home's store and pads: where it is kept, how it is had, how it is changed.

It lies in ``master.key`` (32 bytes, its owner's alone), or under a passphrase in ``master.sealed``, or
comes from the service manager as the credential ``skex-master-key``. A change of the master key is
decided by the store alone: until it is sealed under the new key the old one counts, from then on the
new one, whichever files a crash left. So a new key is durable beside the old one before the store
changes, and what is no longer the key is erased afterwards.

    master.sealed = deterministic CBOR of [1, salt (16), KiB, passes, lanes, nonce (12), sealed key (48)]
    sealed key = AES-256-GCM of the 32 bytes, under the first 32 of Argon2id's output; associated data:
                 "skex master 1" and the salt
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skex.base import codes, limits
from skex.base.errors import Refused, SkexError, StoreFault
from skex.base.secret import Secret
from skex.enrol.passphrase import DEFAULT_COST, SALT_BYTES, Cost, parse_passphrase, stretch
from skex.runtime import entropy
from skex.runtime.files import replace_file, sync_directory, write_private
from skex.store.database import StoreKind
from skex.store.opened import is_sealed_under
from skex.store.sealing import MASTER_KEY_BYTES, NONCE_BYTES, TAG_BYTES
from skex.wire.codec import Fields, decode, encode

MASTER_KEY_FILE: Final = "master.key"
SEALED_FILE: Final = "master.sealed"
CREDENTIAL: Final = "skex-master-key"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd puts credentials (systemd.exec, "Credentials")."""
_NEXT: Final = ".next"
_STORES: Final = {"kme.toml": StoreKind.KME, "hub.toml": StoreKind.HUB}
_OTHERS: Final = 0o077
_FORMAT: Final = 1
_LABEL: Final = b"skex master 1"
_SEALED_BYTES: Final = MASTER_KEY_BYTES + TAG_BYTES
_FILE_BYTES: Final = 4096
"""More than any of these files has: read before anything of them is believed."""

Ask: TypeAlias = Callable[[], Secret]
"""The passphrase of ``master.sealed``; asked only where there is one."""
_FOR_PASSPHRASE: Final = "skex-passphrase"  # noqa: S105  # the name of a credential
_PASSPHRASE_IN: Final = "SKEX_PASSPHRASE_FILE"  # noqa: S105  # the name of a variable


# ── the passphrase ──────────────────────────────────────────────────────────────────────────────
def passphrase_at_hand() -> Secret:
    """From the credential ``skex-passphrase``, the file that SKEX_PASSPHRASE_FILE names, or the terminal.

    Raises ``Refused``: master-passphrase-missing where there is none of them, kit-passphrase-weak.
    """
    for path in _passphrase_files():
        return _first_line(_bytes(path))
    if not sys.stdin.isatty():
        raise Refused(codes.MASTER_PASSPHRASE_MISSING)
    return parse_passphrase(getpass.getpass("Passphrase of the master key: "))


def _passphrase_files() -> Iterator[Path]:
    directory = os.environ.get(CREDENTIALS_VARIABLE)
    if directory is not None and (path := Path(directory) / _FOR_PASSPHRASE).exists():
        yield path
    if named := os.environ.get(_PASSPHRASE_IN):
        yield Path(named)


def _first_line(data: bytes) -> Secret:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Not "from": the decoder's error quotes the passphrase.
        raise Refused(codes.KIT_PASSPHRASE_WEAK, "not UTF-8 text") from None
    return parse_passphrase(text.split("\n", 1)[0].removesuffix("\r"))


# ── having it ───────────────────────────────────────────────────────────────────────────────────
def read_master_key(home: Path, ask: Ask = passphrase_at_hand) -> Secret:
    """The key that seals what is at rest; the caller wipes it.

    Raises ``StoreFault``: master-key-invalid (missing, readable by others, of another form),
    master-passphrase-wrong; ``Refused`` (master-passphrase-missing), and what ``ask`` raises.
    """
    return _found(home, ask)[1]


def settled_master_key(home: Path, ask: Ask = passphrase_at_hand) -> Secret:
    """The same, for whoever holds the home's lock: ends a change of the key that was cut short."""
    path, master = _found(home, ask)
    if len(_candidates(home)) > 1:
        _settle(home, path)
    return master


def _candidates(home: Path) -> list[Path]:
    """Every place where the key can be; what a change would leave comes first."""
    names = [name + suffix for suffix in (_NEXT, "") for name in (MASTER_KEY_FILE, SEALED_FILE)]
    places = [home / name for name in names]
    if directory := os.environ.get(CREDENTIALS_VARIABLE):
        places.append(Path(directory) / CREDENTIAL)
    return [path for path in places if path.exists()]


def _found(home: Path, ask: Ask) -> tuple[Path, Secret]:
    candidates = _candidates(home)
    if not candidates:
        detail = f"{home / MASTER_KEY_FILE} cannot be read, and there is no credential {CREDENTIAL}"
        raise StoreFault(codes.MASTER_KEY_INVALID, detail)
    if len(candidates) == 1:
        return candidates[0], _read(home, candidates[0], ask)
    return _of_the_store(home, candidates, ask)


def _of_the_store(home: Path, candidates: list[Path], ask: Ask) -> tuple[Path, Secret]:
    """Which of several keys the store is sealed under: a change was cut short, or one was left over."""
    kind = next((kind for name, kind in _STORES.items() if (home / name).exists()), StoreKind.KME)
    failure: SkexError = StoreFault(codes.MASTER_KEY_INVALID, f"no key in {home} opens the store")
    for path in candidates:
        try:
            master = _read(home, path, ask)
        except StoreFault as error:
            failure = error
            continue
        if is_sealed_under(str(home / "store.sqlite"), kind, master):
            return path, master
        master.wipe()
    raise failure


def _read(home: Path, path: Path, ask: Ask) -> Secret:
    # Whoever made the directory of credentials keeps others out of it; what is in it has their mode.
    if path.parent == home:
        _refuse_open(path)
    data = _bytes(path)
    if path.name.startswith(SEALED_FILE):
        return SealedMaster.from_bytes(data, str(path)).opened(ask)
    if len(data) != MASTER_KEY_BYTES:
        raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} has {len(data)} bytes")
    return Secret(data)


def _refuse_open(path: Path) -> None:
    try:
        if path.stat().st_mode & _OTHERS:
            raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} is readable by others")
    except OSError as error:
        raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} cannot be read") from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} cannot be read") from error


# ── under a passphrase ──────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class SealedMaster:
    """A master key under a passphrase, as ``master.sealed`` holds it."""

    salt: bytes
    cost: Cost
    nonce: bytes
    sealed: bytes

    @classmethod
    def make(cls, master: Secret, passphrase: Secret, cost: Cost = DEFAULT_COST) -> SealedMaster:
        """Seal a key. The passphrase is the caller's."""
        salt, nonce = entropy.random_bytes(SALT_BYTES), entropy.random_bytes(NONCE_BYTES)
        key = stretch(passphrase, salt, cost)
        sealed = _cipher(key).encrypt(nonce, master.expose(), _LABEL + salt)
        key.wipe()
        return cls(salt, cost, nonce, sealed)

    def to_bytes(self) -> bytes:
        """The file."""
        cost = self.cost
        stated = [cost.memory_kib, cost.passes, cost.lanes]
        return encode([_FORMAT, self.salt, *stated, self.nonce, self.sealed])

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> SealedMaster:
        """Read the file; ``what`` names it. Raises ``StoreFault`` (master-key-invalid)."""
        try:
            fields = Fields(decode(data, _FILE_BYTES))
            fields.uint(_FORMAT, _FORMAT)
            salt = fields.blob(SALT_BYTES)
            cost = Cost(
                memory_kib=fields.uint(limits.KIT_KDF_MEMORY_KIB_MIN, limits.KIT_KDF_MEMORY_KIB_MAX),
                passes=fields.uint(1, limits.KIT_KDF_PASSES_MAX),
                lanes=fields.uint(1, limits.KIT_KDF_LANES_MAX),
            )
            made = cls(salt, cost, fields.blob(NONCE_BYTES), fields.blob(_SEALED_BYTES))
            fields.finish()
        except SkexError as error:
            raise StoreFault(codes.MASTER_KEY_INVALID, f"{what} is not what it must be") from error
        return made

    def opened(self, ask: Ask) -> Secret:
        """The key. Raises ``StoreFault`` (master-passphrase-wrong), and what ``ask`` raises."""
        passphrase = ask()
        key = stretch(passphrase, self.salt, self.cost)
        passphrase.wipe()
        try:
            return Secret(_cipher(key).decrypt(self.nonce, self.sealed, _LABEL + self.salt))
        except InvalidTag:
            raise StoreFault(codes.MASTER_PASSPHRASE_WRONG) from None
        finally:
            key.wipe()


def _cipher(key: Secret) -> AESGCM:
    return AESGCM(key.expose()[:MASTER_KEY_BYTES])


# ── changing it ─────────────────────────────────────────────────────────────────────────────────
class NextKey:
    """A new master key on its way into a home that the caller has locked.

    ``prepare`` makes it durable beside the old one; then the caller seals the store under ``master``,
    then ``settle`` erases the old one. Where that is cut short, ``settled_master_key`` ends it.
    """

    def __init__(self, home: Path, path: Path, content: Callable[[Secret], bytes]) -> None:
        self.master = entropy.random_secret(MASTER_KEY_BYTES)
        self._home = home
        self._path = path
        self._content = content

    @classmethod
    def in_file(cls, home: Path) -> NextKey:
        """To be kept in ``master.key``."""
        return cls(home, home / (MASTER_KEY_FILE + _NEXT), Secret.expose)

    @classmethod
    def under_passphrase(cls, home: Path, passphrase: Secret, cost: Cost = DEFAULT_COST) -> NextKey:
        """To be kept in ``master.sealed``."""
        return cls(
            home,
            home / (SEALED_FILE + _NEXT),
            lambda master: SealedMaster.make(master, passphrase, cost).to_bytes(),
        )

    @classmethod
    def for_credential(cls, home: Path, out: Path) -> NextKey:
        """To be given to the service manager: written to ``out``, and kept nowhere in the home."""
        return cls(home, out, Secret.expose)

    def prepare(self) -> None:
        """Write the new key, durably. Raises ``StoreFault`` (file-io), ``Refused`` (file-exists)."""
        try:
            if self._path.parent == self._home:
                replace_file(self._path, self._content(self.master))
            else:
                write_private(self._path, self._content(self.master))
                sync_directory(self._path.parent)
        except FileExistsError as error:
            raise Refused(codes.FILE_EXISTS, str(self._path)) from error
        except OSError as error:
            raise StoreFault(codes.FILE_IO, f"{self._path}: {error.strerror}") from error

    def settle(self) -> None:
        """The store is sealed under the new key: put it in its place, and erase the old one."""
        _settle(self._home, self._path)


def _settle(home: Path, path: Path) -> None:
    """Let the key in ``path`` be the only one in the home. Raises ``StoreFault`` (home-io)."""
    try:
        if path.parent == home and path.name.endswith(_NEXT):
            final = path.with_name(path.name.removesuffix(_NEXT))
            _overwrite(final)
            path.replace(final)
            sync_directory(home)
            path = final
        for name in (MASTER_KEY_FILE, SEALED_FILE):
            for other in (home / name, home / (name + _NEXT)):
                if other != path and other.exists():
                    _overwrite(other)
                    other.unlink()
        sync_directory(home)
    except OSError as error:
        raise StoreFault(codes.HOME_IO, f"{home}: {error.strerror}") from error


def _overwrite(path: Path) -> None:
    """Leave nothing of a file's content, as far as the file system writes in place."""
    if path.exists():
        with path.open("r+b", buffering=0) as file:
            file.write(bytes(path.stat().st_size))
            os.fsync(file.fileno())
