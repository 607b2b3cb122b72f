"""Which home a command works on, and the configuration in it."""

from __future__ import annotations

from pathlib import Path

from skex.base import codes
from skex.base.errors import Refused
from skex.cli.common import settings
from skex.daemon import config
from skex.daemon.config import HubConfig, KmeConfig


def home() -> Path:
    """The home that --home or SKEX_HOME named."""
    return settings().home


def hub_config() -> HubConfig:
    """The configuration of the hub whose home it is. Raises ``Refused``: home-foreign, config-*."""
    _require(config.HUB_FILE, config.KME_FILE, "a KME's")
    return config.load_hub(home())


def kme_config() -> KmeConfig:
    """The configuration of the KME whose home it is. Raises ``Refused``: home-foreign, config-*."""
    _require(config.KME_FILE, config.HUB_FILE, "a hub's")
    return config.load_kme(home())


def running_hub() -> Path:
    """Where the hub can be asked: at --socket, or in its home. Raises as ``hub_config`` does."""
    return settings().socket or hub_config().home


def running_kme() -> Path:
    """Where the KME can be asked: at --socket, or in its home. Raises as ``kme_config`` does."""
    return settings().socket or kme_config().home


def running() -> Path:
    """Where the daemon can be asked, whichever it is. Raises ``Refused``: config-*."""
    return settings().socket or any_config()[0].home


def any_config() -> tuple[HubConfig | KmeConfig, Path]:
    """The configuration of whatever home it is, and its file. Raises ``Refused``: config-*."""
    for directory in (home(), config.SYSTEM_DIRECTORY):
        if _is_there(directory / config.HUB_FILE):
            return config.load_hub(home()), directory / config.HUB_FILE
        if _is_there(directory / config.KME_FILE):
            return config.load_kme(home()), directory / config.KME_FILE
    raise Refused(codes.CONFIG_MISSING, f"neither {config.HUB_FILE} nor {config.KME_FILE} in {home()}")


def _require(wanted: str, other: str, whose: str) -> None:
    if not _is_there(home() / wanted) and _is_there(home() / other):
        raise Refused(codes.HOME_FOREIGN, f"{home()} is {whose} home")


def _is_there(file: Path) -> bool:
    """Raises ``Refused`` (config-missing) where nobody but the owner may look."""
    try:
        return file.is_file()
    except OSError as error:
        detail = f"{file}: {error.strerror}; --socket asks a daemon whose home is not yours"
        raise Refused(codes.CONFIG_MISSING, detail) from error
