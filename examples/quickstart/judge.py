# SPDX-License-Identifier: Apache-2.0
"""Judges pictures a model drew by a classifier that has only ever seen real training pictures.

    judge.py --data DATA                                        trains the judge (cached in DATA/judge.pt)
    judge.py --data DATA --pictures DIR --eval EVAL_JSON        and adds what it says of DIR's pictures to EVAL_JSON

DIR holds draw/, draw_guided/ and reconstruct/, each with index.jsonl: {"file": "00003.png", "prompt": "Draw a sneaker",
"kind": ...} a line. Added are

    judge_accuracy                            on the official test pictures
    generation_agreement                      share of draw/ in which the judge sees what the prompt asked for
    generation_agreement_of_reconstructions   the same of reconstruct/: what the picture tokenizer lets through
    generation_agreement_relative             the first over the second
    generation_diversity                      distance between two pictures of one label, over that of reconstructions of
                                              real pictures; distance: root mean square over pixels, mean over all pairs
    guided_agreement, guided_diversity        as the two of draw/, of draw_guided/
    generation_unusable                       pictures of all three that are missing, unreadable or blank

An unusable picture is wrong, and its distance to every other is 0.
"""
import argparse
import hashlib
import json
import os
import pathlib
import sys
import tempfile
import time

import torch

import pictures
import png

SEED = 20
EPOCHS = 2
BATCH = 128
TOP_LR = 0.004
# Between the darkest and the brightest pixel of a picture that shows anything, of 255.
LEAST_RANGE = 16
PIXELS = pictures.SIDE * pictures.SIDE


def read_real(data, name):
    """(pixels [N, 1, 28, 28] from 0 to 1, labels [N]) of an image_*.jsonl."""
    path = data / f"{name}.jsonl"
    if not path.exists():
        sys.exit(f"judge.py: {path} is missing: run prepare.py --data {data} first")
    pixels, labels = pictures.read_labelled(path)
    x = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, 1, pictures.SIDE, pictures.SIDE)
    return x.float() / 255, torch.tensor(labels)


def make_network():
    def layer(inputs, outputs, size, stride=1):
        return [torch.nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
                torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]
    # 28 x 28, halved at once: most of the time would go into the first layer otherwise; then 14 x 14, then 7 x 7.
    return torch.nn.Sequential(*layer(1, 32, 5, stride=2), *layer(32, 64, 3), torch.nn.MaxPool2d(2), *layer(64, 64, 3),
                               torch.nn.Flatten(), torch.nn.Linear(64 * 49, 64), torch.nn.ReLU(),
                               torch.nn.Linear(64, len(pictures.LABELS)))


def train(x, y):
    """A network after EPOCHS over the pictures, the same on every run with as many threads."""
    torch.manual_seed(SEED)
    network = make_network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, TOP_LR, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def predict(network, x):
    with torch.no_grad():
        return torch.cat([network(part).argmax(1) for part in x.split(500)]) if len(x) else torch.zeros(0, dtype=torch.long)


def write_atomically(path, write):
    """Calls write(open binary file); the file appears under its name when it is whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as out:
        write(out)
    os.chmod(out.name, 0o644)
    os.replace(out.name, path)


def version(data):
    """Of what the judge is made from; another one means that it must be trained anew."""
    stamp = data / "prepared.json"
    made_of = [pathlib.Path(__file__), stamp] if stamp.exists() else [pathlib.Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()


def get_judge(data):
    """(network, accuracy on the official test pictures), trained at most once."""
    path, wanted = data / "judge.pt", version(data)
    network = make_network()
    try:
        cached = torch.load(path, weights_only=True)
        if cached["version"] == wanted:
            network.load_state_dict(cached["state"])
            return network.to(memory_format=torch.channels_last).eval(), cached["accuracy"]
    except Exception:   # none yet, or one that an interrupted or older run left: it is made anew
        pass
    begin = time.monotonic()
    network = train(*read_real(data, "image_train"))
    x, y = read_real(data, "image_test")
    accuracy = (predict(network, x) == y).double().mean().item()
    saved = {"version": wanted, "accuracy": accuracy, "state": network.state_dict()}
    write_atomically(path, lambda out: torch.save(saved, out))
    print(f"judge trained on {pictures.SIDE} x {pictures.SIDE} pictures, {EPOCHS} epochs, {time.monotonic() - begin:.0f} s")
    return network, accuracy


def read_drawn(path):
    """A picture's grey pixels from 0 to 1, or None where there is none to judge. Exits on one of another size."""
    try:
        width, height, channels, data = png.read(path.read_bytes())
    except (OSError, png.Unreadable) as error:
        print(f"note: {path} counts as wrong: {error}")
        return None
    if (width, height) != (pictures.SIDE, pictures.SIDE):
        sys.exit(f"judge.py: {path} is {width} x {height}; the judge knows pictures of {pictures.SIDE} x {pictures.SIDE}: "
                 "check the decoder's preprocessor.size")
    colours = channels if channels in (1, 3) else channels - 1   # without alpha
    x = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, channels)[:, :colours].float().mean(1)
    return x / 255 if x.max() - x.min() >= LEAST_RANGE else None


