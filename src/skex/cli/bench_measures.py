"""What measurements need besides the realm: baselines, the machine, traffic, order statistics."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import skex
from skex.runtime import clock

_BASELINE_SECONDS: Final = 0.5
_PAGE: Final = 4096
_BLOCK: Final = 1024 * 1024
_TCP_BYTES: Final = struct.Struct("=QQ")
_TCP_BYTES_AT: Final = 120
"""tcpi_bytes_acked and tcpi_bytes_received in Linux's struct tcp_info, since 4.2."""
_DESCRIPTORS: Final = Path("/proc/self/fd")
_CPUS: Final = Path("/proc/cpuinfo")


def baselines(directory: Path) -> Mapping[str, float]:
    """What the machine does by itself, now: one core, and the disk below ``directory``."""
    block, target = bytes(_BLOCK), bytearray(_BLOCK)

    def copy() -> None:
        target[:] = block

    path = directory / "baseline"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def sync() -> None:
        os.write(descriptor, block[:_PAGE])
        os.fdatasync(descriptor)

    try:
        syncs = _per_second(sync)
    finally:
        os.close(descriptor)
        path.unlink()
    return {
        "fdatasync_per_second": round(syncs, 1),
        "sha512_mib_per_second": round(_per_second(lambda: hashlib.sha512(block)), 1),
        "copy_mib_per_second": round(_per_second(copy), 1),
    }


def _per_second(work: Callable[[], object]) -> float:
    count, start = 0, clock.now()
    while (spent := clock.now() - start) < _BASELINE_SECONDS:
        work()
        count += 1
    return count / spent


def machine(directory: Path) -> Mapping[str, Any]:
    """What a measurement was made on; nothing that names a host."""
    models = [line for line in _lines(_CPUS) if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "skex": skex.__version__,
        "load_before": round(os.getloadavg()[0], 2),
        "disk_free_mib": os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize // _BLOCK,
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def tcp_bytes(ports: Collection[int]) -> int:
    """Bytes that this process's connections to these ports carried both ways, as TCP counts payload."""
    total = 0
    for entry in tuple(_DESCRIPTORS.iterdir()):
        with contextlib.suppress(OSError, ValueError):
            total += _tcp_bytes(int(entry.name), ports)
    return total


def _tcp_bytes(descriptor: int, ports: Collection[int]) -> int:
    """0 for a descriptor that is no such connection. Raises ``OSError`` for one that is no socket."""
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.family != socket.AF_INET or one.type != socket.SOCK_STREAM:
            return 0
        if one.getpeername()[1] not in ports:
            return 0
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return sum(_TCP_BYTES.unpack_from(info, _TCP_BYTES_AT))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed (nearest rank)."""
    rank = max(1, -(-len(ordered) * int(share * 1000) // 1000))
    return ordered[rank - 1]
