# SPDX-License-Identifier: Apache-2.0
"""transformers as the oracle: random small models, their gradients, and how far its own two attention paths differ."""
import json
import os
import pathlib
import subprocess

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from compare import gradient_errors, relative_error
from models import QWEN3

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ROOT = pathlib.Path(__file__).resolve().parents[2]
VEOMNI = os.environ.get("VEOMNI_BIN", str(ROOT / "build/release/bin/veomni"))


def veomni(*arguments, code=0):
    """Runs the program, expects an exit code, gives what it printed."""
    done = subprocess.run([VEOMNI, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def make_model(seed, row, config):
    """A model of a row of models.py, every tensor random: with HF's small initial weights many gradients would be near
    zero."""
    torch.manual_seed(seed)
    return randomize(row.model_class(row.config_class(**config)).float())


def randomize(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.08) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
    return model


def make_qwen3(seed, **config):
    return make_model(seed, QWEN3, config)


def make_batch(seed, vocab, lengths, padding="right"):
    """Rows of unequal length, padded; some labels inside are not counted either."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = len(lengths), max(lengths)
    ids = torch.randint(0, vocab, (rows, columns), generator=generator)
    mask = torch.zeros(rows, columns, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    labels = torch.where((mask == 1) & (torch.rand(rows, columns, generator=generator) > 0.2), ids, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def run_reference(model, batch, attention):
    """Logits, loss and gradients by transformers."""
    model.set_attn_implementation(attention)
    model.zero_grad()
    out = model(**batch)
    out.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": out.logits.detach(), "loss": out.loss.detach(), "gradients": gradients}


def run_forward(directory, batch, *arguments, grads=True):
    """What `veomni forward` writes, by name, and the gradients by the names of the directory's tensors."""
    save_file(batch, directory / "in.safetensors")
    flags = ["--grads"] if grads else []
    veomni("forward", directory, directory / "in.safetensors", directory / "out.safetensors", *flags, *arguments)
    out = load_file(directory / "out.safetensors")
    gradients = {name[len("grad."):]: tensor for name, tensor in out.items() if name.startswith("grad.")}
    return out, gradients


def run_veomni(directory, batch, *arguments, grads=True):
    out, gradients = run_forward(directory, batch, *arguments, grads=grads)
    return {"logits": out["logits"], "loss": out.get("loss"), "gradients": gradients}


def check_against(got, eager, sdpa, mask, tolerance=1e-5):
    """Every tensor within the tolerance, or 3 times the oracle's own uncertainty on that tensor where that is larger."""
    real = mask.bool()
    doubt = relative_error(eager["logits"][real], sdpa["logits"][real])
    assert relative_error(got["logits"][real], sdpa["logits"][real]) <= max(tolerance, 3 * doubt)
    assert relative_error(got["loss"], sdpa["loss"]) <= tolerance
    return check_gradients(got["gradients"], eager["gradients"], sdpa["gradients"], tolerance)


def check_gradients(got, eager, sdpa, tolerance=1e-5):
    assert set(got) == set(sdpa)
    errors, doubts = (gradient_errors(x, sdpa) for x in (got, eager))
    bad = {n: (e, doubts[n]) for n, e in errors.items() if not e <= max(tolerance, 3 * doubts[n])}
    assert not bad, bad
    return max(errors.values())


class EncoderReference:
    """An encoder of transformers, saved in a directory of its own, its features and the gradients of their sum with a
    cotangent."""

    def __init__(self, directory, seed, model):
        torch.manual_seed(seed)
        self.directory, self.model = directory, randomize(model.float())
        self.model.save_pretrained(directory)

    def run(self, attention, features, cotangent):
        self.model.set_attn_implementation(attention)
        self.model.zero_grad()
        out = features(self.model)
        (out * cotangent).sum().backward()
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                     for name, p in self.model.named_parameters()}
        return out.detach(), gradients

    def check(self, inputs, features, *arguments):
        """@param features  what the model makes of the same inputs, as a function of the model"""
        with torch.no_grad():
            cotangent = torch.randn(features(self.model).shape, generator=torch.Generator().manual_seed(5))
        eager, sdpa = (self.run(attention, features, cotangent) for attention in ("eager", "sdpa"))
        out, gradients = run_forward(self.directory, {**inputs, "cotangent": cotangent}, *arguments)
        doubt = relative_error(eager[0], sdpa[0])
        assert relative_error(out["features"], sdpa[0]) <= max(1e-5, 3 * doubt)
        return check_gradients(gradients, eager[1], sdpa[1])


def byte_tokenizer(directory):
    """One id a byte: text of printable characters is a list of ids that both sides read alike."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer


def read_metrics(output):
    return [json.loads(line) for line in (pathlib.Path(output) / "metrics.jsonl").read_text().splitlines()]