def read_folder(folder):
    """(pixels [N, 784], labels [N], usable [N]) of every line of the folder's index, zeros where not usable."""
    index = folder / "index.jsonl"
    if not index.exists():
        sys.exit(f"judge.py: {index} is missing: `veomni train` and `veomni eval` write it for metrics `generated` and "
                 "`reconstructed` of the recipe's eval.sources")
    rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    unknown = {row["prompt"] for row in rows} - set(pictures.LABEL_OF_PROMPT)
    if unknown or not rows:
        sys.exit(f"judge.py: {index}: " + (f"prompt {min(unknown)!r} is not the quickstart's" if unknown else "is empty"))
    # An empty name says that the model drew nothing.
    drawn = [read_drawn(folder / row["file"]) if row["file"] else None for row in rows]
    pixels = torch.stack([torch.zeros(PIXELS) if x is None else x for x in drawn])
    labels = torch.tensor([pictures.LABEL_OF_PROMPT[row["prompt"]] for row in rows])
    return pixels, labels, torch.tensor([x is not None for x in drawn])


def agreement(predicted, labels, usable):
    return ((predicted == labels) & usable).double().mean().item()


def spread(pixels, labels, usable):
    """Mean over labels of the mean distance between two pictures of it; None where no label has two."""
    means = []
    for label in labels.unique():
        chosen = labels == label
        count = int(chosen.sum())
        if count > 1:
            x = pixels[chosen & usable].double()
            distances = torch.pdist(x).sum() / PIXELS ** 0.5
            means.append(distances.item() / (count * (count - 1) / 2))
    return sum(means) / len(means) if means else None


def judged(network, folder):
    """(agreement, spread, number of unusable pictures)"""
    pixels, labels, usable = read_folder(folder)
    predicted = predict(network, pixels.view(-1, 1, pictures.SIDE, pictures.SIDE))
    return agreement(predicted, labels, usable), spread(pixels, labels, usable), int((~usable).sum())


def over(a, b):
    return a / b if a is not None and b else None


def measures(network, accuracy, folder):
    """What is added to the table; null where it cannot be said."""
    real, real_spread, bad_real = judged(network, folder / "reconstruct")
    drawn, drawn_spread, bad_drawn = judged(network, folder / "draw")
    guided, guided_spread, bad_guided = judged(network, folder / "draw_guided")
    return {"judge_accuracy": accuracy, "generation_agreement": drawn, "generation_agreement_of_reconstructions": real,
            "generation_agreement_relative": over(drawn, real), "generation_diversity": over(drawn_spread, real_spread),
            "guided_agreement": guided, "guided_diversity": over(guided_spread, real_spread),
            "generation_unusable": bad_real + bad_drawn + bad_guided}


def add_to_table(path, added):
    """Puts the measures after those already in the JSON file, or in the place of earlier ones."""
    if not path.exists():
        sys.exit(f"{path} is missing: `veomni train` and `veomni eval --out` write it")
    table = json.loads(path.read_text(encoding="utf-8"))
    table.update(added)
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda out: out.write(text.encode("utf-8")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--pictures", type=pathlib.Path, help="<output>/pictures of `veomni train` or `veomni eval`")
    parser.add_argument("--eval", type=pathlib.Path, help="the JSON table to add to")
    args = parser.parse_args()
    if (args.pictures is None) != (args.eval is None):
        parser.error("--pictures and --eval belong together")
    network, accuracy = get_judge(args.data)
    print(f"{'judge_accuracy':<42}{accuracy:.4f}")
    if args.pictures:
        added = measures(network, accuracy, args.pictures)
        add_to_table(args.eval, added)
        for name, value in list(added.items())[1:]:
            print(f"{name:<42}{value if value is None or isinstance(value, int) else format(value, '.4f')}")


if __name__ == "__main__":
    main()
