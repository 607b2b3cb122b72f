"""Sockets deep in a tree of directories."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from skex.runtime.localpaths import socket_path


@pytest.mark.parametrize("depth", [0, 1, 20])
def test_socket_at_any_depth_can_be_bound_and_connected_to(tmp_path: Path, depth: int) -> None:
    path = tmp_path.joinpath(*["directory-with-a-name"] * depth, "admin.sock")
    path.parent.mkdir(parents=True, exist_ok=True)
    open_before = set(Path("/proc/self/fd").iterdir())
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with socket_path(path) as name:
            server.bind(name)
        server.listen()
        with socket_path(path) as name:
            client.connect(name)
        client.sendall(b"heard")
        with server.accept()[0] as heard:
            assert heard.recv(5) == b"heard"
    assert path.is_socket()
    assert set(Path("/proc/self/fd").iterdir()) == open_before


def test_missing_directory_is_an_error_of_the_system(tmp_path: Path) -> None:
    missing = tmp_path.joinpath(*["directory-with-a-name"] * 9, "admin.sock")
    with pytest.raises(FileNotFoundError), socket_path(missing):
        pass
