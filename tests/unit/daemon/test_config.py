from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused
from skex.daemon import config, config_text, options
from skex.daemon.config import HUB, KME, load_hub, load_kme, parse_hub, parse_kme
from skex.daemon.options import Endpoint, Layout, Reader, Wrong
from skex.delivery.etsi014.identity import IdentityField
from skex.delivery.etsi014.server import DoorSettings
from skex.keys.settings import KeySettings

HOME = Path("/srv/skex")


def hub(text: str) -> config.HubConfig:
    return parse_hub(text.encode(), "hub.toml", HOME)


def kme(text: str) -> config.KmeConfig:
    return parse_kme(text.encode(), "kme.toml", HOME)


def refused(text: str | bytes, code: ErrorCode = codes.CONFIG_INVALID) -> str:
    """What a KME's configuration is refused with."""
    with pytest.raises(Refused) as error:
        parse_kme(text.encode() if isinstance(text, str) else text, "kme.toml", HOME)
    assert error.value.code is code
    return error.value.detail


# ── what is read ────────────────────────────────────────────────────────────────────────────────
def test_name_alone_is_enough_and_everything_else_has_its_default() -> None:
    read = kme('name = "site-a"')
    assert (read.name, read.threshold_floor, read.hub_addresses) == ("site-a", 2, {})
    assert read.keys == KeySettings()
    assert (read.etsi014.enabled, read.etsi014.listen) == (False, Endpoint("127.0.0.1", 7443))
    assert (read.reserves, read.log_level, read.allow_root) == ((), "info", False)
    assert hub('name = "hub-1"').listen == Endpoint("0.0.0.0", 7300)  # noqa: S104 - nothing is bound here


def test_relative_paths_start_at_the_home_and_absolute_ones_stay() -> None:
    read = kme('name = "a"\n[policy]\npath = "/etc/skex/policy.toml"\n[etsi014]\nkey = "k.pem"')
    assert read.policy == Path("/etc/skex/policy.toml")
    assert read.etsi014.key == HOME / "k.pem"
    assert read.audit.directory == HOME / "audit"
    assert hub('name = "a"').realm == HOME / "realm.cbor"


def test_every_option_that_is_stated_is_read() -> None:
    read = kme(
        """
        name = "site-a"
        [realm]
        threshold_floor = 3
        hub_addresses = { "hub-1" = "127.0.0.1:7301", "hub-2" = "[::1]:7302" }
        [etsi014]
        enabled = true
        listen = "[::]:0"
        identity = "uri"
        [keys]
        key_bytes = 64
        reserve_low = 1
        reserve_high = 2
        [log]
        level = "debug"
        [audit]
        segment_bytes = 65536
        [run]
        allow_root = true
        [[reserve]]
        peer = "site-b"
        [[reserve]]
        peer = "site-b"
        key_bytes = 32
        low = 5
        high = 6
        """
    )
    assert read.threshold_floor == 3
    assert read.hub_addresses == {"hub-1": Endpoint("127.0.0.1", 7301), "hub-2": Endpoint("::1", 7302)}
    assert (read.etsi014.enabled, read.etsi014.listen, read.etsi014.identity) == (
        True,
        Endpoint("::", 0),
        "uri",
    )
    assert (read.keys.key_bytes, read.keys.reserve_low, read.keys.reserve_high) == (64, 1, 2)
    assert (read.log_level, read.audit.segment_bytes, read.allow_root) == ("debug", 65_536, True)
    assert [(one.peer, one.key_bytes, one.low, one.high) for one in read.reserves] == [
        ("site-b", 64, KeySettings().reserve_low, KeySettings().reserve_high),
        ("site-b", 32, 5, 6),
    ]


def test_identity_fields_are_those_of_the_door() -> None:
    for field in IdentityField:
        assert kme(f'name = "a"\n[etsi014]\nidentity = "{field.value}"').etsi014.identity == field.value


