"""The ETSI 014 door over real TLS, knocked at by curl: every answer the standard names, byte for byte."""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skex.base import codes
from skex.base.errors import Refused, StoreFault
from tests.api.conftest import MASTER, SECOND, SLAVE, STRANGER, Sites
from tests.support.door import Pki, Reply, curl

ENC = f"/api/v1/keys/{SLAVE}/enc_keys"
DEC = f"/api/v1/keys/{MASTER}/dec_keys"
STATUS = f"/api/v1/keys/{SLAVE}/status"
NOT_FOUND = {"message": "one or more keys specified are not found on KME"}
UNAUTHORISED = {"message": "the SAE is not authorised"}


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply
    return [one["key_ID"] for one in reply.json["keys"]]


def wanted(key_ids: list[str]) -> dict[str, Any]:
    return {"key_IDs": [{"key_ID": one} for one in key_ids]}


# ── happy paths ─────────────────────────────────────────────────────────────────────────────────
def test_master_and_slave_get_the_same_key_by_get(sites: Sites) -> None:
    made = sites.a.knock(MASTER, ENC)
    (key_id,) = ids(made)
    taken = sites.b.knock(SLAVE, f"{DEC}?key_ID={key_id}")
    assert taken.json == made.json
    assert set(made.json) == {"keys", "key_container_extension"}
    assert made.json["key_container_extension"] == {
        "skex_claim": {
            "class": "computational",
            "threshold": 3,
            "effective_threshold": 2,
            "margin": 0,
            "randomness": "system",
            "enrolment": "carried-in-clear",
        },
        "skex_cryptoperiod": {"lifetime_seconds": 86_400, "use_seconds": 3600, "uses": 1000},
    }
    assert set(made.json["keys"][0]) == {"key_ID", "key"}
    assert len(base64.b64decode(made.json["keys"][0]["key"], validate=True)) == 32
    assert str(uuid.UUID(key_id)) == key_id


def test_number_and_size_are_obeyed_in_both_forms(sites: Sites) -> None:
    got = sites.a.knock(MASTER, f"{ENC}?number=3&size=512")
    posted = sites.a.post(MASTER, ENC, {"number": 3, "size": 512})
    for reply in (got, posted):
        assert [len(base64.b64decode(one["key"])) for one in reply.json["keys"]] == [64, 64, 64]
        assert len(set(ids(reply))) == 3


def test_slave_takes_many_keys_by_post_in_the_order_asked(sites: Sites) -> None:
    made = sites.a.post(MASTER, ENC, {"number": 5})
    asked = list(reversed(ids(made)))
    taken = sites.b.post(SLAVE, DEC, wanted(asked))
    assert ids(taken) == asked
    assert taken.json["keys"] == list(reversed(made.json["keys"]))


def test_post_without_a_body_is_an_empty_request(sites: Sites) -> None:
    assert len(ids(sites.a.knock(MASTER, ENC, "-X", "POST"))) == 1
    assert len(ids(sites.a.post(MASTER, ENC, {}))) == 1


def test_status_is_in_bits_and_names_both_ends(sites: Sites) -> None:
    assert sites.a.knock(MASTER, STATUS).json == {
        "source_KME_ID": "site-a",
        "target_KME_ID": "site-b",
        "master_SAE_ID": MASTER,
        "slave_SAE_ID": SLAVE,
        "key_size": 256,
        "stored_key_count": 1000,
        "max_key_count": 1000,
        "max_key_per_request": 128,
        "max_key_size": 4096,
        "min_key_size": 128,
        "max_SAE_ID_count": 3,
    }


def test_multicast_gives_every_slave_the_same_key_once(sites: Sites) -> None:
    made = sites.a.post(MASTER, ENC, {"additional_slave_SAE_IDs": [SECOND]})
    for sae in (SLAVE, SECOND):
        assert sites.b.post(sae, DEC, wanted(ids(made))).json == made.json
        assert sites.b.post(sae, DEC, wanted(ids(made))).json == NOT_FOUND


def test_empty_additional_list_and_unknown_members_are_accepted_and_logged(sites: Sites) -> None:
    body = {
        "additional_slave_SAE_IDs": [],
        "additional_target_sae_ids": [SECOND],
        "extension_optional": [{"other_vendor": 1}],
        "extension_mandatory": None,
    }
    assert len(ids(sites.a.post(MASTER, ENC, body))) == 1
    assert sites.a.events.accesses[-1].ignored == ("additional_target_sae_ids", "other_vendor")


