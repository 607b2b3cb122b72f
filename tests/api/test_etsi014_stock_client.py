"""A 014 client that others wrote, unmodified: etsi-qkd-014-client from the package index."""

from __future__ import annotations

import pytest
from etsi_qkd_014_client import QKD014Client  # type: ignore[import-untyped]  # it has no types
from etsi_qkd_014_client.data import (  # type: ignore[import-untyped]  # it has no types
    DataError,
    DataKeyContainer,
    DataStatus,
)

from tests.api.conftest import MASTER, SECOND, SLAVE, STRANGER, Sites
from tests.support.door import RunningDoor


def client(door: RunningDoor, sae: str) -> QKD014Client:
    certificate, key = door.pki.files(sae)
    return QKD014Client(f"localhost:{door.port}", str(certificate), str(key), str(door.pki.ca))


def test_stock_client_reads_the_status(sites: Sites) -> None:
    code, status = client(sites.a, MASTER).get_status(SLAVE)
    assert code == 200
    assert isinstance(status, DataStatus)
    assert (status.source_kme_id, status.target_kme_id, status.key_size) == ("site-a", "site-b", 256)


@pytest.mark.parametrize(
    ("arguments", "number"),
    [({}, 1), ({"number": 3, "size": 512}, 3), ({"additional_slave_sae_ids": [SECOND]}, 1)],
)
def test_stock_client_takes_the_same_keys_at_both_ends(
    sites: Sites, arguments: dict[str, object], number: int
) -> None:
    code, made = client(sites.a, MASTER).get_key(SLAVE, **arguments)
    assert code == 200
    assert isinstance(made, DataKeyContainer)
    assert len(made.keys) == number
    code, taken = client(sites.b, SLAVE).get_key_with_key_IDs(MASTER, [one.key_id for one in made.keys])
    assert code == 200
    assert [(one.key_id, one.key) for one in taken.keys] == [(one.key_id, one.key) for one in made.keys]


@pytest.mark.parametrize(
    ("sae", "slave", "code", "message"),
    [
        (MASTER, STRANGER, 401, "the SAE is not authorised"),
        ("ghost@nowhere", SLAVE, 401, "the SAE is not authorised"),
        (MASTER, "%20", 400, "an SAE ID is blank, too long or has characters that no name has"),
    ],
)
def test_stock_client_reads_every_error(sites: Sites, sae: str, slave: str, code: int, message: str) -> None:
    status, error = client(sites.a, sae).get_key(slave)
    assert isinstance(error, DataError)
    assert (status, error.message) == (code, message)


def test_stock_client_is_told_literally_that_a_key_is_gone(sites: Sites) -> None:
    _, made = client(sites.a, MASTER).get_key(SLAVE)
    slave = client(sites.b, SLAVE)
    slave.get_key_with_key_IDs(MASTER, [made.keys[0].key_id])
    status, error = slave.get_key_with_key_IDs(MASTER, [made.keys[0].key_id])
    assert (status, error.message) == (400, "one or more keys specified are not found on KME")
