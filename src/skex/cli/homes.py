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


def any_config() -> tuple[HubConfig | KmeConfig, Path]:
    """The configuration of whatever home it is, and its file. Raises ``Refused``: config-*."""
    for directory in (home(), config.SYSTEM_DIRECTORY):
        if (directory / config.HUB_FILE).is_file():
            return config.load_hub(home()), directory / config.HUB_FILE
        if (directory / config.KME_FILE).is_file():
            return config.load_kme(home()), directory / config.KME_FILE
    raise Refused(codes.CONFIG_MISSING, f"neither {config.HUB_FILE} nor {config.KME_FILE} in {home()}")


def _require(wanted: str, other: str, whose: str) -> None:
    if not (home() / wanted).exists() and (home() / other).exists():
        raise Refused(codes.HOME_FOREIGN, f"{home()} is {whose} home")
