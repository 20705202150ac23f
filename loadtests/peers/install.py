"""Makes a virtual environment for each peer: `python -m loadtests.peers.install DIR [--only …]`.

An environment that is complete is left alone. What cannot be installed is told, with the reason,
and the others are made all the same.
"""

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from loadtests.peers.catalogue import MODEL, PEERS, Peer, named
from loadtests.servers.launch import ROOT

DEFAULT_FOLDER = ROOT / ".venv-peers"
INSTALL_SECONDS = 1200.0
REASON = "failed.txt"  # In a peer's folder, why it could not be installed.
DONE = "installed.txt"  # Its requirements, as installed.


def install(peer: Peer, folder: Path) -> str:
    """Make the peer's environment. Returns the reason when that fails, else the empty string."""
    if reason := lacking(peer):
        return reason
    wanted = "\n".join((*peer.requirements, *MODEL)) + "\n"
    home = folder / peer.name
    done, failed = home / DONE, home / REASON
    if not peer.requirements or (done.exists() and done.read_text() == wanted):
        return ""
    home.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    if not Path(peer.python(folder)).exists():
        venv.create(home, with_pip=True)
    reason = ""
    packages = [*peer.requirements, *MODEL]
    if peer.loosened:
        packages.remove(peer.requirements[0])
        reason = _pip(peer, folder, ["--no-deps", peer.requirements[0]])
        packages += loosened(peer, folder)
    if reason := reason or _pip(peer, folder, packages):
        failed.write_text(reason)
    else:
        done.write_text(wanted)
    return reason


def _pip(peer: Peer, folder: Path, packages: Sequence[str]) -> str:
    command = [peer.python(folder), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"), *packages]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"pip took more than {INSTALL_SECONDS:.0f} s"
    return "" if ran.returncode == 0 else why(ran.stderr)


def loosened(peer: Peer, folder: Path) -> list[str]:
    """What the peer's first package requires, without bounds on what is to be loosened."""
    name = peer.requirements[0].partition("==")[0].partition("[")[0]
    wanted = [
        line
        for found in importlib.metadata.distributions(name=name, path=site_packages(peer, folder))
        for line in found.requires or ()
        if "extra ==" not in line
    ]
    return [loose(line, peer.loosened) for line in wanted]


def loose(requirement: str, names: Sequence[str]) -> str:
    """The requirement; the bare name where it is one of `names`."""
    name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]
    return name if name in names else requirement


def site_packages(peer: Peer, folder: Path) -> list[str]:
    if not peer.requirements:
        return sys.path
    return [str(path) for path in (folder / peer.name / "lib").glob("python*/site-packages")]


def why(errors: str) -> str:
    """The last thing that pip calls an error, in one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ERROR")]
    return (said or lines or ["pip failed and said nothing"])[-1]


def lacking(peer: Peer) -> str:
    """What pip does not bring, in words; empty: all is there."""
    programs = [program for program in peer.programs if shutil.which(program) is None]
    return f"{', '.join(programs)} is not on this machine" if programs else ""


def missing(peer: Peer, folder: Path) -> str:
    """Why the peer cannot be started; empty when it can."""
    if reason := lacking(peer):
        return reason
    home = folder / peer.name
    if not peer.requirements or (home / DONE).exists():
        return ""
    if (home / REASON).exists():
        return (home / REASON).read_text()
    return "not installed: python -m loadtests.peers.install"


def versions(peer: Peer, folder: Path) -> dict[str, str]:
    """Of the peer's packages and of what the forward pass runs on."""
    names = [name.partition("==")[0].partition("[")[0] for name in peer.requirements]
    names += ["torch", "transformers"]
    paths = site_packages(peer, folder)
    found = {}
    for name in names:
        for package in importlib.metadata.distributions(name=name, path=paths):
            found[name] = package.version
            break
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", metavar="NAME,...", help=", ".join(p.name for p in PEERS))
    args = parser.parse_args(arguments)
    try:
        chosen = named(args.only.split(",")) if args.only else list(PEERS)
    except ValueError as error:
        parser.error(str(error))
    foreign = [peer for peer in chosen if peer.requirements]
    print(f"into {args.folder}: minutes and about a GB for each that is not there yet", flush=True)
    for number, peer in enumerate(foreign, 1):
        what = " ".join(peer.requirements)
        print(f"[{number}/{len(foreign)}] {peer.name}: {what}", flush=True)
        if reason := install(peer, args.folder):
            print(f"{peer.name}: could not be installed: {reason}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