def test_door_names_saes_by_uri_and_uses_no_revocation_list_unless_told() -> None:
    read = kme('name = "a"').etsi014
    assert (read.identity, read.revoked) == (DoorSettings().identity.value, None)
    assert kme('name = "a"\n[etsi014]\nrevoked = ""').etsi014.revoked is None
    stated = kme('name = "a"\n[etsi014]\nrevoked = "tls/crl.pem"')
    assert stated.etsi014.revoked == stated.home / "tls/crl.pem"


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ('nam = "a"', 1, "nam", 'did you mean "name"?'),
        ('name = "a"\n\n[keys]\nliftime = 5', 4, "keys.liftime", 'did you mean "lifetime"?'),
        ('name = "a"\n[key]\nlifetime = 5', 2, "key", 'did you mean "keys"?'),
        ('name = "a"\n[log]\nlevel = "inf"', 3, "log.level", 'did you mean "info"?'),
        ('name = "a"\n[log]\nlevel = 3', 3, "log.level", "not 3"),
        ('name = "a"\n[keys]\nlifetime = 0', 3, "keys.lifetime", "from 1 to 31536000, not 0"),
        ('name = "a"\n[keys]\nlifetime = "1d"', 3, "keys.lifetime", "not '1d'"),
        ('name = "a"\n[keys]\nlifetime = true', 3, "keys.lifetime", "not true"),
        ('name = "Site A"', 1, "name", "'Site A'"),
        ("name = 5", 1, "name", "not 5"),
        ('name = "a"\nkeys = 5', 2, "keys", "must be a table"),
        ('name = "a"\n[run]\nallow_root = "yes"', 3, "run.allow_root", "true or false"),
        ('name = "a"\n[policy]\npath = ""', 3, "policy.path", "must be a path"),
        ('name = "a"\n[policy]\npath = 7', 3, "policy.path", "must be a path"),
        ('name = "a"\n[etsi014]\nlisten = "localhost"', 3, "etsi014.listen", "host:port"),
        ('name = "a"\n[etsi014]\nlisten = "h:65536"', 3, "etsi014.listen", "host:port"),
        ('name = "a"\n[etsi014]\nlisten = 7443', 3, "etsi014.listen", "host:port"),
        ('name = "a"\n[realm.hub_addresses]\n"hub 1" = "h:1"', 2, "realm.hub_addresses", "hub 1"),
        ('name = "a"\n[realm.hub_addresses]\nhub-1 = "h:0"', 2, "realm.hub_addresses", "'h:0'"),
        ('name = "a"\n[realm]\nhub_addresses = "x"', 3, "realm.hub_addresses", "must be a table"),
        ('name = "a"\n[reserve]\npeer = "b"', 2, "reserve", "[[reserve]]"),
        ('name = "a"\nreserve = [1]', 2, "reserve", "[[reserve]]"),
        ('name = "a"\n[[reserve]]\nlow = 1', 2, "reserve[1].peer", "is missing"),
        ('name = "a"\n[[reserve]]\npeer = "b"\nhigh = 1\nlow = 2', 5, "reserve[1].low", "above high (1)"),
        ('name = "a"\n[[reserve]]\npeer = "b"\npeers = 1', 4, "reserve[1].peers", 'did you mean "peer"?'),
        ('name = "a"\n[[reserve]]\npeer = "b"\nkey_bytes = 8', 4, "reserve[1].key_bytes", "not 8"),
        ('name = "a"\n[[reserve]]\npeer = "b"\n[[reserve]]\npeer = "b"', 4, "reserve[2]", "second reserve"),
        ('name = "a"\n[keys]\nkey_bytes = 16\nkey_bytes_min = 17', 3, "keys.key_bytes", "key_bytes_min (17)"),
        ('name = "a"\n[keys]\nreserve_low = 600', 3, "keys.reserve_low", "keys.reserve_high (512)"),
        ('name = "a"\n[keys]\nbatch_keys = 1024\nkey_bytes = 1024', 3, "keys.batch_keys", "at most 55"),
    ],
)
def test_mistake_is_named_with_file_line_key_and_what_would_be_right(
    text: str, line: int, key: str, said: str
) -> None:
    detail = refused(text)
    assert detail.startswith(f"kme.toml: line {line}: {key} ")
    assert said in detail


def test_missing_name_is_named() -> None:
    assert "name is missing" in refused("")


def test_every_mistake_is_named_at_once_in_the_order_of_the_file() -> None:
    detail = refused('name = "A"\n[log]\nlevel = "x"\n[keys]\nlifetime = 0')
    assert detail.index("line 1") < detail.index("line 3") < detail.index("line 5")


def test_no_more_mistakes_are_named_than_anybody_reads() -> None:
    detail = refused("\n".join(f"x{number} = 1" for number in range(100)))
    assert detail.count("kme.toml: line") == limits.CONFIG_PROBLEMS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'name = "a', "line 1"),
        (b'name = "a"\n\n[keys\n', "line 3"),
        (b'name = "a"\n\xff', "line 2: not UTF-8"),
        (b"#" * (limits.CONFIG_FILE_BYTES + 1), f"at most {limits.CONFIG_FILE_BYTES}"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "line 1"),
    ],
)
def test_unreadable_file_is_refused_with_its_line(data: bytes, said: str) -> None:
    detail = refused(data, codes.CONFIG_SYNTAX)
    assert detail.startswith("kme.toml: line")
    assert said in detail
    assert len(detail) < 300


