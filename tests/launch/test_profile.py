# SPDX-License-Identifier: Apache-2.0
"""`veomni train --profile`: what the traces and the summary hold, and that they change no number."""
import json
import os
import subprocess
from collections import Counter

import pytest
import torch
from jobs import VEOMNI, Job, check_done, environment, launcher, run

LAYERS = [f"foundation.layers.{i}" for i in range(2)]
OPS = ["embedding", "linear", "linear_cross_entropy", "qk_norm_rope", "rms_norm", "swiglu", "varlen_attention"]
ACCUMULATION, STEPS = 2, ["step 3", "step 4"]
HOW = {"threads": [VEOMNI], "processes": launcher("veomni", 2)}
LOCAL = ["--comm.backend=local", "--mesh.dp_shard=2"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("profile"), parallel={"default": {"param_dtype": "float32", "recompute": "layer"}})
    job.recipe["train"]["accumulation"] = ACCUMULATION
    check_done(run(VEOMNI, "train", job.write("plain"), *LOCAL))
    for name, how in HOW.items():
        done = run(*how, "train", job.write(name), *(LOCAL if name == "threads" else []), "--profile-steps", "3..4")
        check_done(done)
        (job.folder / name / "printed.txt").write_text(done.stdout)
    return job


def spans_of(path):
    trace = json.loads(path.read_text())
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


@pytest.fixture(params=HOW)
def traced(request, job):
    folder = job.folder / request.param / "profile"
    assert sorted(file.name for file in folder.iterdir()) == ["rank_0.json", "rank_1.json", "summary.txt"]
    return [spans_of(folder / f"rank_{rank}.json") for rank in range(2)]


@pytest.mark.parametrize("name", HOW)
def test_no_bit_of_a_number_differs(job, name):
    assert job.losses(name) == job.losses("plain")
    ours, want = job.weights(name), job.weights("plain")
    assert ours.keys() == want.keys() and all(torch.equal(ours[key], want[key]) for key in ours)


def test_every_unit_op_and_phase_is_there(traced):
    for rank, spans in enumerate(traced):
        assert {span["pid"] for span in spans} == {rank}
        names = Counter((span["cat"], span["name"]) for span in spans)
        assert [name for category, name in names if category == "step"] == STEPS
        passes = len(STEPS) * ACCUMULATION
        for what in ("forward", "backward"):
            assert names["unit", f"model {what}"] == names["phase", what] == passes
            for layer in LAYERS:
                assert names["unit", f"{layer} {what}"] == passes
            for op in OPS:
                assert names["op", f"{op} {what}"] >= passes, op
        for layer in LAYERS:
            assert names["unit", f"{layer} recompute"] == passes
        for phase in ("data", "count", "losses", "clip", "optimizer"):
            assert names["phase", phase] == len(STEPS), phase
        # Forward, recompute and backward call as many, one a layer; recompute counts as forward.
        assert names["op", "qk_norm_rope forward"] == 2 * names["op", "qk_norm_rope backward"] == 2 * len(LAYERS) * passes


def test_every_collective_is_there_with_its_unit_and_bytes(traced):
    per_rank = []
    for spans in traced:
        calls = [span for span in spans if span["cat"] == "collective"]
        units = {(span["name"], span["args"].get("unit")) for span in calls}
        for layer in LAYERS:
            assert {("all_gather", layer), ("reduce_scatter", layer)} <= units
        # The global counts, the losses, the norm.
        assert sum(span["name"] == "all_reduce" for span in calls) >= 3 * len(STEPS)
        assert all(span["args"]["bytes"] > 0 and span["args"]["group"] for span in calls)
        waits = {span["name"] for span in spans if span["cat"] == "wait"}
        assert waits >= {"wait all_gather", "wait reduce_scatter", "wait all_reduce"}
        per_rank.append(Counter(span["name"] for span in calls))
    assert per_rank[0] == per_rank[1]


