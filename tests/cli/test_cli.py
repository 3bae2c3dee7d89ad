# SPDX-License-Identifier: Apache-2.0
"""The command line is a contract: its help is frozen in help.txt, its errors are one line and exit code 2.

After a wanted change:  VEOMNI_WRITE_HELP=1 .venv/bin/python -m pytest tests/cli
"""
import os
import pathlib
import resource
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VEOMNI = os.environ.get("VEOMNI_BIN", str(ROOT / "build/release/bin/veomni"))
FROZEN = HERE / "help.txt"
COMMANDS = [[], ["train"], ["forward"], ["generate"], ["eval"], ["models"], ["data"], ["data", "train-tokenizer"],
            ["data", "features"], ["launch"], ["docs"], ["docs", "recipe"]]

MODEL = """model: {foundation: {config: {model_type: qwen3, vocab_size: 256, hidden_size: 16, intermediate_size: 32,
  num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8}}}
"""


def run(*arguments, **options):
    return subprocess.run([VEOMNI, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


def all_help():
    pages = []
    for command in COMMANDS:
        done = run(*command, "--help")
        assert done.returncode == 0, done.stderr
        pages.append(f"$ veomni {' '.join([*command, '--help'])}\n{done.stdout}")
    return "\n".join(pages)


def test_help_is_frozen():
    now = all_help()
    if os.environ.get("VEOMNI_WRITE_HELP"):
        FROZEN.write_text(now)
    assert now == FROZEN.read_text()


def test_models_lists_what_is_registered():
    done = run("models")
    assert done.returncode == 0 and "Qwen3ForCausalLM" in done.stdout


@pytest.fixture
def recipe(tmp_path):
    """A recipe that trains two steps on bytes."""
    import tokenizers
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.jsonl").write_text('{"text": "some words to learn"}\n{"text": "and some more of them"}\n')
    text = MODEL + f"""
data: {{tokenizer: {tmp_path}/tokenizer.json, template: plain, sources: [{{name: a, path: {tmp_path}/a.jsonl}}]}}
train: {{steps: 2, micro_batch_tokens: 64}}
output: {tmp_path}/out
"""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def refused(*arguments, code=2):
    done = run(*arguments)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = [line for line in done.stderr.splitlines() if line.startswith("veomni:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_it_trains(recipe, tmp_path):
    done = run("train", recipe)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "hf" / "model.safetensors").exists()


MISTAKES = {
    "misspelt option": (["--print-pla"], "--print-plan"),
    "misspelt key": (["--optim.lrr=1"], "optim.lr"),
    "misspelt section": (["--trian.steps=1"], "did you mean 'train'"),
    "value out of range": (["--optim.lr=-1"], "at least 0"),
    "override without a value": (["--optim.lr"], "needs a value"),
    "mesh without ranks": (["--mesh.dp_shard=4"], "comm.backend: local"),
    "strategy unknown": (["--parallel.default.strategy=fsdp9"], "fsdp2"),
    "pattern that matches nothing": (["--optim.groups=[{pattern: nothing.*}]"], "matches no parameter"),
    "no such source": (["--data.sources=[{name: a, path: /nonexistent.jsonl}]"], "/nonexistent.jsonl"),
    "no such tokenizer": (["--data.tokenizer=/nonexistent"], "/nonexistent"),
    "no such model": (["--model.foundation={path: /nonexistent}"], "/nonexistent"),
    "vocabulary too small": (["--model.foundation.config.vocab_size=10"], "vocab_size"),
    "profiled steps that are no range": (["--profile-steps=7"], "A..B"),
    "profiled steps past the end": (["--profile-steps=2..3"], "train.steps is 2"),
    "no such checkpoint": (["--checkpoint.resume=/nonexistent"], "/nonexistent"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(recipe, tmp_path, case):
    arguments, expected = MISTAKES[case]
    assert expected in refused("train", recipe, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_launcher_without_a_backend_is_refused(recipe):
    done = run("train", recipe, env={**os.environ, "WORLD_SIZE": "8", "RANK": "0"})
    assert done.returncode == 2 and "WORLD_SIZE" in done.stderr


def test_missing_files_and_commands():
    assert "/nonexistent.yaml" in refused("train", "/nonexistent.yaml")
    assert "/nonexistent" in refused("generate", "/nonexistent", "--prompt", "a")
    assert "/nonexistent" in refused("forward", "/nonexistent", "a", "b")
    assert run("trian").returncode == 2
    assert run().returncode == 2


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_bad_records_are_skipped_and_counted_or_fatal(recipe, tmp_path, policy):
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write('{"text": \n')
    done = run("train", recipe, f"--data.on_bad_record={policy}")
    assert done.returncode == (0 if policy == "skip" else 1), done.stderr
    assert "a.jsonl:3" in done.stderr
    if policy == "skip":
        counted = run("train", recipe, "--check-data").stdout.splitlines()[1].split()
        assert counted[0] == "a" and counted[4] == "1", counted


def test_a_loss_that_is_not_finite_stops_before_the_update(recipe, tmp_path):
    said = refused("train", recipe, "--optim.lr=1e30", "--optim.clip=0", "--train.steps=50",
                   "--parallel.default.param_dtype=float32", code=1)
    assert "step" in said and "not updated" in said and "optim.lr" in said
    assert not (tmp_path / "out" / "hf").exists()


def test_a_full_disk_at_save_is_named_and_leaves_older_checkpoints(recipe, tmp_path):
    assert run("train", recipe, "--train.steps=4", "--checkpoint.every=2").returncode == 0
    before = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())

    def small_files():      # every file of this process ends at 8 KiB; the signal is ignored so that write() fails
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = run("train", recipe, "--train.steps=6", "--checkpoint.every=2", preexec_fn=small_files)
    assert done.returncode == 1 and "cannot write" in done.stderr and "checkpoints" in done.stderr, done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir()) == before
    assert run("train", recipe, "--train.steps=6", "--checkpoint.every=2").returncode == 0