def test_percent_encoded_and_aliased_names_are_the_same_sae(sites: Sites) -> None:
    for path in (ENC, ENC.replace("@", "%40"), "/api/v1/keys/legacy%20B/enc_keys"):
        (key_id,) = ids(sites.a.knock(MASTER, path))
        assert ids(sites.b.knock(SLAVE, f"{DEC}?key_ID={key_id.upper()}")) == [key_id]


# ── headers ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", [ENC, STATUS, "/", "/api/v1/keys/nobody/status"])
def test_no_answer_may_be_kept_or_is_anything_but_json(sites: Sites, path: str) -> None:
    reply = sites.a.knock(MASTER, path)
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["server"] == "skex"
    assert "location" not in reply.headers
    assert isinstance(reply.json, dict)


def test_http_1_1_is_agreed_on_and_http_2_is_not(sites: Sites) -> None:
    for offer in ("--http2", "--http2-prior-knowledge", "--http1.1"):
        reply = sites.a.knock(MASTER, STATUS, offer)
        assert (reply.status, reply.version) == (200, "HTTP/1.1")


# ── refusals: form ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"size": 257}, "size shall be a multiple of 8"),
        ({"size": 12}, "size shall be a multiple of 8"),
        (
            {"extension_mandatory": [{"acme_colour": "red"}]},
            "not all extension_mandatory parameters are supported",
        ),
        ({"size": 64}, "size is not between min_key_size and max_key_size"),
        ({"size": 8192}, "size is not between min_key_size and max_key_size"),
        ({"number": 129}, "more keys are asked for than max_key_per_request"),
        (
            {"additional_slave_SAE_IDs": [f"x{index}@site-b" for index in range(4)]},
            "additional_slave_SAE_IDs names more SAEs than max_SAE_ID_count, or SAEs of another KME",
        ),
        ({"number": "2"}, "number must be an integer"),
        ({"number": 0}, "number must be at least 1"),
        ({"number": True}, "number must be an integer"),
        ({"size": 256.0}, "size must be an integer"),
        ({"additional_slave_SAE_IDs": [SLAVE]}, "additional_slave_SAE_IDs repeats the master or a slave"),
        (
            {"additional_slave_SAE_IDs": ["legacy B"]},
            "additional_slave_SAE_IDs repeats the master or a slave",
        ),
        ({"additional_slave_SAE_IDs": [MASTER]}, "additional_slave_SAE_IDs repeats the master or a slave"),
        ({"additional_slave_SAE_IDs": [SECOND, SECOND]}, "additional_slave_SAE_IDs names an SAE twice"),
        (
            {"additional_slave_SAE_IDs": [" "]},
            "an SAE ID is blank, too long or has characters that no name has",
        ),
        (b"{", "the body is not JSON"),
        (b"[]", "the key request is not a JSON object"),
        (b'{"number":1,"number":2}', "an object of the body has a member twice"),
        (b"[" * 5000, "the body is nested too deeply"),
        (b"\xff", "the body is not UTF-8"),
    ],
)
def test_malformed_key_request_is_400_with_its_message(sites: Sites, body: object, message: str) -> None:
    reply = sites.a.post(MASTER, ENC, body)
    assert (reply.status, reply.json) == (400, {"message": message})
    assert sites.exchange.delivered == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "key_IDs must hold at least one object"),
        ({"key_IDs": []}, "key_IDs must hold at least one object"),
        ({"key_IDs": [str(uuid.UUID(int=1))]}, "key_IDs must hold objects with a member key_ID"),
        ({"key_IDs": [{"key_ID": "1"}]}, "key_ID must be a UUID"),
        (wanted([str(uuid.UUID(int=1))] * 2), "key_IDs names a key twice"),
        (
            wanted([str(uuid.UUID(int=one)) for one in range(129)]),
            "more keys are asked for than max_key_per_request",
        ),
        (b"", "the body is not JSON"),
    ],
)
def test_malformed_list_of_ids_is_400_with_its_message(sites: Sites, body: object, message: str) -> None:
    reply = sites.b.post(SLAVE, DEC, body)
    assert (reply.status, reply.json) == (400, {"message": message})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ENC),
        ("DELETE", ENC),
        ("PATCH", DEC),
        ("OPTIONS", STATUS),
        ("POST", STATUS),
        ("TRACE", STATUS),
        ("GET", "/"),
        ("GET", "/api/v1/keys/enc_keys"),
        ("GET", "/api/v2/keys/b@site-b/enc_keys"),
        ("GET", ENC + "/"),
        ("GET", "//api/v1/keys/b@site-b/enc_keys"),
        ("GET", "/api/v1/keys/../keys/b@site-b/enc_keys"),
        ("GET", "/api/v1/keys/%20/enc_keys"),
        ("GET", "/api/v1/keys//enc_keys"),
        ("GET", "/api/v1/keys/%ff/enc_keys"),
        ("GET", "/api/v1/keys/%zz/enc_keys"),
        ("GET", f"/api/v1/keys/{'b' * 200}/enc_keys"),
        ("GET", f"/api/v1/keys/{'b' * 9000}/enc_keys"),
        ("GET", f"/api/v1/keys/{MASTER}/enc_keys"),
        ("GET", ENC + "?number=1&number=2"),
        ("GET", ENC + "?number=-1"),
        ("GET", ENC + "?number="),
        ("GET", ENC + "?number=%D9%A3"),
        ("GET", ENC + "?size=0"),
        ("GET", ENC + "?extension_mandatory=x"),
        ("GET", ENC + "?" + "&".join(f"x{one}=1" for one in range(17))),
        ("GET", DEC),
        ("GET", DEC + "?key_ID=1"),
    ],
)
def test_what_the_standard_does_not_have_is_400_and_uses_no_key(sites: Sites, method: str, path: str) -> None:
    reply = sites.a.knock(MASTER, path, "-X", method)
    assert reply.status == 400
    assert isinstance(reply.json["message"], str)
    assert sites.exchange.delivered == []