def test_spans_nest(traced):
    for spans in traced:
        for thread in {span["tid"] for span in spans}:
            mine = [span for span in spans if span["tid"] == thread]
            # Times are whole nanoseconds: as such they compare exactly.
            edges = [(round(span["ts"] * 1000), round((span["ts"] + span["dur"]) * 1000), span) for span in mine]
            edges.sort(key=lambda edge: (edge[0], -edge[1]))
            around = []
            for begin, end, span in edges:
                while around and around[-1][1] <= begin:
                    around.pop()
                assert not around or end <= around[-1][1], (span, around[-1][2])
                around.append((begin, end, span))
                inside = {outer["cat"] for _, _, outer in around[:-1]}
                if span["cat"] in ("op", "unit"):
                    assert {"step", "phase"} <= inside, span


@pytest.mark.parametrize("name", HOW)
def test_the_summary_adds_up(job, name):
    text = (job.folder / name / "profile" / "summary.txt").read_text()
    assert text in (job.folder / name / "printed.txt").read_text()
    assert "profile of steps 3 to 4, rank 0 of 2" in text and "INCOMPLETE" not in text
    rows = {line.split("  ")[0]: line.split()[-5:] for line in text.splitlines() if line and not line.startswith("  ")}
    phases = [float(rows[phase][0]) for phase in ("data", "count", "forward", "backward", "losses", "clip", "optimizer",
                                                  "between phases")]
    step = next(line.split() for line in text.splitlines() if line.startswith("step ") and "%" in line)
    assert abs(sum(phases) - float(step[1])) <= 0.01 * len(phases)
    assert float(rows["linear forward"][-1]) > 0, "GFLOP/s"
    for word in ("all_gather", "reduce_scatter", "foundation.layers.0", "2 ranks, ms a step", "without waiting"):
        assert word in text, word


def test_the_last_steps_of_a_short_run_by_default(job):
    done = run(VEOMNI, "train", job.write("default"), "--profile")
    check_done(done)
    assert "profile of steps 4 to 6, rank 0 of 1" in done.stdout
    steps = [span["name"] for span in spans_of(job.folder / "default/profile/rank_0.json") if span["cat"] == "step"]
    assert steps == ["step 4", "step 5", "step 6"]


def test_a_run_that_dies_leaves_the_steps_before(job):
    done = run(*HOW["processes"], "train", job.write("dies"), "--profile-steps", "1..6",
               VEOMNI_FAULT="rank=1,seq=70,kind=kill,at=inside")
    assert done.returncode != 0
    for rank in range(2):
        steps = [span["name"] for span in spans_of(job.folder / f"dies/profile/rank_{rank}.json") if span["cat"] == "step"]
        assert 1 <= len(steps) < 6 and steps == [f"step {i + 1}" for i in range(len(steps))]
    assert not (job.folder / "dies/profile/summary.txt").exists()


def test_steps_that_are_done_are_refused(job):
    check_done(run(VEOMNI, "train", job.write("resumed"), "--train.steps=3", "--checkpoint.every=3"))
    done = run(VEOMNI, "train", job.write("resumed"), "--profile-steps=2..4")
    assert done.returncode == 2 and "goes on from step 3" in done.stderr
    done = run(VEOMNI, "train", job.write("resumed"), "--profile")
    check_done(done)
    assert "profile of steps 4 to 6" in done.stdout


def test_ranks_that_profile_differently_are_refused(job):
    recipe = job.write("differ")
    ranks = [subprocess.Popen([VEOMNI, "train", str(recipe), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env=environment(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank),
                                                         LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29513",
                                                         TORCHELASTIC_RUN_ID=f"profile{os.getpid()}"))
             for rank, flags in enumerate([[], ["--profile"]])]
    said = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2], said
    assert "another job than rank 0" in said[0] + said[1]
    assert not (job.folder / "differ" / "profile").exists()
