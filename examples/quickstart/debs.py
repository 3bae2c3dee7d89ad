# SPDX-License-Identifier: Apache-2.0
"""Data that comes in Debian's and Ubuntu's packages: downloaded, checked and unpacked, never installed."""
import dataclasses
import gzip
import hashlib
import pathlib
import shutil
import subprocess


class Failed(Exception):
    """What could not be fetched, and what to do."""


@dataclasses.dataclass(frozen=True)
class Package:
    name: str
    version: str
    deb_sha256: str
    files: tuple          # patterns below usr/share of what is used
    content_sha256: str   # of those files, gunzipped: equal for every build of the same data
    licence: str


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def content_sha256(root, patterns):
    """Over the paths and contents of all files that match; what is gzipped counts as what it holds."""
    lines = []
    for path in sorted({p for pattern in patterns for p in root.glob(pattern) if p.is_file()}):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        lines.append(f"{path.relative_to(root).as_posix()} {sha256(data)}\n")
    return sha256("".join(sorted(lines)).encode())


def run(command, cwd):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not on this machine. The data comes as Debian/Ubuntu packages: fetch them on such a "
                     f"machine (`apt-get download NAME`) and put the .deb files into {cwd}") from error
    return done.returncode, done.stdout + done.stderr


def cached(cache, package):
    """The package's .deb, the pinned one before any other; None without."""
    found = sorted(cache.glob(f"{package.name}_*.deb"))
    return next((p for p in found if sha256(p.read_bytes()) == package.deb_sha256), found[0] if found else None)


def download(cache, packages):
    """Leaves a .deb of every package in `cache`; touches no network where all are there."""
    cache.mkdir(parents=True, exist_ok=True)

    def missing():
        return [p for p in packages if not cached(cache, p)]

    def get(names):
        return run(["apt-get", "download", *names], cache)[1] if names else ""

    if missing():
        print(f"downloading {', '.join(p.name for p in missing())}", flush=True)
    # The pinned versions first; a distribution that carries others may still hold the same data. Package lists may be
    # absent on a fresh machine, and refreshing them needs root.
    said = ""
    for refresh in (False, True):
        if refresh and missing():
            run(["apt-get", "-q", "update"], cache)
        get([f"{p.name}={p.version}" for p in missing()])
        said = "".join(get([p.name]) for p in missing())
    if missing():
        raise Failed(f"`apt-get download {' '.join(p.name for p in missing())}` failed (Debian has them in main, Ubuntu in "
                     f"universe); with the .deb files in {cache} no network is needed. It said:\n{said.strip()}")


def unpack(cache, package, folder):
    """Unpacks into `folder` and returns its usr/share. @throws Failed where the data is not what it should be"""
    deb = cached(cache, package)
    shutil.rmtree(folder, ignore_errors=True)
    code, text = run(["dpkg-deb", "-x", str(deb.resolve()), str(folder.resolve())], cache)
    if code != 0:
        raise Failed(f"dpkg-deb could not unpack {deb} (cut off? delete it, and it is fetched again): {text.strip()}")
    share = pathlib.Path(folder, "usr/share")
    found = content_sha256(share, package.files)
    if found != package.content_sha256:
        raise Failed(f"{deb}: its {', '.join(package.files)} are not the pinned data (SHA-256 {found}, expected "
                     f"{package.content_sha256}); {package.name} {package.version} has it: put that .deb there instead")
    return share
