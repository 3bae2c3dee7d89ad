# SPDX-License-Identifier: Apache-2.0
"""Training against PyTorch's optimizers on transformers' model, and a run against itself: resumed, sharded, repeated."""
import json
import pathlib
import random

import pytest
import torch
import transformers
from compare import relative_error
from reference import byte_tokenizer, make_qwen3, read_metrics, run_reference, veomni
from safetensors.torch import load_file

CONFIG = dict(vocab_size=256, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16)
STEPS, LENGTHS = 10, (40, 24)     # every micro-batch: two documents that fill it exactly


class Job:
    """A directory with a model, a tokenizer, documents of known lengths, and recipes on them."""

    def __init__(self, folder, tied=False, documents=2 * STEPS):
        self.folder = folder
        self.model = make_qwen3(7, **CONFIG, tie_word_embeddings=tied)
        self.model.save_pretrained(folder / "model")
        self.tokenizer = byte_tokenizer(folder)
        rng = random.Random(1)
        letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ.,;"
        self.texts = ["".join(rng.choice(letters[:26]) for _ in range(LENGTHS[i % 2])) for i in range(documents)]
        (folder / "texts.txt").write_text("".join(text + "\n" for text in self.texts))

    def recipe(self, name="run", **sections):
        recipe = {
            "model": {"foundation": {"path": str(self.folder / "model")}},
            "data": {"tokenizer": str(self.folder / "tokenizer.json"), "shuffle": False, "open_bins": 1,
                     "append_eos": False, "template": "plain",
                     "sources": [{"name": "texts", "path": str(self.folder / "texts.txt")}]},
            "parallel": {"default": {"param_dtype": "float32"}},
            "optim": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1, "decay_norms": True,
                      "clip": 1.0, "schedule": "constant"},
            "train": {"steps": STEPS, "micro_batch_tokens": sum(LENGTHS), "seed": 3},
            "output": str(self.folder / name),
        }
        for section, values in sections.items():
            recipe[section] = {**recipe.get(section, {}), **values} if isinstance(values, dict) else values
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(recipe))      # JSON is YAML
        return path

    def batch(self, step, per_step=2):
        rows = [self.tokenizer.encode(t).ids for t in self.texts[per_step * step:per_step * (step + 1)]]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for i, row in enumerate(rows):
            ids[i, :len(row)] = labels[i, :len(row)] = torch.tensor(row)
            mask[i, :len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def reference_steps(job, optimizer, clip, per_step=2):
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        out = job.model(**job.batch(step, per_step))
        out.loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(job.model.parameters(), clip).item())
        optimizer.step()
        losses.append(out.loss.item())
    return losses, norms


def exported(output):
    return load_file(pathlib.Path(output) / "hf" / "model.safetensors")


@pytest.mark.parametrize("tied", [False, True])
def test_ten_adamw_steps(tmp_path, tied):
    job = Job(tmp_path, tied)
    veomni("train", job.recipe())
    optimizer = torch.optim.AdamW(job.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    losses, norms = reference_steps(job, optimizer, 1.0)
    metrics = read_metrics(tmp_path / "run")
    assert [m["step"] for m in metrics] == list(range(1, STEPS + 1))
    for got, loss, norm in zip(metrics, losses, norms):
        assert abs(got["loss"] - loss) <= 1e-5 * loss
        assert abs(got["grad_norm"] - norm) <= 1e-4 * norm     # a norm of what AdamW made of earlier rounding


@pytest.mark.parametrize("tied", [False, True])
def test_ten_sgd_steps(tmp_path, tied):
    job = Job(tmp_path, tied)
    veomni("train", job.recipe(optim={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "clip": 0.0}))
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1, momentum=0.9)
    losses, _ = reference_steps(job, optimizer, 1e9)
    for got, loss in zip(read_metrics(tmp_path / "run"), losses):
        assert abs(got["loss"] - loss) <= 1e-5 * loss
    weights = exported(tmp_path / "run")
    for name, parameter in job.model.named_parameters():
        assert relative_error(weights[name], parameter) <= 1e-5, name


