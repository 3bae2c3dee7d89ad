# SPDX-License-Identifier: Apache-2.0
"""Runs every test (GoogleTest binaries by ctest, Python tests by one pytest) and counts them.

A failure, a skip, a test program that left no result, and a group with fewer tests than
tests/expected_counts.txt says all make the run fail. The last line is `N passed, N failed`.
"""
import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUNTS = ROOT / "tests" / "expected_counts.txt"


class Tally:
    """Cases by group, such as gtest/base or pytest/layering."""

    def __init__(self):
        self.passed, self.failed, self.skipped = Counter(), Counter(), Counter()
        self.problems = []

    def add_junit(self, path, group_of):
        for case in ET.parse(path).getroot().iter("testcase"):
            group = group_of(case)
            skipped = case.find("skipped") is not None or case.get("status") == "notrun"
            broken = case.find("failure") is not None or case.find("error") is not None
            kind = self.failed if broken else self.skipped if skipped else self.passed
            kind[group] += 1
            if broken or skipped:
                word = "FAILED" if broken else "SKIPPED (counts as failed)"
                self.problems.append(f"{word}: {group}: {case.get('classname')}.{case.get('name')}")

    def check_counts(self, expected):
        for group, minimum in expected.items():
            ran = self.passed[group] + self.failed[group] + self.skipped[group]
            if ran < minimum:
                self.problems.append(f"MISSING: {group} ran {ran} tests, tests/expected_counts.txt expects {minimum}")

    def groups(self):
        return sorted(set(self.passed) | set(self.failed) | set(self.skipped))


def environment(build_dir, results):
    threads = str(os.cpu_count())
    return dict(
        os.environ,
        GTEST_OUTPUT=f"xml:{results}/gtest/",
        VEOMNI_BUILD_DIR=str(build_dir),
        VEOMNI_BIN=str(build_dir / "bin" / "veomni"),
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", threads),
        # Several test programs share the cores: a thread that waits must sleep, not spin.
        OMP_WAIT_POLICY="passive",
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_OFFLINE="1",
        PYTHONDONTWRITEBYTECODE="1",
    )


def program(path):
    """The library that a result belongs to; GoogleTest numbers further results of one program."""
    return re.sub(r"_test(_\d+)?$", "", path.stem)


def run_ctest(args, tally, results, env):
    ctest = ROOT / ".venv/bin/ctest"
    command = [str(ctest) if ctest.exists() else "ctest", "--test-dir", str(args.build_dir), "--output-on-failure",
               "--no-tests=error", "--timeout", "600", "-j", str(os.cpu_count()), "--output-junit",
               str(results / "ctest.xml"), *args.ctest]
    code = subprocess.run(command, env=env, stdin=subprocess.DEVNULL).returncode
    written = sorted((results / "gtest").glob("*.xml"))
    for path in written:
        tally.add_junit(path, lambda case, name=program(path): f"gtest/{name}")
    if code != 0 and not tally.problems:
        tally.problems.append(f"FAILED: ctest ended with code {code} (a program crashed or timed out)")
    if (results / "ctest.xml").exists():
        # A program that crashed wrote no cases of its own.
        names = {program(path) for path in written}
        for case in ET.parse(results / "ctest.xml").getroot().iter("testcase"):
            if case.get("name") in names:
                continue
            bad = case.find("failure") is not None or case.get("status") not in ("run", None)
            (tally.failed if bad else tally.passed)["ctest/" + case.get("name")] += 1
            if bad:
                tally.problems.append(f"FAILED: ctest {case.get('name')}")


def run_pytest(args, tally, results, env):
    xml = results / "pytest.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "tests/pytest.ini"), "--rootdir", str(ROOT),
               "-p", "no:cacheprovider", "--durations=5", f"--junitxml={xml}", *(args.pytest or [str(ROOT / "tests")])]
    code = subprocess.run(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL).returncode
    if not xml.exists():
        tally.problems.append(f"FAILED: pytest ended with code {code} and left no result")
        return
    before = len(tally.problems)
    tally.add_junit(xml, lambda case: "pytest/" + ".".join((case.get("classname") or "").split(".")[1:2]))
    if code != 0 and len(tally.problems) == before:
        tally.problems.append(f"FAILED: pytest ended with code {code}")


def read_counts():
    lines = (line.split("#")[0].split() for line in COUNTS.read_text().splitlines()) if COUNTS.exists() else ()
    return {fields[0]: int(fields[1]) for fields in lines if fields}


def write_counts(tally):
    rows = [f"{group} {tally.passed[group]}" for group in tally.groups()]
    COUNTS.write_text("# Tests that must run, by group. tools/run_tests.py --update-counts rewrites this file.\n"
                      + "\n".join(rows) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--only", choices=["ctest", "pytest"], help="one part; then the expected counts are not checked")
    parser.add_argument("--update-counts", action="store_true", help="write tests/expected_counts.txt after a clean run")
    parser.add_argument("--ctest", type=shlex.split, default=[], help="further arguments, as in --ctest='-R io'")
    parser.add_argument("--pytest", type=shlex.split, help="what pytest runs instead of tests/")
    args = parser.parse_args()
    args.build_dir = args.build_dir.resolve()

    results = args.build_dir / "test-results"
    shutil.rmtree(results, ignore_errors=True)   # a result of an earlier run must not count
    (results / "gtest").mkdir(parents=True)
    env, tally, seconds = environment(args.build_dir, results), Tally(), {}
    for name, run in (("ctest", run_ctest), ("pytest", run_pytest)):
        if args.only in (None, name):
            begin = time.monotonic()
            run(args, tally, results, env)
            seconds[name] = time.monotonic() - begin
    if args.update_counts and not tally.problems:
        write_counts(tally)
    if args.only is None:
        tally.check_counts(read_counts())

    print("\ngroup                         passed  failed  skipped")
    for group in tally.groups():
        print(f"{group:<28} {tally.passed[group]:7} {tally.failed[group]:7} {tally.skipped[group]:8}")
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    for problem in tally.problems:
        print(problem)
    failed = max(sum(tally.failed.values()) + sum(tally.skipped.values()), len(tally.problems))
    print(f"{sum(tally.passed.values())} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
