# SPDX-License-Identifier: Apache-2.0
"""Command lines whose mistakes end with one line and code 2."""
import argparse
import difflib
import pathlib


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def at_least(least, number=int):
    """A type for add_argument."""
    def parse(text):
        try:
            value = number(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is less than {least}" if value < least else f"{text} is no number to count to")
        return value
    return parse


def names(parser, option, text, known):
    """The names in `text`, commas between, each once; an unknown one is refused with those near it."""
    found = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
            parser.error(f"{option}: no '{name}'" + (f"; did you mean {' or '.join(near)}?" if near else "") +
                         f" There are: {', '.join(known)}")
    return found


def program(parser, option, path, cure):
    """`path`, refused unless it is a file that can be run."""
    if not path.is_file() or not path.stat().st_mode & 0o111:
        parser.error(f"{option}: {path} {'cannot be run' if path.exists() else 'does not exist'}; {cure}")
    return path


def output_folder(parser, path):
    path = path.resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {path}: {error.strerror}")
    return path


def existing_file(text):
    path = pathlib.Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no file {path}")
    return path