def test_accumulation_is_one_large_step(tmp_path):
    job = Job(tmp_path, documents=6 * STEPS)
    veomni("train", job.recipe(train={"accumulation": 3}, optim={"name": "sgd", "lr": 0.1, "clip": 0.0, "weight_decay": 0}))
    losses, _ = reference_steps(job, torch.optim.SGD(job.model.parameters(), lr=0.1), 1e9, per_step=6)
    for got, loss in zip(read_metrics(tmp_path / "run"), losses):
        assert abs(got["loss"] - loss) <= 1e-5 * loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_weights_change_no_bit(tmp_path, dtype):
    """Layouts that outlive an optimizer step would give the second step the first one's numbers."""
    job = Job(tmp_path, documents=8 * STEPS)
    rows = {}
    for name in ("never", "always", "auto"):
        recipe = job.recipe(name, train={"accumulation": 2}, ops={"linear": "own"}, memory={"packed_weights": name},
                            parallel={"default": {"param_dtype": dtype, "reshard_after_backward": False}})
        for ranks in (1, 2):
            veomni("train", recipe, f"--output={tmp_path}/{name}_{ranks}", f"--mesh.dp_shard={ranks}",
                   *(["--comm.backend=local"] if ranks > 1 else []))
            rows[name, ranks] = [(row["loss"], row["grad_norm"]) for row in read_metrics(tmp_path / f"{name}_{ranks}")]
    for (name, ranks), got in rows.items():
        assert len(got) == STEPS and got == rows["never", ranks], f"{name}, {ranks} ranks"


def test_frozen_and_slow_parts(tmp_path):
    job = Job(tmp_path)
    groups = [{"pattern": "foundation.layers.0.*", "lr": 0.0, "weight_decay": 0.0}]
    veomni("train", job.recipe(optim={"groups": groups}))
    before, after = dict(job.model.named_parameters()), exported(tmp_path / "run")
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith("model.layers.0."), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, dtype):
    job = Job(tmp_path, documents=50)
    common = dict(parallel={"default": {"param_dtype": dtype}}, data={**json.loads(job.recipe().read_text())["data"],
                                                                       "shuffle": True, "prefetch": 2},
                  checkpoint={"every": 4, "hf_dtype": "float32"})
    veomni("train", job.recipe("whole", **common))
    # The first part knows the same number of steps; it is stopped by its own end at the checkpoint of step 4 ...
    half = job.recipe("half", **common)
    veomni("train", half, "--train.steps=4")
    # ... and goes on to the end in a new process.
    said = veomni("train", half)
    assert "resumed from" in said
    strip = lambda rows: [(m["step"], m["loss"], m["grad_norm"], m["tokens"]) for m in rows]
    assert strip(read_metrics(tmp_path / "half")) == strip(read_metrics(tmp_path / "whole"))
    whole, halves = exported(tmp_path / "whole"), exported(tmp_path / "half")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_same_layout_twice_is_bit_equal_and_ranks_agree(tmp_path):
    job = Job(tmp_path, documents=8 * STEPS)
    sharded = dict(mesh={"dp_shard": 4}, comm={"backend": "local"})
    for name in ("a", "b"):
        veomni("train", job.recipe(name, **sharded))
    losses = {name: [m["loss"] for m in read_metrics(tmp_path / name)] for name in ("a", "b")}
    assert losses["a"] == losses["b"]
    veomni("train", job.recipe("one", train={"accumulation": 4}))      # the same global batches on one rank
    for got, want in zip(losses["a"], [m["loss"] for m in read_metrics(tmp_path / "one")]):
        assert abs(got - want) <= 1e-5 * want


