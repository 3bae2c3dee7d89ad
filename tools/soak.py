# SPDX-License-Identifier: Apache-2.0
"""The long checks. Each part's result is one row of docs/soak.md; a run of some parts updates only their rows.

    .venv/bin/python tools/soak.py [PART...]      parts: repeat faults quickstart bench asan tidy fuzz
"""
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/soak.md"
LOGS = ROOT / "out/soak"
PYTHON = sys.executable
FUZZ_TARGETS = ("fuzz_safetensors", "fuzz_tokenizer_json")
FUZZ_RUNS = 1_000_000
# Tests multiply the count of their random cases by this and draw new seeds from it.
REPEATS = 20
FAULTS = 20  # a place and a launcher
HEADER = """# Soak

What `make soak` found last, part by part. `make soak PARTS="fuzz asan"` runs some parts and updates their rows.
A row belongs to the commit and the date it names.

| part | result | date | commit | seconds | detail | machine |
|---|---|---|---|---|---|---|
"""


class Failed(Exception):
    """A part that did not pass; the text is its detail."""


def run(part, command, **env):
    """Runs a command with its output in the part's log; returns the output."""
    with open(LOGS / f"{part}.log", "a+") as log:
        start = log.tell()
        code = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, env=dict(os.environ, **env)).returncode
        log.seek(start)
        text = log.read()
    if code != 0:
        last = [line for line in text.splitlines() if line.strip()][-1:] or ["no output"]
        raise Failed(f"`{' '.join(map(str, command))}` ended with code {code}: {last[0][:200]}")
    return text


QUICKSTART_SEEDS = (1, 2, 3)


def last_line(text):
    return [line for line in text.splitlines() if line.strip()][-1]


def repeat():
    text = run("repeat", [PYTHON, "tools/run_tests.py", "--only", "ctest", "--ctest=--repeat until-fail:3 --timeout 7200"],
               VEOMNI_TEST_REPEATS=str(REPEATS))
    return f"{last_line(text)}; random cases x {REPEATS}, three runs in a row"


def faults():
    """Ranks killed in forward, in backward and inside a collective, under both launchers."""
    text = run("faults", [PYTHON, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ROOT, "-p", "no:cacheprovider", "-q",
                          "tests/launch", "-k", "killed"],
               VEOMNI_FAULT_REPEATS=str(FAULTS), VEOMNI_BIN=str(ROOT / "build/release/bin/veomni"), OMP_NUM_THREADS="1")
    return f"{last_line(text)}; each place x {FAULTS}"


def quickstart():
    """Every limit must hold for every seed: run.sh fails where one does not."""
    runs = []
    for seed in QUICKSTART_SEEDS:
        text = run("quickstart", ["examples/quickstart/run.sh"], VEOMNI_SEED=str(seed))
        table = json.loads((ROOT / "out/quickstart/omni/eval.json").read_text())
        table["gloss ratio"] = table["gloss_bits_per_byte"] / table["gloss_unigram_bits_per_byte"]
        table["TFLOP"] = float(re.search(r"^training TFLOP\D+([\d.]+)", text, re.M)[1])
        table["seconds"] = float(re.search(r"^wall clock\D+(\d+)", text, re.M)[1])
        runs.append(table)

    def span(key, digits=3):
        values = [table[key] for table in runs]
        return f"{min(values):.{digits}f}..{max(values):.{digits}f}"

    return (f"seeds {', '.join(map(str, QUICKSTART_SEEDS))}: picture labels {span('image_accuracy')}, "
            f"speech {span('audio_accuracy')}, glosses {span('gloss ratio')} of unigram bits, drawings "
            f"{span('generation_agreement_relative')} of reconstructions' agreement "
            f"({span('generation_agreement_of_reconstructions')}), diversity {span('generation_diversity')}, "
            f"{span('TFLOP', 1)} TFLOP, {span('seconds', 0)} s")


def bench():
    run("bench", [PYTHON, "bench/compare/compare.py", "--case", "dense_bf16", "--rounds", "5"])
    result = json.loads((ROOT / "out/bench/compare.json").read_text())[0]
    ratios = result["ratios"][result["best_peer"]]
    return (f"tokens/s against {result['best_peer']}: {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}], "
            f"{len(ratios)} rounds")


def asan():
    run("asan", ["tools/build.sh", "asan"])
    text = run("asan", [PYTHON, "tools/run_tests.py", "--only", "ctest", "--build-dir", "build/asan",
                        "--ctest=--timeout 3600"],
               ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1", UBSAN_OPTIONS="print_stacktrace=1")
    return f"{last_line(text)} under ASan + UBSan"


def tidy():
    return last_line(run("tidy", [PYTHON, "tools/tidy.py"]))


def fuzz():
    run("fuzz", ["tools/build.sh", "fuzz", *FUZZ_TARGETS])
    details = []
    for target in FUZZ_TARGETS:
        corpus = ROOT / "build/fuzz/corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests/fuzz/corpus" / target.removeprefix("fuzz_")
        text = run("fuzz", [f"build/fuzz/bin/{target}", f"-runs={FUZZ_RUNS}", "-max_len=4096", "-timeout=10",
                            "-rss_limit_mb=4096", "-print_final_stats=1", f"-artifact_prefix={LOGS}/{target}-", corpus,
                            *([seeds] if seeds.is_dir() else [])])
        done = int(re.search(r"number_of_executed_units:\s*(\d+)", text)[1])
        if done < FUZZ_RUNS:
            raise Failed(f"{target} ran {done} of {FUZZ_RUNS} inputs")
        details.append(f"{target} {done:,} inputs")
    return ", ".join(details) + ", no finding, under ASan + UBSan"


PARTS = {"repeat": repeat, "faults": faults, "quickstart": quickstart, "bench": bench, "asan": asan, "tidy": tidy, "fuzz": fuzz}


def commit():
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    # The page itself changes while soak runs; it is no part of what was tested.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)docs/soak.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" + changes" if changed else "")


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{cpu[1].strip() if cpu else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def write_row(part, cells):
    old = PAGE.read_text().splitlines() if PAGE.exists() else []
    rows = {line.split("|")[1].strip(): line for line in old if line.startswith("| ") and line.split("|")[1].strip() in PARTS}
    rows[part] = "| " + " | ".join([part, *(str(cell).replace("|", "/") for cell in cells)]) + " |"
    PAGE.write_text(HEADER + "".join(rows[name] + "\n" for name in PARTS if name in rows))


def main():
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        sys.exit(f"soak.py: unknown part {unknown[0]!r}; parts: {' '.join(PARTS)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    failures = []
    for part in wanted:
        (LOGS / f"{part}.log").write_text("")
        print(f"soak: {part} ... ", end="", flush=True)
        begin = time.monotonic()
        try:
            result, detail = "passed", PARTS[part]()
        except (Failed, OSError, KeyError, TypeError, ValueError) as error:
            result, detail = "FAILED", " ".join(str(error).split()) or type(error).__name__
            failures.append(part)
        seconds = round(time.monotonic() - begin)
        print(f"{result} ({seconds} s): {detail}", flush=True)
        write_row(part, [result, datetime.date.today().isoformat(), commit(), seconds, detail, machine()])
    print(f"soak: {len(wanted) - len(failures)} parts passed, {len(failures)} failed; logs in {LOGS.relative_to(ROOT)}/")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
