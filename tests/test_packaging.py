"""One list of dependencies, told in three files, and the same versions for everybody."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
import yaml

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
    for suffix in {path.suffix for path in (HOME / "aya_lib").rglob("*") if path.is_file()} - {".py", ".pyc", ".typed"}:
        assert f"**/*{suffix}" in patterns
