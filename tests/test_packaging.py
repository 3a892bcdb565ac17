"""One list of dependencies, told in three files, and the same versions for everybody."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from aya_lib import settings

HOME = settings.home()
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (HOME / "constraints.txt").read_text().splitlines() if line and not line.startswith("#"))


def wanted() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(word for extra in extras.values() for word in extra)]
    return {word for word in every if not word.startswith("aya-lib")}


def name(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("requirement", sorted(wanted()))
def test_every_dependency_is_pinned_to_one_version(requirement: str) -> None:
    pins = {key.lower().replace("_", "-"): value for key, value in PINS.items()}
    assert name(requirement) in pins
    exact = re.search(r"==([\w.]+)", requirement)
    assert exact is None or pins[name(requirement)] == exact[1]


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = {dist.metadata["Name"].lower().replace("_", "-"): dist.version.split("+")[0] for dist in metadata.distributions()}
    pins = {key.lower().replace("_", "-"): value for key, value in PINS.items()}
    different = {key: (value, pins[key]) for key, value in installed.items() if key in pins and pins[key] != value}
    assert not different


def test_the_conda_environment_is_the_same_list() -> None:
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    conda = [word for word in environment["dependencies"] if isinstance(word, str)]
    (pip,) = [word["pip"] for word in environment["dependencies"] if isinstance(word, dict)]
    assert {"python=3.11", "postgresql=18", "pgvector", "pip"} == set(conda)
    assert set(pip) - {"-c constraints.txt", "-e ."} == wanted()


def test_sql_and_documents_are_part_of_the_package() -> None:
    patterns = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["aya_lib"]
    own = [path for path in (HOME / "aya_lib").rglob("*") if path.is_file() and "shipped" not in path.parts]
    for path in own:
        inside = str(path.relative_to(HOME / "aya_lib"))
        assert path.suffix in (".py", ".pyc") or any(fnmatch(f"/{inside}", f"*/{each}") for each in patterns), inside


def test_every_pin_can_be_installed_on_the_oldest_python_that_is_promised() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    pinned = {key.lower().replace("_", "-") for key in PINS}
    refused = {
        f"{dist.metadata['Name']} {dist.version} needs Python {needs}"
        for dist in metadata.distributions()
        if (needs := dist.metadata.json.get("requires_python")) and oldest not in SpecifierSet(str(needs))
        if dist.metadata["Name"].lower().replace("_", "-") in pinned
    }
    assert not refused


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``aya`` from a wheel in an environment of its own, which borrows the dependencies of this one; run away from here."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("aya_lib", "notebooks", "parameters"):
        shutil.copytree(HOME / name, place / "src" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(HOME / name, place / "src")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    venv.create(place / "env", symlinks=True)
    (borrowed,) = (place / "env" / "lib").glob("python*/site-packages")
    (borrowed / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    target = ["--python", str(place / "env" / "bin" / "python")]
    words = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", str(place / "src")]
    subprocess.run([*pip, *target, *words], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AYA_", "XDG_", "PYTHON"))}
    environment |= {"HOME": str(place / "home"), "LANG": "C.UTF-8"}

    def run(*words: str, cwd: Path = place) -> subprocess.CompletedProcess[str]:
        program = [str(place / "env" / "bin" / "aya"), *words]
        return subprocess.run(program, capture_output=True, text=True, env=environment, cwd=cwd, timeout=60)

    return run


def test_a_wheel_brings_runbooks_and_sites_and_keeps_what_it_makes_out_of_its_own_folder(
    installed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert "failover" in installed("params").stdout
    assert "/home/.local/state/aya/runs" in installed("runs").stderr
    assert "Site second: ports from" in installed("lab", "new", "second").stdout
    assert "Known sites: lab, production, second" in installed("status", "--site", "nope").stderr
    assert installed("init", str(tmp_path / "desk")).returncode == 0
    (tmp_path / "desk" / "README.md").write_text("mine")
    again = installed("init", str(tmp_path / "desk")).stdout
    assert "desk: 0 files written" in again
    assert "Kept, though this version ships others: README.md" in again
    inside = tmp_path / "desk" / "notebooks"
    assert f"no run is kept in {tmp_path}/desk/runs" in installed("runs", cwd=inside).stderr
    assert "deadline_s" in installed("params", "restore", cwd=inside).stdout
    assert installed("init", str(tmp_path / "desk" / "README.md")).returncode == 2
