"""The life of a key: the table is complete, and what NIST calls each state follows its rules."""

from __future__ import annotations

from skex.keys.states import INITIAL, MEANINGS, PHASES, TABLE, KeyState, KeyStep, Phase

AFTER = {
    # NIST SP 800-57 part 1 revision 5, section 7, figure 3; a state may also stay. Keys that are not handed
    # out yet may rest here, too, and what rests may be taken up where it was.
    Phase.PRE_ACTIVATION: {Phase.ACTIVE, Phase.SUSPENDED, Phase.COMPROMISED, Phase.DESTROYED},
    Phase.ACTIVE: {Phase.SUSPENDED, Phase.DEACTIVATED, Phase.COMPROMISED, Phase.DESTROYED},
    Phase.SUSPENDED: {
        Phase.PRE_ACTIVATION,
        Phase.ACTIVE,
        Phase.DEACTIVATED,
        Phase.COMPROMISED,
        Phase.DESTROYED,
    },
    Phase.DEACTIVATED: {Phase.COMPROMISED, Phase.DESTROYED},
    Phase.COMPROMISED: {Phase.DESTROYED},
    Phase.DESTROYED: set[Phase](),
}


def test_every_state_has_a_phase_and_a_meaning() -> None:
    assert set(PHASES) == set(MEANINGS) == set(KeyState)


def test_no_transition_goes_where_the_standard_has_none() -> None:
    for (state, step), later in TABLE.items():
        before, after = PHASES[state], PHASES[later]
        assert before is after or after in AFTER[before], (state, step, later)


def test_every_state_can_be_reached_and_every_step_happens() -> None:
    reached = {INITIAL, *TABLE.values()}
    assert reached == set(KeyState)
    assert {step for _, step in TABLE} == set(KeyStep)


def test_nothing_comes_back_from_the_end() -> None:
    ends = set(KeyState) - {state for state, _ in TABLE}
    assert ends == {KeyState.ERASED, KeyState.COMPROMISED_IN_USE}
