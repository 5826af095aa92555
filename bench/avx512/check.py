"""The AVX-512 code of temper-kernels, run on an emulated processor that has AVX-512.

usage: check.py --cache FOLDER --work FOLDER
`cargo xtask e2e avx512` names both. The emulator is Bochs, built from source with two repairs (below); its guest is a
Debian kernel whose only program is a shell that runs the crate's own tests, linked statically, one after another. What is
fetched comes from Debian through apt, once, pinned by hash, and lies in the cache. A C compiler, a C++ compiler, make,
apt and dpkg must be there, 500 MB of disk, and some twenty minutes.

Two guests: a processor with AVX-512 BF16, and the same without it. Emulation says whether the code is right as the
instructions are documented. It says nothing of speed, and nothing of what real processors do beyond the documents.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pycdlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402

# Package, path in Debian's archive, sha256. Bookworm's kernel may be replaced by a newer one: the hint below says so.
BOCHS = ("b/bochs/bochs_3.0+dfsg.orig.tar.xz", "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b")
PACKAGES = [
    (
        "l/linux-signed-amd64/linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb",
        "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791",
    ),
    (
        "b/busybox/busybox-static_1.35.0-4+deb12u1+b1_amd64.deb",
        "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744",
    ),
    (
        "s/syslinux/isolinux_6.04~git20190206.bf6db5b4+dfsg1-3_all.deb",
        "cb14af88adc2c3844976cd2de61571d2af94d2fb65c277fe4acf3dc8a5d25aae",
    ),
    (
        "s/syslinux/syslinux-common_6.04~git20190206.bf6db5b4+dfsg1-3_all.deb",
        "f7e4ead7fdfe5cb6117d8d2485d75e53570a8cf680c81a432f92c1774f878875",
    ),
    (
        "b/bochs/bochsbios_2.7+dfsg-4+deb12u1_all.deb",
        "ab91713fab14c3ad27146fa60ad9f1ce3750fdb6f9e21bef0d5aa0d4af2ff429",
    ),
    ("v/vgabios/vgabios_0.8a+ds-2_all.deb", "921cca705c76139df423782979c3e4fe93a246ae3adc143ba17a321decf3544b"),
]

# What is wrong in Bochs 3.0 with AVX-512 BF16; probe.c fails without either.
REPAIRS = [
    # A short displacement of vdpbf16ps counts whole vectors, not words of 32 bits.
    (
        "cpu/decoder/ia_opcodes_evex.def",
        "&BX_CPU_C::VDPBF16PS_MASK_VpsHdqWdqR, BX_ISA_AVX512_BF16, OP_Vps, OP_Hdq, OP_mVdq32,",
        "&BX_CPU_C::VDPBF16PS_MASK_VpsHdqWdqR, BX_ISA_AVX512_BF16, OP_Vps, OP_Hdq, OP_mVdq,",
    ),
    # The upper half of vcvtne2ps2bf16 was read from beyond its operand.
    (
        "cpu/avx/avx512_bf16.cc",
        "dst.vmm16u(n) = convert_ne_fp32_to_bfloat16(op1.vmm32u(n));",
        "dst.vmm16u(n) = convert_ne_fp32_to_bfloat16(op1.vmm32u(n - DWORD_ELEMENTS(len)));",
    ),
]
CONFIGURE = (
    "--with-nogui --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex --enable-memtype "
    "--enable-long-phy-address --enable-all-optimizations --disable-plugins --disable-debugger --disable-debugger-gui "
    "--disable-docbook"
).split()

# The emulated processors and the instruction sets that the tests must have found on each, the best first.
GUESTS = [
    ("with bf16", "model=sapphire_rapids", "avx512_bf16 avx512 avx2 x86_64"),
    ("without bf16", 'model=sapphire_rapids, exclude_features="avx512bf16,avx512fp16"', "avx512 avx2 x86_64"),
]
# Bochs says FSRM while it leaves "fast strings" off, which this kernel's memmove cannot bear (clearcpuid=580). With five
# levels of pages the kernel stopped after a second, before its first program.
KERNEL_ARGUMENTS = "console=ttyS0,115200 rdinit=/init quiet mitigations=off nokaslr lpj=1000000 clearcpuid=580 no5lvl"

TESTS = ["temper_kernels", "parity", "gradients"]
TARGET = "x86_64-unknown-linux-gnu"


def run(command, **more):
    """Runs to the end, silently; a failure ends the check with the command's last lines."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if done.returncode:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
        sys.exit(f"`{' '.join(map(str, command))}` failed with status {done.returncode}:\n{tail}")
    return done.stdout.decode(errors="replace")


