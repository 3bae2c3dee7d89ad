# SPDX-License-Identifier: Apache-2.0
"""What chance and a linear classifier reach on the quickstart's own splits: what a model must beat to have learned more.

    probe.py --data DATA --eval EVAL_JSON...

Adds to each table image_chance and audio_chance (always the most frequent answer of the test records),
image_linear_probe (multinomial logistic regression on the pixels) and audio_linear_probe (the same on the mean and the
standard deviation over time of the log-spectrum), all as shares of right answers on the test records.
"""
import argparse
import collections
import pathlib
import time

import torch

import judge
import sounds

FRAME, STEP = 256, 128   # samples: 32 and 16 ms
STEPS = 2000
BATCH = 500
TOP_LR = 0.002           # falls to 0 along a cosine
PENALTY = 1e-4           # on half the squared weights, beside the mean cross-entropy


def logistic_regression(x, y, classes):
    """(weights [F, C], biases [C]), from zero by Adam over the rows in turn: the problem is convex, so no seed matters."""
    weights, biases = torch.zeros(x.shape[1], classes, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.Adam([weights, biases], lr=TOP_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    batches = list(zip(x.split(BATCH), y.split(BATCH)))
    for step in range(STEPS):
        rows, wanted = batches[step % len(batches)]
        loss = torch.nn.functional.cross_entropy(rows @ weights + biases, wanted) + PENALTY / 2 * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return weights.detach(), biases.detach()


def accuracy(train, test, classes):
    """Of a linear classifier of features scaled to the training set's means and standard deviations."""
    (x, y), (test_x, test_y) = train, test
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-2)   # a pixel that is almost always black stays small
    weights, biases = logistic_regression((x - mean) / deviation, y, classes)
    scores = (test_x - mean) / deviation @ weights + biases
    return (scores.argmax(1) == test_y).double().mean().item()


def chance(labels):
    return max(collections.Counter(labels).values()) / len(labels)


def spectrum(samples):
    """[2 * (FRAME / 2 + 1)] features of one clip of 16-bit samples."""
    x = torch.frombuffer(bytearray(samples), dtype=torch.int16).float() / 32768
    frames = x.unfold(0, FRAME, STEP) * torch.hann_window(FRAME)
    log_power = (torch.fft.rfft(frames).abs().square() + 1e-6).log()
    return torch.cat([log_power.mean(0), log_power.std(0)])


def read_sounds(data, name):
    clips = sounds.read_labelled(data / f"{name}.jsonl")
    answers = sorted(sounds.ANSWERS.values())
    return torch.stack([spectrum(samples) for samples, _ in clips]), torch.tensor([answers.index(a) for _, a in clips])


def read_pictures(data, name):
    x, y = judge.read_real(data, name)
    return x.flatten(1), y


def measures(data):
    result = {}
    for modality, read in (("image", read_pictures), ("audio", read_sounds)):
        train, test = (read(data, f"{modality}_{part}") for part in ("train", "test"))
        result[f"{modality}_chance"] = chance(test[1].tolist())
        result[f"{modality}_linear_probe"] = accuracy(train, test, int(train[1].max()) + 1)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--eval", type=pathlib.Path, nargs="+", required=True, help="the JSON tables to add to")
    args = parser.parse_args()
    begin = time.monotonic()
    added = measures(args.data)
    for path in args.eval:
        judge.add_to_table(path, added)
    for name, value in added.items():
        print(f"{name:<42}{value:.4f}")
    print(f"linear probes: {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
