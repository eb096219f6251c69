"""Packs the functions and checks what is packed; called by scripts/lambda-zips: PROGRAMS PROJECT OUTPUT PROFILE."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# What the runtime provided.al2023 has.
GLIBC = (2, 34)
MEGABYTE = 1_000_000
# The goal of ingest is 6 as well: docs/aws.md says what it has and why.
FIGURES = {"ingest": 8, "transform": 25, "load": 6}
# Zips know no earlier time.
TIME = (1980, 1, 1, 0, 0, 0)


def stripped(program: Path, folder: Path) -> bytes:
    """The program without symbols; where no tool here knows its machine, as it is."""
    target = folder / program.name
    for tool in ("strip", "llvm-strip", "aarch64-linux-gnu-strip"):
        if shutil.which(tool):
            done = subprocess.run([tool, "-o", target, program], capture_output=True, check=False)
            if done.returncode == 0:
                return target.read_bytes()
    print(f"lambda-zips: {program} is packed with its symbols: no tool here can strip it", file=sys.stderr)
    return program.read_bytes()


def needed_glibc(content: bytes) -> tuple[int, int]:
    """The newest version of glibc that a symbol of the program asks for."""
    versions = re.findall(rb"GLIBC_(\d+)\.(\d+)", content)
    return max(((int(major), int(minor)) for major, minor in versions), default=(0, 0))


def project_files(project: Path) -> dict[str, bytes]:
    """What a function reads of a project; nothing else that lies there, such as credentials."""
    found = [project / "starlift.toml", project / "warehouse.sql"]
    for kind in ("models/*.sql", "seeds/*.csv", "certs/*.pem"):
        found += project.glob(kind)
    return {f"project/{path.relative_to(project).as_posix()}": path.read_bytes() for path in found if path.is_file()}


def private_keys(files: dict[str, bytes]) -> list[str]:
    """Files with a private key in them: certificates are for everybody, keys are for nobody."""
    return sorted(name for name, content in files.items() if b"PRIVATE KEY" in content)


def pack(path: Path, files: dict[str, bytes]) -> None:
    """Equal files, equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, TIME)
            entry.create_system = 3
            entry.external_attr = (0o100755 if name == "bootstrap" else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, files[name], compresslevel=9)


def main() -> int:
    programs, project, output, profile = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    output.mkdir(parents=True, exist_ok=True)
    files, wrong = project_files(project), []
    if keys := private_keys(files):
        print(f"lambda-zips: a private key is in {', '.join(keys)}, and no zip may have one", file=sys.stderr)
        return 1
    for name, figure in FIGURES.items():
        program = programs / name
        if not program.is_file():
            wrong.append(f"{program} is not there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            content = stripped(program, Path(folder))
        glibc = needed_glibc(content)
        # What is built to be tried on this machine may need this machine's.
        if profile == "release" and glibc > GLIBC:
            wrong.append(f"{name} needs glibc {glibc[0]}.{glibc[1]}, and the runtime has {GLIBC[0]}.{GLIBC[1]}")
        if (b"datafusion" in content) != (name == "transform"):
            wrong.append(f"the engine is {'in' if name != 'transform' else 'not in'} {name}")
        if profile == "release" and b"STARLIFT_FAULT" in content:
            wrong.append(f"{name} has fault points in it")
        path = output / f"{name}.zip"
        pack(path, {"bootstrap": content, **files})
        size = path.stat().st_size
        if profile == "release" and size > figure * MEGABYTE:
            wrong.append(f"{path} has {size / MEGABYTE:.1f} MB, and {figure} are allowed")
        print(
            f"{path}: {size / MEGABYTE:.1f} MB (at most {figure}), unpacked {len(content) / MEGABYTE:.1f} MB, "
            f"glibc {glibc[0]}.{glibc[1]}, project files {len(files)}"
        )
    for line in wrong:
        print(f"lambda-zips: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
