"""``skex demo --trust``: who may have which key, what it rests on, and what is safe after a break-in.

Every scene runs the product's own commands at homes of daemons that run, or ran, and compares what they
say with what must be; a scene that does not show what it claims has failed. It must not know how
results are shown.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from skex.audit import events
from skex.base.ids import KmeName, SaeId
from skex.cli.compromise import EXPOSED
from skex.cli.demo_delivery import Refusal
from skex.cli.demo_processes import failed, run, until
from skex.cli.demo_realm import HUBS, NORTH, SKEX, SOUTH, THRESHOLD, DemoRealm, running_realm
from skex.cli.demo_report import say
from skex.cli.demo_scenes import Play, Stage
from skex.cli.demo_trust_realms import (
    EAST,
    FLOOR_RULE,
    HUB_RULE,
    KME_RULE,
    PAYROLL,
    SAE_RULE,
    SAES,
    TABLES,
    WEST,
    captured,
    independent,
)
from skex.cli.demo_trust_report import Act, Transcript, sentences

_CLASS: Final = r" pads|leaves \d|class is"
_REFUSED: Final = 3
_DAMAGED: Final = 4
_RECORD_SECONDS: Final = 20
"""Longer than an audit record takes to the medium."""
_ALWAYS: Final = ("--since", "2020-01-01")
"""Whoever had a machine so long has everything of it."""
_NAMED: Final = r"NO:|Here it is"


async def demonstrate(root: Path) -> tuple[Act, ...]:
    """Play every scene; two realms run one after the other below ``root``."""
    transcript = Transcript()
    say(f"Starting five hubs with five operators, any {THRESHOLD} of which rebuild a key, and four KMEs.")
    async with running_realm(root / "one", layout=independent()) as realm:
        await realm.enrol()
        await realm.start()
        await realm.settle()
        stage = TrustStage(realm, root / "one", transcript)
        await stage.take_audit_key()
        acts = [await transcript.play(play) for play in stage.running_scenes()]
        await realm.stop()
        acts += [await transcript.play(play) for play in stage.resting_scenes()]
    say("The same demands of the KMEs, in a realm of which three hubs have one operator: starting it.")
    async with running_realm(root / "two", layout=captured()) as realm:
        await realm.enrol()
        await realm.start()
        await realm.settle()
        stage = TrustStage(realm, root / "two", transcript)
        acts.append(await transcript.play(stage.captured_scene()))
    return tuple(acts)


class TrustStage:
    """A realm, its applications, and the commands that its operators run."""

    def __init__(self, realm: DemoRealm, root: Path, transcript: Transcript) -> None:
        self._realm = realm
        self._root = root
        self._transcript = transcript
        self._stage = Stage(realm, root)
        self._auditor = root / "north.auditkey"

    def running_scenes(self) -> tuple[Play, ...]:
        """The scenes for which the daemons run."""
        return (
            Play("allowed", "a key that every rule allows", self.allowed),
            Play("refused-by-hub", "refused by a rule of the hubs", self.refused_by_hub),
            Play("refused-by-kme", "refused by a rule of a KME", self.refused_by_kme),
            Play("refused-by-sae-rule", "refused by a rule about applications", self.refused_by_sae_rule),
            Play("explain-table", "what a key over table pads rests on", self.explain_table),
            Play("explain-mixed", "what a key over mixed pads rests on", self.explain_mixed),
            Play("explain-derived", "what a key over derived pads rests on", self.explain_derived),
            Play("independent-hubs", "five operators: the policy's floor is met", self.independent_hubs),
        )

    def resting_scenes(self) -> tuple[Play, ...]:
        """The scenes that need logs and homes only."""
        return (
            Play("compromise-hubs", "two hubs were somebody else's, then three", self.hubs_taken),
            Play("compromise-kme", "a KME and two hubs were somebody else's", self.kme_and_hubs_taken),
            Play("log-altered", "an audit log with one byte altered", self.log_altered),
            Play("log-dropped", "an audit log without one of its records", self.log_dropped),
            Play("log-cut", "an audit log without its tail", self.log_cut),
        )

    def captured_scene(self) -> Play:
        """The scene of the realm that an operator controls."""
        return Play("captured-hubs", "three hubs with one operator: no keys", self.captured_hubs)

    # ── policy ──────────────────────────────────────────────────────────────────────────────────
    async def allowed(self) -> str:
        """A key at both ends, and the rules that allowed it."""
        pair = ("--from", SAES[NORTH], "--to", SAES[SOUTH])
        rules = [
            (await self._skex("policy", "test", *pair, home=home, only="Here it is"))["decided_by"]
            for home in ("hub-1", NORTH, SOUTH)
        ]
        master, _ = await self._stage.take_both()
        self._show_curl(NORTH, SAES[SOUTH], f'200 {{"keys": [{{"key_ID": "{master.key_id}", "key": "…"}}]}}')
        await self._recorded(NORTH, events.KEYS_DELIVERED.name, "allowed")
        named = ", ".join(_place(one) for one in rules)
        return f"key {master.key_id} is the same at both ends, allowed by {named}"

    async def refused_by_hub(self) -> str:
        """Two KMEs that want keys with each other, and hubs that do not pass them on."""
        return await self._refusal(EAST, SAES[WEST], "hub-1", HUB_RULE, events.AUTHORISATION_FAILED.name)

    async def refused_by_kme(self) -> str:
        """A KME that establishes no keys with another one."""
        return await self._refusal(SOUTH, SAES[WEST], SOUTH, KME_RULE, events.KEYS_REFUSED.name)

    async def refused_by_sae_rule(self) -> str:
        """An application that may not share keys with another one."""
        return await self._refusal(NORTH, PAYROLL, NORTH, SAE_RULE, events.KEYS_REFUSED.name)

    async def _refusal(self, kme: KmeName, slave: SaeId, decider: str, rule: str, event: str) -> str:
        """Ask what will be decided, have it decided, and find the record of it."""
        pair = ("--from", SAES[kme], "--to", slave)
        said = await self._skex("policy", "test", *pair, home=decider, expected=_REFUSED, only=_NAMED)
        decided = said["decided_by"]
        self._check_line(decider, rule, decided)
        told = await self._refused_at_door(kme, slave, rule)
        await self._recorded(decider, event, f"refused by {rule}")
        return (
            f"{SAES[kme]} got no key for {slave}, and learned no more than {told}; {decider} decided by"
            f" {_place(decided)}, and its audit log names the same rule"
        )

    async def _refused_at_door(self, kme: KmeName, slave: SaeId, rule: str) -> str:
        """What an application is told that gets no key. Raises ``Refused`` if it tells the rule."""
        answer = await self._stage.sae(kme).take_new(slave)
        if not isinstance(answer, Refusal):
            raise failed(f"{SAES[kme]} was given a key for {slave}")
        told = " ".join(f"{answer.status} {answer.message} {answer.code}".split())
        self._show_curl(kme, slave, told)
        if any(word in told for word in (rule, rule.rpartition(".")[2], "rule", "policy")):
            raise failed(f"the caller was told the rule: {told}")
        return f'"{told}"'

    def _check_line(self, decider: str, rule: str, decided: Mapping[str, Any]) -> None:
        """The rule must be the one that stands in that line of the policy's file."""
        table, _, name = rule.rpartition(".")
        lines = (self._realm.home(decider) / "policy.toml").read_text().splitlines()
        stands = lines[decided["line"] - 1 :][:2]
        if decided["rule"] != rule or stands != [f"[[{table}]]", f'id = "{name}"']:
            raise failed(f"{decider} decides by {_place(decided)}, and it should by {rule}")

    # ── what keys rest on ───────────────────────────────────────────────────────────────────────
    async def explain_table(self) -> str:
        """Both ends have table pads with every hub."""
        return await self._explain(SOUTH)

    async def explain_mixed(self) -> str:
        """One end has table pads with three hubs, and derived ones with two."""
        return await self._explain(EAST)

    async def explain_derived(self) -> str:
        """One end has derived pads with every hub."""
        return await self._explain(WEST)

    async def _explain(self, peer: KmeName) -> str:
        """What must be follows from the pads: each hub behind a derived one is a share less."""
        master, _ = await self._stage.take_both(NORTH, peer)
        said = await self._skex("key", "explain", master.key_id, home=NORTH, only=_CLASS, prose=True)
        claim = said["claim"]
        derived = sorted(set(HUBS) - set(TABLES[peer]))
        margin = max(0, THRESHOLD - len(derived))
        wanted = ("information-theoretic" if margin else "computational", margin, derived)
        found = (claim["class"], claim["margin"], sorted(claim["computational_hubs"]))
        if found != wanted:
            raise failed(f"the claim is {found}, and it must be {wanted}")
        return (
            f"{len(derived)} of {len(HUBS)} shares crossed derived pads, at threshold {THRESHOLD}:"
            f" {claim['class']}, with a margin of {margin}"
        )

    # ── independence ────────────────────────────────────────────────────────────────────────────
    async def independent_hubs(self) -> str:
        """Each hub has an operator of its own, so that the policy's floor of 2 is met."""
        await self._assess_realm(THRESHOLD)
        pair = ("--from", NORTH, "--to", SOUTH)
        await self._skex("policy", "test", *pair, home=NORTH, only="Here it is")
        master, _ = await self._stage.take_both()
        return (
            f"{THRESHOLD} independent operators would have to collude: {FLOOR_RULE} is met, and key"
            f" {master.key_id} is the same at both ends"
        )

    async def captured_hubs(self) -> str:
        """One operator has as many hubs as rebuild a key: the same floor refuses it."""
        await self._assess_realm(1)
        told = await self._refusal_of_floor()
        return (
            f"one operator alone has {THRESHOLD} hubs: an effective threshold of 1; north makes no key, by"
            f" {FLOOR_RULE} and with a record of it; the caller saw {told}"
        )

    async def _refusal_of_floor(self) -> str:
        pair = ("--from", NORTH, "--to", SOUTH)
        said = await self._skex("policy", "test", *pair, home=NORTH, expected=_REFUSED, only=_NAMED)
        self._check_line(NORTH, FLOOR_RULE, said["decided_by"])
        told = await self._refused_at_door(NORTH, SAES[SOUTH], FLOOR_RULE)
        await self._recorded(NORTH, events.BATCH_FAILED.name, f"by {FLOOR_RULE}")
        return told

    async def _assess_realm(self, parties: int) -> None:
        said = await self._skex("realm", "assess", self._realm.realm_file, only="ffective|such as")
        if said["effective_threshold"]["parties"] != parties or said["threshold"] != THRESHOLD:
            raise failed(
                f"the effective threshold is {said['effective_threshold']['parties']}, not {parties}"
            )

    # ── after a break-in ────────────────────────────────────────────────────────────────────────
    async def hubs_taken(self) -> str:
        """Two hubs tell nothing, the third one everything that it relayed."""
        two = ("--hub", "hub-1", "--hub", "hub-2", *_ALWAYS)
        await self._compromise(two, dict.fromkeys((SOUTH, EAST, WEST), ("below-threshold", 2)), expected=0)
        three = ("--hub", "hub-3", *two)
        await self._compromise(three, dict.fromkeys((SOUTH, EAST, WEST), ("threshold-reached", 3)))
        return "with hub-1 and hub-2 nobody has any key; with hub-3, too, every key counts as exposed"

    async def kme_and_hubs_taken(self) -> str:
        """A KME's own keys are lost with it; two hubs are fewer than the threshold for everybody else."""
        taken = ("--kme", "west", "--hub", "hub-1", "--hub", "hub-2", *_ALWAYS)
        wanted = {SOUTH: ("below-threshold", 2), EAST: ("below-threshold", 2), WEST: ("threshold-reached", 5)}
        await self._compromise(taken, wanted)
        return (
            "west, hub-1 and hub-2 were somebody else's all the time: every key with west is exposed, and"
            " of the others two shares are known, one less than it takes"
        )

    async def _compromise(
        self, taken: Sequence[str], wanted: Mapping[KmeName, tuple[str, int]], expected: int = EXPOSED
    ) -> None:
        """``wanted``: why keys between north and a KME are exposed or not, and how many shares are known."""
        homes = [self._realm.home(name) for name in self._realm.layout.names]
        said = await self._skex(
            "compromise", "assess", *homes, *taken, expected=expected, only="recorded keys|^ +(from|north) "
        )
        found: dict[str, set[tuple[str, int]]] = {}
        for one in said["batches"]:
            found.setdefault(one["receiver"], set()).add((one["reason"], len(one["known_hubs"])))
        if found != {peer: {verdict} for peer, verdict in wanted.items()}:
            raise failed(f"the keys that north made were assessed as {found}")

    # ── tampering ───────────────────────────────────────────────────────────────────────────────
    async def take_audit_key(self) -> None:
        """The auditor takes the key of the north's log, which is sealed from then on."""
        await self._skex("audit", "key", "--out", self._auditor, home=NORTH, once=True)

    async def log_altered(self) -> str:
        """The last digit of a time, in the middle of the log."""
        await self._verify(self._realm.home(NORTH), "")

        def alter(lines: list[bytes]) -> None:
            middle = len(lines) // 2
            before, mark, after = lines[middle].partition(b'Z","boot":')
            lines[middle] = before[:-1] + (b"1" if before.endswith(b"0") else b"0") + mark + after

        await self._tampered("altered", alter, "altered")
        return "one digit of one record's time was changed: the log does not verify, the original does"

    async def log_dropped(self) -> str:
        """One record, in the middle of the log."""

        def drop(lines: list[bytes]) -> None:
            del lines[len(lines) // 2]

        await self._tampered("dropped", drop, "missing")
        return "one record was taken out: its place is named"

    async def log_cut(self) -> str:
        """The last three records: what is left is a whole chain."""

        def cut(lines: list[bytes]) -> None:
            del lines[-3:]

        await self._tampered("cut", cut, "truncated")
        return "the last three records were cut off: what is left is whole, and too short"

    async def _tampered(self, name: str, change: Callable[[list[bytes]], None], fault: str) -> None:
        """Change a copy of the north's home, which must not verify any more, for the right reason."""
        home = self._root / name
        await asyncio.to_thread(shutil.copytree, self._realm.home(NORTH), home)
        (segment,) = (home / "audit").glob("*.jsonl")
        lines = segment.read_bytes().splitlines(keepends=True)
        change(lines)
        segment.write_bytes(b"".join(lines))
        await self._verify(home, fault)

    async def _verify(self, home: Path, fault: str) -> None:
        said = await self._skex(
            "audit", "verify", home, "--key", self._auditor,
            expected=_DAMAGED if fault else 0, only="WRONG|wrong|proved|line",
        )  # fmt: skip
        (log,) = said["logs"]
        wrong = {one["code"] for one in log["statements"] if one["verdict"] == "wrong"}
        wrong |= set() if log["problem"] is None else {log["problem"]["fault"]}
        if said["sound"] is bool(fault) or bool(fault) != (fault in wrong):
            raise failed(
                f"verifying found {', '.join(sorted(wrong)) or 'nothing'} instead of {fault or 'nothing'}"
            )

    # ── commands ────────────────────────────────────────────────────────────────────────────────
    async def _skex(
        self, *arguments: str | Path, home: str | None = None, expected: int = 0, only: str = "",
        once: bool = False, prose: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Run a command as people do, and show it; run it for its ``--json`` and return that.

        ``once`` is for one that changes something: it is run for its text alone, and returns nothing.
        ``prose`` is shown by its sentences.
        """
        where = () if home is None else ("--home", str(self._realm.home(home)))
        argv = (*SKEX, *map(str, arguments), *where)
        forms = (argv,) if once else (argv, (*argv, "--json"))
        outputs = await asyncio.gather(*(run(one) for one in forms))
        text = outputs[0]
        command = " ".join(("skex", *map(str, arguments), *where)).replace(f"{self._root}/", "")
        said = text.stdout.decode(errors="replace").replace(f"{self._root}/", "")
        shown = sentences(said) if prose else said or text.stderr
        self._transcript.add(command, text.code, shown, only)
        if any(one.code != expected for one in outputs):
            raise failed(f"{command} ended with {text.code} instead of {expected}")
        return {} if once else dict(json.loads(outputs[1].stdout))

    def _show_curl(self, kme: KmeName, slave: SaeId, answer: str) -> None:
        url = self._stage.sae(kme).curl(f"{slave}/enc_keys")[-1]
        self._transcript.add(f"curl --cert {SAES[kme]}.pem … {url}", 0, answer)

    async def _recorded(self, home: str, event: str, words: str) -> None:
        """Show the newest record of an event, once it has these words."""
        arguments = ("audit", "show", "--event", event, "--last", "1")
        said: list[str] = []

        async def written() -> bool:
            output = await run((*SKEX, *arguments, "--home", str(self._realm.home(home))))
            said.append(output.stdout.decode())
            return output.code == 0 and f" {words} " in said[-1]

        await until(written, f"the record of {event} at {home}", seconds=_RECORD_SECONDS)
        self._transcript.add(f"skex {' '.join(arguments)} --home {home}", 0, said[-1])


def _place(decided: Mapping[str, Any]) -> str:
    line = "" if decided["line"] is None else f" in line {decided['line']}"
    return f"{decided['rule']}{line}"