@pytest.mark.parametrize("field", ["reserve", "addresses"])
def test_more_entries_than_allowed_are_refused(field: str) -> None:
    many = range(limits.CONFIG_ENTRIES + 1)
    if field == "reserve":
        text = 'name = "a"\n' + "".join(f'[[reserve]]\npeer = "p{one}"\n' for one in many)
    else:
        text = 'name = "a"\n[realm.hub_addresses]\n' + "".join(f'h{one} = "h:1"\n' for one in many)
    assert f"at most {limits.CONFIG_ENTRIES}" in refused(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_configuration_or_refused(data: bytes) -> None:
    for parse in (parse_hub, parse_kme):
        for whole in (data, b'name = "a"\n' + data):
            code = outcome(parse, whole)
            assert code in {None, codes.CONFIG_SYNTAX, codes.CONFIG_INVALID}


def outcome(parse: Callable[[bytes, str, Path], object], data: bytes) -> ErrorCode | None:
    try:
        parse(data, "x.toml", HOME)
    except Refused as error:
        return error.code
    return None


_JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["path", "x", "low"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([option.key for option in KME.options] + ["reserve"]), _JSON)
def test_any_value_of_any_option_is_read_or_refused(key: str, value: Any) -> None:
    reader = Reader(b"", "x.toml", KME)
    root: dict[str, Any] = {}
    *parents, last = key.split(".")
    table = root
    for part in parents:
        table = table.setdefault(part, {})
    table[last] = value
    reader._root = root
    reader.read()
    with pytest.raises(Refused):
        # The name is missing in any case, or wrong.
        reader.finish()


# ── files ───────────────────────────────────────────────────────────────────────────────────────
def test_file_that_was_given_counts_before_the_home_s(tmp_path: Path) -> None:
    (tmp_path / "kme.toml").write_text('name = "home"')
    other = tmp_path / "other.toml"
    other.write_text('name = "other"')
    assert load_kme(tmp_path).name == "home"
    assert load_kme(tmp_path, other).name == "other"


def test_system_directory_is_looked_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", tmp_path)
    (tmp_path / "hub.toml").write_text('name = "system"')
    assert load_hub(tmp_path / "home").name == "system"


def test_missing_file_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="config-missing") as error:
        load_hub(tmp_path)
    assert str(tmp_path / "hub.toml") in error.value.detail


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub.toml").write_text('name = "a"')

    def fail(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(Refused, match="Permission denied"):
        load_hub(tmp_path)


# ── text ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("layout", [HUB, KME], ids=lambda layout: layout.daemon)
def test_commented_file_is_valid_and_changes_no_default(layout: Layout) -> None:
    text = config_text.render(layout, {"name": "a"})
    assert tomllib.loads(text)["name"] == "a"
    plain = parse_hub if layout is HUB else parse_kme
    assert plain(text.encode(), "x.toml", HOME) == plain(b'name = "a"', "x.toml", HOME)


@pytest.mark.parametrize("layout", [HUB, KME], ids=lambda layout: layout.daemon)
def test_every_option_of_the_commented_file_works_once_its_mark_is_removed(layout: Layout) -> None:
    """What the comments show is what can be written, with the default that the reference states."""
    text = config_text.render(layout, {"name": "a"}).replace('#peer = ""', 'peer = "b"')
    opened = "\n".join(line.removeprefix("#") if line[:2] != "# " else line for line in text.split("\n"))
    reader = Reader(opened.encode(), "x.toml", layout)
    values = reader.read()
    reader.finish()
    assert values.options == {
        option.key: "a" if option.key == "name" else option.default for option in layout.options
    }


def test_stated_values_are_written_and_read_back() -> None:
    stated = {
        "name": "a",
        "realm.hub_addresses": {"hub-1": Endpoint("::1", 1)},
        "etsi014.enabled": True,
        "policy.path": Path('odd "name"\\x.toml'),
    }
    read = kme(config_text.render(KME, stated))
    assert read.hub_addresses == stated["realm.hub_addresses"]
    assert read.etsi014.enabled
    assert read.policy == HOME / 'odd "name"\\x.toml'


def test_unknown_stated_option_is_a_bug() -> None:
    with pytest.raises(KeyError, match="nme"):
        config_text.render(KME, {"nme": "a"})


def test_reference_names_every_option() -> None:
    text = config_text.reference([HUB, KME])
    for layout in (HUB, KME):
        for option in layout.options:
            assert f"| `{option.key}` |" in text


@pytest.mark.parametrize(
    ("text", "endpoint"), [("h:1", Endpoint("h", 1)), ("[::1]:65535", Endpoint("::1", 65_535))]
)
def test_endpoint_reads_as_it_is_written(text: str, endpoint: Endpoint) -> None:
    assert options.parse_endpoint(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize("text", ["h", "h:0", ":1", "h:1 ", "H:1", "h:01", "[h]:1"])
def test_address_to_dial_of_another_form_is_wrong(text: str) -> None:
    with pytest.raises(Wrong):
        options.parse_endpoint(text)


@pytest.mark.parametrize("value", ["", "x" * 9, "caf\u00e9", "a\tb", 3])
def test_text_is_short_printable_ascii(value: object) -> None:
    with pytest.raises(Wrong):
        options.text(8).read(value)
    assert options.text(8).read("a b~") == "a b~"
