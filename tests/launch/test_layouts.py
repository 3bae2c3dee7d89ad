# SPDX-License-Identifier: Apache-2.0
"""bin/layouts_test compares layouts on ranks that are processes: one rank's failure must be the job's."""
import os
import pathlib
import re

import pytest
from jobs import MPIRUN, ROOT, run

PROGRAM = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release")) / "bin/layouts_test"
HOW = {"launch": ([], {"VEOMNI_TEST_RANKS": "3"}), "mpirun": ([*MPIRUN, "-n", "3"], {})}


def layouts(how, *words):
    command, variables = HOW[how]
    # The results of this run are not among those that are counted.
    return run(*command, PROGRAM, *words, GTEST_OUTPUT="", **variables)


@pytest.mark.parametrize("how", HOW)
def test_a_wrong_rank_fails_the_job(how):
    good = layouts(how, "--gtest_filter=OnRanks.TheWorld*:LayoutParity.*")
    assert good.returncode == 0 and len(re.findall("PASSED.*? 4 tests", good.stdout)) == 3, good.stdout + good.stderr
    for name, words in (("Fails", "comm.rank(), actual: 2 vs 2"), ("Throws", "thrown by the last rank")):
        bad = layouts(how, f"--gtest_filter=OnRanks.DISABLED_TheLastRank{name}", "--gtest_also_run_disabled_tests")
        assert bad.returncode != 0 and "FAILED" in bad.stdout and words in bad.stdout, bad.stdout + bad.stderr


@pytest.mark.parametrize("how", HOW)
def test_a_run_without_tests_is_no_success(how):
    assert layouts(how, "--gtest_filter=Nothing.*").returncode != 0


def test_ranks_are_asked_for():
    done = run(PROGRAM, VEOMNI_TEST_RANKS="1")
    assert done.returncode == 2 and "mpirun -n N" in done.stderr
