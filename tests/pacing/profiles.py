"""All simulated cases, with what is promised of each."""

from __future__ import annotations

from tests.pacing.job_profiles import JOB_CASES
from tests.pacing.load_profiles import LOAD_CASES
from tests.pacing.rate_profiles import RATE_CASES

CASES = [*RATE_CASES, *LOAD_CASES, *JOB_CASES]
