# SPDX-License-Identifier: Apache-2.0
"""Links in the documents lead somewhere, and the commands they show exist."""
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTED = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT,
                        capture_output=True, text=True, check=False).stdout.split()
# A source archive has no git: every document outside what a build makes.
DOCUMENTS = LISTED or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.md")
                       if not p.relative_to(ROOT).parts[0] in ("build", "out", "data", ".venv", ".cache")]


def prose(text):
    return re.sub(r"```.*?```", "", text, flags=re.S)


def anchors(text):
    """Headings as the forges turn them into fragment names."""
    heads = re.findall(r"^#+ +(.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def test_there_are_documents():
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_links_lead_somewhere(name):
    text, broken = (ROOT / name).read_text(), []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (fragment and file.suffix == ".md" and fragment not in anchors(file.read_text())):
            broken.append(target)
    assert broken == []


def test_make_targets_named_in_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set()
    for name in DOCUMENTS:
        named |= set(re.findall(r"[`\n ]make ([a-z]+)`", (ROOT / name).read_text()))
        for block in re.findall(r"```.*?```", (ROOT / name).read_text(), re.S):
            named |= set(re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z]+)", block, re.M))
    assert {"quickstart", "test", "build"} <= named
    assert named <= targets


def test_headers_named_in_architecture_exist():
    named = set(re.findall(r"`veomni/(\w+)/(\w+\.h)`", (ROOT / "ARCHITECTURE.md").read_text()))
    assert len(named) > 15
    assert [f"{lib}/{name}" for lib, name in sorted(named)
            if not (ROOT / "libs" / lib / "include/veomni" / lib / name).is_file()] == []


def test_contributing_is_short_enough_to_be_read():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60
