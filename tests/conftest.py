"""What every test shares: how hard hypothesis tries, chosen by SKEX_HYPOTHESIS_PROFILE."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline and no check of slow generation: the machines are shared, and a busy one is no defect.
_UNHURRIED = [HealthCheck.too_slow]

settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=_UNHURRIED, print_blob=True
)
# The same examples in every run of the same code: a red run can be run again.
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    suppress_health_check=_UNHURRIED,
    print_blob=True,
    derandomize=True,
    database=None,
)
# One round of many: make test-deep goes round all tests with another seed, as often as there is time for.
settings.register_profile(
    "deep", max_examples=100, deadline=None, suppress_health_check=_UNHURRIED, print_blob=True
)
settings.load_profile(
    os.environ.get("SKEX_HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev")
)