def test_head_is_400_without_a_body_and_uses_no_key(sites: Sites) -> None:
    reply = sites.a.knock(MASTER, ENC, "--head")
    assert (reply.status, reply.body) == (400, b"")
    assert sites.exchange.delivered == []


def test_query_of_a_post_has_no_effect(sites: Sites) -> None:
    assert len(ids(sites.a.post(MASTER, ENC + "?number=5", {}))) == 1


def test_body_of_a_get_has_no_effect(sites: Sites) -> None:
    assert len(ids(sites.a.knock(MASTER, ENC, "-X", "GET", "-d", '{"number":5}'))) == 1


# ── refusals: who and which ─────────────────────────────────────────────────────────────────────
def challenged(reply: Reply) -> bool:
    return (
        reply.status == 401
        and reply.json == UNAUTHORISED
        and reply.headers["www-authenticate"].startswith("ClientCertificate ")
    )


def test_unknown_sae_and_forbidden_pair_look_alike(sites: Sites) -> None:
    unknown = sites.a.knock(MASTER, "/api/v1/keys/nobody/enc_keys")
    elsewhere = sites.a.knock(MASTER, "/api/v1/keys/nobody@site-b/enc_keys")
    forbidden = sites.a.knock(MASTER, f"/api/v1/keys/{STRANGER}/enc_keys")
    additional = sites.a.post(MASTER, ENC, {"additional_slave_SAE_IDs": ["nobody"]})
    assert all(challenged(one) for one in (unknown, elsewhere, forbidden, additional))
    assert unknown.body == elsewhere.body == forbidden.body == additional.body


def test_certificate_of_an_sae_of_no_kme_here_is_401(sites: Sites) -> None:
    assert challenged(sites.a.knock("ghost@nowhere", ENC))
    assert sites.a.events.accesses[-1].caller == "ghost@nowhere"


def test_slave_may_not_take_keys_as_master_from_the_other_kme(sites: Sites) -> None:
    assert challenged(sites.a.knock(SLAVE, f"/api/v1/keys/{SECOND}/enc_keys"))


def test_third_sae_without_a_rule_is_401_and_the_key_stays(sites: Sites) -> None:
    made = sites.a.knock(MASTER, ENC)
    assert challenged(sites.b.post(STRANGER, DEC, wanted(ids(made))))
    assert sites.b.post(SLAVE, DEC, wanted(ids(made))).json == made.json


def test_ids_unknown_foreign_delivered_or_of_another_master_look_alike(sites: Sites) -> None:
    foreign = ids(sites.a.knock(MASTER, f"/api/v1/keys/{SECOND}/enc_keys"))
    delivered = ids(sites.a.knock(MASTER, ENC))
    assert sites.b.post(SLAVE, DEC, wanted(delivered)).status == 200
    never = [str(uuid.UUID(int=7))]
    replies = [sites.b.post(SLAVE, DEC, wanted(one)) for one in (foreign, delivered, never)]
    assert {(one.status, one.body) for one in replies} == {
        (400, b'{"message":"one or more keys specified are not found on KME"}')
    }