def read_with_pytorch(directory):
    """A checkpoint as PyTorch's distributed checkpoint reads it, on one process."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    metadata = HuggingFaceStorageReader(str(directory)).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in metadata.items()}
    dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(directory)), no_dist=True)
    return tensors


def test_every_strategy_trains_alike_and_pytorch_reads_what_it_saves(tmp_path):
    job = Job(tmp_path, tied=True, documents=8 * STEPS)
    strategies = {"fsdp2": 1, "fsdp1": 1, "hsdp": 2, "ddp": 1, "replicate": 2}
    saved, losses = {}, {}
    for strategy, replicas in strategies.items():
        veomni("train", job.recipe(strategy, mesh={"dp_replicate": replicas, "dp_shard": 4 // replicas},
                                   comm={"backend": "local"}, checkpoint={"every": STEPS},
                                   parallel={"default": {"param_dtype": "float32", "strategy": strategy}}))
        losses[strategy] = [m["loss"] for m in read_metrics(tmp_path / strategy)]
        saved[strategy] = read_with_pytorch(tmp_path / strategy / "checkpoints" / f"step_{STEPS:08}")
    for strategy in strategies:
        for got, want in zip(losses[strategy], losses["fsdp2"]):
            assert abs(got - want) <= 1e-5 * want
        assert saved[strategy].keys() == saved["fsdp2"].keys()
        masters = [name for name in saved["fsdp2"] if name.startswith("model.")]
        assert len(masters) > 15
        assert max(relative_error(saved[strategy][name], saved["fsdp2"][name]) for name in masters) <= 1e-5


def test_the_saved_directory_opens_in_transformers_with_equal_logits(tmp_path):
    job = Job(tmp_path)
    veomni("train", job.recipe(train={"steps": 0}))      # build, load, export
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "hf", dtype=torch.float32)
    inputs = {k: v for k, v in job.batch(0).items() if k != "labels"}
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, job.model(**inputs).logits)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "hf")("hello")["input_ids"] == \
        job.tokenizer.encode("hello").ids


def test_what_a_run_writes(tmp_path):
    job = Job(tmp_path)
    source = {"name": "held", "path": str(tmp_path / "texts.txt"),
              "metrics": ["loss", "perplexity", "bits_per_byte", "unigram_bits_per_byte"]}
    veomni("train", job.recipe(eval={"every": 5, "sources": [source], "samples": ["abc"], "generate": {"max_new_tokens": 5}}))
    out = tmp_path / "run"
    keys = {"step", "loss", "grad_norm", "lr", "tokens", "tokens_per_second", "step_ms", "mfu", "peak_rss_mib",
            "memory_live_mib", "memory_peak_mib", "memory_cached_mib"}
    metrics = read_metrics(out)
    assert all(keys <= set(m) for m in metrics)
    assert all(0 < m["memory_live_mib"] <= m["memory_peak_mib"] <= m["memory_cached_mib"] for m in metrics)
    assert "eval/held_loss" in metrics[4]
    table = json.loads((out / "eval.json").read_text())
    assert abs(table["held_bits_per_byte"] - table["held_loss"] / 0.6931471805599453) < 1e-9   # one byte a token
    assert table["held_unigram_bits_per_byte"] > 0 and len(table["samples"]) == 1
    assert "<canvas" in (out / "report.html").read_text() and list(out.glob("events.out.tfevents.*"))
    # A new process on the saved directory gets the same table, byte for byte.
    veomni("eval", tmp_path / "run.yaml", "--checkpoint", out / "hf", "--out", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (out / "eval.json").read_bytes()
    # The report's loss of the held-out texts is transformers' too.
    trained = transformers.AutoModelForCausalLM.from_pretrained(out / "hf", dtype=torch.float32)
    nll = count = 0
    for step in range(STEPS):
        batch = job.batch(step)
        targets = (batch["labels"][:, 1:] != -100).sum().item()
        with torch.no_grad():
            nll += trained(**batch).loss.item() * targets
        count += targets
    assert abs(table["held_loss"] - nll / count) <= 1e-5 * table["held_loss"]