def fetched(cache, path, sha256):
    """The file of Debian's archive, fetched if it is not there."""
    file = cache / path.rpartition("/")[2]
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()
        site = next((site for site in sites if site.endswith("/debian")), None)
        if site is None:
            sys.exit(f"apt names no Debian archive to fetch {file.name} from; it names {sites}")
        print(f"fetching {file.name}", flush=True)
        helper = ["/usr/lib/apt/apt-helper", "download-file", f"{site}/pool/main/{path}", str(file), f"SHA256:{sha256}"]
        done = subprocess.run(helper, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            file.unlink(missing_ok=True)
            why = done.stderr.decode(errors="replace").strip()
            sys.exit(
                f"{file.name} could not be fetched: {why}\nhint: if the archive holds a newer version (`apt-cache show "
                "NAME`), put its path and sha256 into bench/avx512/check.py"
            )
    return file


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def bochs(cache):
    """The emulator, built if what it is built from changed."""
    wanted = json.dumps([BOCHS, REPAIRS, CONFIGURE])
    folder = cache / "bochs"
    binary, stamp = folder / "bochs", folder / "made-from.json"
    if stamp.is_file() and stamp.read_text() == wanted:
        return binary
    source = fetched(cache, *BOCHS)
    print("building Bochs 3.0 (some minutes)", flush=True)
    fresh(folder)
    run(["tar", "-xf", source, "-C", folder, "--strip-components=1"])
    for name, old, new in REPAIRS:
        text = (folder / name).read_text(encoding="utf-8", errors="surrogateescape")
        if text.count(old) != 1:
            sys.exit(f"{name} of Bochs: expected one place to repair, found {text.count(old)}")
        (folder / name).write_text(text.replace(old, new), encoding="utf-8", errors="surrogateescape")
    run(["./configure", *CONFIGURE, "CFLAGS=-O2", "CXXFLAGS=-O2"], cwd=folder)
    run(["make", f"-j{os.cpu_count()}"], cwd=folder)
    stamp.write_text(wanted)
    return binary


def unpacked(cache):
    """The guest's packages, unpacked but not installed."""
    folder = cache / "packages"
    stamp = folder / "made-from.json"
    if not stamp.is_file() or stamp.read_text() != json.dumps(PACKAGES):
        files = [fetched(cache, *package) for package in PACKAGES]
        fresh(folder)
        for file in files:
            run(["dpkg-deb", "--extract", file, folder])
        stamp.write_text(json.dumps(PACKAGES))
    return folder


def programs(work):
    """The crate's tests and the probe, each one static file without debug information."""
    folder = fresh(work / "programs")
    environment = dict(os.environ, RUSTFLAGS="-C target-feature=+crt-static")
    command = [os.environ.get("CARGO", "cargo"), "test", "--release", "--package", "temper-kernels", "--no-run"]
    command += ["--target", TARGET, "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if built.returncode:
        sys.exit(f"`{' '.join(command)}` failed with status {built.returncode}")
    for line in map(json.loads, built.stdout.splitlines()):
        if line.get("executable") and line["target"]["name"] in TESTS:
            run(["strip", "--strip-debug", "-o", folder / line["target"]["name"], line["executable"]])
    missing = [name for name in TESTS if not (folder / name).is_file()]
    if missing:
        sys.exit(f"cargo built no test named {', '.join(missing)}")
    probe = pathlib.Path(__file__).with_name("probe.c")
    run(["cc", "-O1", "-static", "-o", folder / "probe", probe, "-lm"])
    return folder


def init(with_bf16):
    lines = ["#!/bin/sh", "mount -t proc proc /proc", "mount -t devtmpfs dev /dev", "grep -m1 ^flags /proc/cpuinfo"]
    # More threads than the one emulated core, so that work is dealt.
    lines += ["export RAYON_NUM_THREADS=3"]
    commands = (["probe"] if with_bf16 else []) + [f"{test} --test-threads 1 --nocapture" for test in TESTS]
    for command in commands:
        lines += [f"echo '=== {command.split()[0]}'", f"/tests/{command}", 'echo "=== exit $?"']
    # What is still in the serial port's buffer at power-off is lost.
    return "\n".join([*lines, "echo '=== end'", "sleep 1", "poweroff -f", ""]).encode()


def initramfs(busybox, programs, with_bf16):
    """A cpio archive as the kernel takes it (`newc`)."""
    out = bytearray()

    def add(name, mode, data=b"", device=(0, 0)):
        add.count += 1
        fields = (add.count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        out.extend(b"\0" * (-len(out) % 4) + data)
        out.extend(b"\0" * (-len(out) % 4))

    add.count = 0
    for folder in ("bin", "dev", "proc", "tests"):
        add(folder, 0o40755)
    add("dev/console", 0o20600, device=(5, 1))
    add("bin/busybox", 0o100755, busybox.read_bytes())
    for applet in ("sh", "mount", "grep", "sleep", "poweroff"):
        add(f"bin/{applet}", 0o120777, b"busybox")
    for file in sorted(programs.iterdir()):
        add(f"tests/{file.name}", 0o100755, file.read_bytes())
    add("init", 0o100755, init(with_bf16))
    add("TRAILER!!!", 0)
    return bytes(out)


def boot_image(image, packages, guest_files):
    (kernel,) = packages.glob("boot/vmlinuz-*")
    files = {
        "ISOLINUX.BIN": (packages / "usr/lib/ISOLINUX/isolinux.bin").read_bytes(),
        "LDLINUX.C32": (packages / "usr/lib/syslinux/modules/bios/ldlinux.c32").read_bytes(),
        "KERNEL.IMG": kernel.read_bytes(),
        "GUEST.IMG": guest_files,
        "ISOLINUX.CFG": (
            f"DEFAULT l\nPROMPT 0\nLABEL l\nKERNEL /KERNEL.IMG\nINITRD /GUEST.IMG\nAPPEND {KERNEL_ARGUMENTS}\n"
        ).encode(),
    }
    iso = pycdlib.PyCdlib()
    iso.new()
    for name, data in files.items():
        source = image.with_name(name)
        source.write_bytes(data)
        iso.add_file(str(source), f"/{name};1")
    iso.add_eltorito("/ISOLINUX.BIN;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
    iso.write(str(image))
    iso.close()


def emulate(bochs, packages, work, processor, minutes):
    """Boots the image of `work`; returns what the guest said, and why it was ended."""
    said = work / "serial.txt"
    settings = work / "bochsrc"
    settings.write_text(
        f"""display_library: nogui
config_interface: textconfig
cpu: {processor}, count=1, ips=100000000
memory: guest=1024, host=1024
romimage: file={packages}/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file={packages}/usr/share/vgabios/vgabios.bin
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={work}/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={said}
clock: sync=none
log: {work}/bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"""
    )
    with open(work / "bochs.txt", "wb") as output:
        # In a session of its own: Bochs opens the console, and would be stopped for it in the background.
        emulator = subprocess.Popen(
            [bochs, "-q", "-f", settings],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + 60 * minutes
            while True:
                text = said.read_text(errors="replace") if said.is_file() else ""
                if "=== end" in text or "Kernel panic" in text:
                    return text, "the guest was done"
                if emulator.poll() is not None:
                    return text, f"the emulator ended by itself, see {work}/bochs.log"
                if time.monotonic() > until:
                    return text, f"stopped after {minutes} minutes"
                time.sleep(1)
        finally:
            emulator.kill()
            emulator.wait()


def check(name, expected, text, ending):
    """One line for each program of the guest."""
    lines = text.replace("\r", "").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    vectors = [flag for flag in flags if flag.startswith(("avx", "fma"))]
    print(f"{name}: the processor says {' '.join(vectors) or 'nothing'}")
    sections = [section.partition("\n")[::2] for section in text.replace("\r", "").split("\n=== ")[1:]]
    for program in (["probe"] if "avx512_bf16" in expected else []) + TESTS:
        at = next((i for i, (head, _) in enumerate(sections) if head == program), None)
        status = sections[at + 1][0] if at is not None and at + 1 < len(sections) else f"not finished: {ending}"
        said = sections[at][1].strip() if at is not None else ""
        passed = status == "exit 0"
        report(f"{name}: {program}", passed, said.splitlines()[-1] if passed else f"{status}\n{said}")
    named = [line.rpartition("instruction sets: ")[2] for line in lines if "instruction sets: " in line]
    sets = named[0] if named else "none named"
    report(f"{name}: instruction sets", sets == expected, f"tested {sets}; expected {expected}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="what is fetched and built once")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="the guests' images and output")
    parser.add_argument("--minutes", type=float, default=30, help="at most for each guest (default: %(default)s)")
    arguments = parser.parse_args()
    cache, work = arguments.cache.absolute(), arguments.work.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    emulator, packages, tests = bochs(cache), unpacked(cache), programs(work)
    for name, processor, expected in GUESTS:
        folder = fresh(work / name.replace(" ", "-"))
        files = initramfs(packages / "bin/busybox", tests, "avx512_bf16" in expected)
        boot_image(folder / "boot.iso", packages, files)
        started = time.monotonic()
        text, ending = emulate(emulator, packages, folder, processor, arguments.minutes)
        print(f"{name}: {ending}, {time.monotonic() - started:.0f} s; its output is in {folder}/serial.txt")
        check(name, expected, text, ending)
    conclude()


main()