def test_one_bad_id_of_many_delivers_nothing(sites: Sites) -> None:
    made = ids(sites.a.post(MASTER, ENC, {"number": 3}))
    spoilt = [*made, str(uuid.UUID(int=9))]
    assert sites.b.post(SLAVE, DEC, wanted(spoilt)).json == NOT_FOUND
    assert ids(sites.b.post(SLAVE, DEC, wanted(made))) == made


# ── refusals: the server's side ─────────────────────────────────────────────────────────────────
def test_refusal_of_the_kme_is_503_with_its_code(sites: Sites) -> None:
    sites.keys_a.fail = Refused(codes.NOT_ENOUGH_HUBS)
    reply = sites.a.knock(MASTER, ENC)
    assert (reply.status, reply.json) == (
        503,
        {
            "message": "Fewer hubs than the threshold are reachable.",
            "details": [{"code": "not-enough-hubs"}],
        },
    )


@pytest.mark.parametrize("error", [StoreFault(codes.STORE_FULL, "disk of /secret"), RuntimeError("defect")])
def test_failure_is_503_tells_nothing_and_is_reported(sites: Sites, error: BaseException) -> None:
    sites.keys_a.fail = error
    reply = sites.a.knock(MASTER, ENC)
    assert (reply.status, reply.json) == (503, {"message": "error on server side"})
    assert sites.a.events.failures == [error]
    sites.keys_a.fail = None
    assert sites.a.knock(MASTER, ENC).status == 200


# ── certificates ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("stem", "reason"),
    [("expired", "certificate has expired"), ("early", "certificate is not yet valid")],
)
def test_certificate_outside_its_time_fails_in_the_handshake(sites: Sites, stem: str, reason: str) -> None:
    assert sites.a.knock(stem, ENC).status == 0
    assert reason in sites.a.refusal()
    assert sites.exchange.delivered == []


def test_certificate_of_another_authority_fails_in_the_handshake(sites: Sites, other_pki: Pki) -> None:
    client = other_pki.files(MASTER)
    assert curl(sites.a.port, ENC, client=client, ca=sites.pki.ca).status == 0
    assert "client certificate refused" in sites.a.refusal()


def test_no_certificate_fails_in_the_handshake(sites: Sites) -> None:
    assert curl(sites.a.port, ENC, client=None, ca=sites.pki.ca).status == 0
    assert "peer did not return a certificate" in sites.a.refusal()


def test_certificate_of_a_kme_is_no_clients(sites: Sites) -> None:
    assert sites.a.knock("site-b", ENC).status == 0
    assert "client certificate refused" in sites.a.refusal()


def test_plain_http_and_old_tls_are_not_spoken(sites: Sites) -> None:
    old = sites.a.knock(MASTER, STATUS, "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.status == 0
    assert sites.a.knock(MASTER, STATUS, "--tls-max", "1.2").status == 200
    assert sites.a.knock(MASTER, STATUS, "--tls-max", "1.2", "--ciphers", "AES256-GCM-SHA384").status == 0


def test_certificate_that_expires_later_is_401_on_the_next_request(sites: Sites) -> None:
    sites.a.skew = timedelta(days=2)
    try:
        assert challenged(sites.a.knock(MASTER, ENC))
    finally:
        sites.a.skew = timedelta()
    assert sites.a.events.accesses[-1].code == "door-identity"


# ── the log ─────────────────────────────────────────────────────────────────────────────────────
def test_log_says_who_what_and_how_many_and_nothing_secret(sites: Sites) -> None:
    reply = sites.a.post(MASTER, ENC, {"number": 2})
    (access,) = sites.a.events.accesses
    assert (access.caller, access.other, access.operation, access.method) == (
        MASTER,
        SLAVE,
        "enc_keys",
        "POST",
    )
    assert (access.status, access.keys, access.code, access.address) == (200, 2, "", "127.0.0.1")
    assert access.seconds >= 0
    assert not any(one["key"] in repr(access) for one in reply.json["keys"])


def test_what_clients_name_is_shortened_and_escaped_in_the_log(sites: Sites, scratch: Path) -> None:
    body = {f"{'x' * 100}\n{one}": 1 for one in range(20)} | {"\x1b[31m": 1}
    sites.a.post(MASTER, ENC, dict(reversed(body.items())))
    ignored = sites.a.events.accesses[-1].ignored
    assert len(ignored) == 8
    assert ignored[0] == "\\x1b[31m"
    assert max(map(len, ignored)) <= 63
