# SPDX-License-Identifier: Apache-2.0
"""bin/layouts_test compares layouts on ranks that are processes: one rank's failure must be the job's."""
import os
import pathlib
import re

import pytest
from jobs import MPIRUN, ROOT, run

PROGRAM = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release")) / "bin/layouts_test"
HOW = {"launch": ([], {"VEOMNI_TEST_RANKS": "3"}), "mpirun": ([*MPIRUN, "-n", "3"], {})}


def layouts(how, chosen, **more):
    command, variables = HOW[how]
    # The results of this run are not among those that are counted.
    return run(*command, PROGRAM, f"--gtest_filter={chosen}", "--gtest_color=no", GTEST_OUTPUT="", **variables, **more)


@pytest.mark.parametrize("how", HOW)
def test_a_wrong_rank_fails_the_job(how):
    good = layouts(how, "OnRanks.*:LayoutParity.*")
    assert good.returncode == 0 and len(re.findall("PASSED.*? 4 tests", good.stdout)) == 3, good.stdout + good.stderr
    for wrong, words in (("fails", "found by the last rank"), ("throws", "thrown by the last rank")):
        bad = layouts(how, "*WrongRank*", VEOMNI_TEST_WRONG_RANK=wrong)
        assert bad.returncode != 0 and "FAILED" in bad.stdout and words in bad.stdout, bad.stdout + bad.stderr


@pytest.mark.parametrize("how", HOW)
def test_a_run_without_tests_is_no_success(how):
    assert layouts(how, "Nothing.*").returncode != 0


def test_ranks_are_asked_for():
    done = run(PROGRAM, VEOMNI_TEST_RANKS="1")
    assert done.returncode == 2 and "mpirun -n N" in done.stderr
