"""Every key of a TOML text is found on the line where it stands."""

from __future__ import annotations

import pytest

from skex.policy.positions import Lines, Path

TEXT = '''\
# a comment with [brackets] and "quotes
version = 1   # 2
plain.dotted.key = "a"
numbers = [1.5, -2e3, 2024-01-01 10:00:00]

[groups]
branch = [
    "site-1",   # one ] two
    "site-2",
]
"quoted \\u0061" = 'literal # [not a table]'
'single' = """
[not.a.table]
key = "no" \\""" still inside
"""
after = \'\'\'
it's = [nothing]
\'\'\'

[[hub.allow]]
from = ["a"]
nested = { inline = 1, deeper = { x = [ 1,
  2 ] }, last = 1.5 }

[[hub.allow]]
to = ["b"]

[hub.allow.below]
x = 1

[[hub.allow.rows]]
[[hub.allow.rows]]
y = 2

[hub]
floor = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("version",), 2),
        (("plain",), 3),
        (("plain", "dotted", "key"), 3),
        (("numbers",), 4),
        (("numbers", 2), 4),
        (("groups",), 6),
        (("groups", "branch"), 7),
        (("groups", "branch", 0), 8),
        (("groups", "branch", 1), 9),
        (("groups", "quoted a"), 11),
        (("groups", "single"), 12),
        (("groups", "after"), 16),
        (("hub", "allow", 0), 20),
        (("hub", "allow", 0, "from"), 21),
        (("hub", "allow", 0, "from", 0), 21),
        (("hub", "allow", 0, "nested", "inline"), 22),
        (("hub", "allow", 0, "nested", "deeper", "x", 0), 22),
        (("hub", "allow", 0, "nested", "deeper", "x", 1), 23),
        (("hub", "allow", 0, "nested", "last"), 23),
        (("hub", "allow", 1), 25),
        (("hub", "allow", 1, "to"), 26),
        (("hub", "allow", 1, "below", "x"), 29),
        (("hub", "allow", 1, "rows", 0), 31),
        (("hub", "allow", 1, "rows", 1, "y"), 33),
        (("hub", "floor"), 36),
    ],
)
def test_key_is_found_on_its_line(path: Path, line: int) -> None:
    assert Lines(TEXT)[path] == line


def test_key_that_is_missing_has_the_line_of_its_table() -> None:
    assert Lines(TEXT)["hub", "allow", 1, "from"] == 25


def test_lines_are_the_same_with_other_line_ends() -> None:
    assert Lines(TEXT.replace("\n", "\r\n"))["hub", "allow", 1, "to"] == 26


def test_text_without_keys_is_line_one() -> None:
    assert Lines("# nothing")[("hub",)] == 1
