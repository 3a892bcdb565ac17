"""The pages of the documentation, read as data: commands, links, headings; and how a command is checked, or really run."""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests_support import aya

from aya_lib import secrets, settings
from aya_lib.cli import main as cli
from aya_lib.runbook import parameters
from aya_lib.site import Site, load_site

HOME = settings.home()
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", HOME / "CHANGELOG.md", *sorted((HOME / "docs").glob("*.md"))]
SHELL = ("aya ", "make ", "conda ", "pip ", "papermill ", "keyring ")
# What a reader puts his own in place of; everything else is meant as it stands.
PLACES = {"NAME": "name", "SITE": "lab", "NODE": "ALPHA", "PORT": "25000", "FILE": "file", "BACKUP": "20261129T030000Z-full"}


@dataclass(frozen=True)
class Block:
    """A fenced block. ``kind``: the words after the fence, such as ``sh`` (run) or ``sh parsed`` (checked, not run)."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(HOME)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Page:
    """A page of Markdown: what stands in it."""

    path: Path
    text: str

    @property
    def tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @property
    def blocks(self) -> list[Block]:
        """The fenced blocks, in order; one that is only indented has the kind ``indented``."""
        return [
            Block(self.path, (token.map or [0])[0] + 1, token.info.strip() or "indented", token.content)
            for token in self.tokens
            if token.type in ("fence", "code_block")
        ]

    def inline(self, kind: str) -> list[Token]:
        """Tokens within the lines: ``code_inline``, ``link_open``, ``image``."""
        return [child for token in self.tokens for child in token.children or [] if child.type == kind]

    @property
    def anchors(self) -> set[str]:
        """The headings' anchors, as GitHub makes them."""
        tokens = self.tokens
        titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures that are files of the project."""
        targets = [str(token.attrs["href"]) for token in self.inline("link_open")]
        targets += [str(token.attrs["src"]) for token in self.inline("image")]
        return [target for target in targets if "://" not in target]


def read(path: Path) -> Page:
    return Page(path, path.read_text(encoding="utf-8"))


def files(page: Page) -> dict[str, str]:
    """The files that a page shows whole: blocks such as ``python file=aya_lib/...``."""
    return {block.kind.partition(" file=")[2]: block.text for block in page.blocks if " file=" in block.kind}


def notebook(text: str) -> Any:
    """A notebook from its cells as text: each begins with ``# %%`` and, where it is no plain code, its kind or tag."""
    cells = []
    for part in text.split("# %%")[1:]:
        kind, _, source = part.partition("\n")
        make = nbformat.v4.new_markdown_cell if kind.strip() == "markdown" else nbformat.v4.new_code_cell
        cells.append(make(source.strip(), metadata={"tags": kind.split()}))
    return nbformat.v4.new_notebook(cells=cells, metadata={"aya": {"changes_site": True, "limit_s": 60}})


@functools.cache
def commands() -> dict[str, Any]:
    """Every command of ``aya``, such as ``lab up``, with the object that parses it."""
    return dict(_leaves("", typer.main.get_command(cli.app)))


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _leaves(f"{name} {word}".strip(), below)


def split(line: str) -> tuple[list[str], str]:
    """The words of a command, placeholders replaced, and the comment behind it."""
    words = shlex.split(line, comments=True)
    comment = line.partition("  #")[2].strip()
    return [PLACES.get(word, word) for word in words], comment


def check(line: str, *, sites: Sequence[str] = (), whole: bool = True) -> None:
    """Raise unless the command could be typed: command, options, parameters and site are there. Nothing is run or reached.

    ``whole`` False: one that is only spoken of, such as ``aya run --json``, may lack its arguments.
    """
    words, _ = split(line)
    match words[0]:
        case "aya":
            _check_aya(words[1:], ["lab", "production", *sites], whole)
        case "make":
            _check_make(words[1:])
        case "papermill":
            _check_papermill(words[1:])
        case _:
            _check_other(words)


def _check_aya(words: list[str], sites: Sequence[str], whole: bool) -> None:
    every = commands()
    count: int = next((n for n in (2, 1) if " ".join(words[:n]) in every), 0)
    groups = {name.split()[0] for name in every if " " in name}
    if not count:
        spoken_of = not whole and len(words) == 1 and words[0] in groups
        assert spoken_of, f"no such command: aya {' '.join(words)}"
        return
    try:
        found = every[" ".join(words[:count])].make_context("aya", words[count:]).params
    except Exception as error:
        if not whole and type(error).__name__ in ("MissingParameter", "BadOptionUsage"):
            return
        raise
    site = found.get("site") or "lab"
    assert site in sites, f"no site {site}"
    described = load_site(str(HOME / "parameters" / ("production" if site == "production" else "lab") / "site.yaml"))
    assert found.get("node") in (None, "", *described.nodes, *(name.lower() for name in described.nodes)), found["node"]
    if found.get("runbook"):
        declared = parameters.declared(parameters.find(found["runbook"], HOME / "notebooks"))
        parameters.parse(declared, found.get("p") or [])
        for name, option in (("site", "--site"), ("dry_run", "--dry-run"), ("approved_by", "--approved-by")):
            if "p" in found and found[name]:
                parameters.require(declared, name, option)


def _check_make(words: list[str]) -> None:
    for target in words:
        assert re.search(rf"^{target}:.*## ", (HOME / "Makefile").read_text(), re.MULTILINE), f"no target {target}"
        subprocess.run(["make", "-n", target], cwd=HOME, check=True, capture_output=True)


def _check_papermill(words: list[str]) -> None:
    declared = parameters.declared(HOME / words[0])
    pairs = [words[at + 1 : at + 3] for at, word in enumerate(words) if word == "-p"]
    parameters.validate(declared, {name: yaml.safe_load(value) for name, value in pairs})


def _check_other(words: list[str]) -> None:
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    extras = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = [f"conda env create -f {name}" for name in ("environment.yml",) if (HOME / name).exists()]
    known += [f"conda activate {environment['name']}", *(f"pip install aya-lib[{extra}]" for extra in extras)]
    for site in ("lab", "production"):
        database = load_site(str(HOME / "parameters" / site / "site.yaml")).database
        known += [f"keyring set aya/{site} {role} password" for role in (database.owner, database.application_role)]
    if words[:3] == [".venv/bin/python", "-m", "pytest"]:
        assert all((HOME / word).exists() for word in words if word.startswith("tests/")), words
    elif words[:3] == [".venv/bin/python", "-m", "aya_lib.runbook.refresh"]:
        assert set(words[3:]) <= set(parameters.runbooks(HOME / "notebooks")), words
    else:
        assert " ".join(words) in known, f"not known here: {' '.join(words)}"


def variables() -> str:
    """Everything in which the project may name a variable of the environment, and those of the passwords."""
    files = [*(HOME / "aya_lib").rglob("*.py"), HOME / "Makefile", HOME / "tools" / "demo.sh"]
    sites = [load_site(str(path)) for path in (HOME / "parameters").glob("*/site.yaml")]
    passwords = [secrets.variable(site.name, f"{site.database.owner} password") for site in sites]
    return "\n".join([*(path.read_text() for path in files), *passwords])


def messages() -> list[str]:
    """What the project may say, each as a pattern: every string of its code, with anything where a value stands; and its SQL, and
    what logs mean."""
    kept = [path for kind in ("*.sql", "reasons.yaml") for path in (HOME / "aya_lib").rglob(kind)]
    found = [re.escape(path.read_text()) for path in kept]
    for path in (HOME / "aya_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.JoinedStr(values):
                    found.append(
                        "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in values)
                    )
                case ast.Constant(str(text)):
                    found.append(re.escape(text))
    return found


def says(text: str, patterns: Sequence[str]) -> bool:
    """Whether the project may say ``text``: a part of a message, with ``...`` or a number for a value; or a message of which at
    least half of the letters are its own, and the rest values."""
    parts = ".*".join(re.escape(re.escape(part)) for part in re.split(r" *\.\.\. *| *\d+ *", text))
    letters = len(re.findall(r"\w", text))
    whole = [pattern for pattern in patterns if ".+" in pattern and 2 * len(re.findall(r"\w", pattern)) >= letters]
    return any(re.search(parts, pattern) for pattern in patterns) or any(re.fullmatch(pattern, text) for pattern in whole)


@dataclass
class Terminal:
    """Where the commands of a page are really run: one after the other, in a folder of its own."""

    folder: Path
    site: Site
    anew: bool = False  # whether the last thing that changed the lab made it anew
    shown: set[str] = field(default_factory=set)  # dry runs: the same one on another page is not done again

    def run(self, line: str) -> str:
        """What it printed. Raises unless it ended as its comment says (``exit 1``), else with 0."""
        words, comment = split(line)
        assert "production" not in line, line
        if words[0] == "make" or ("--dry-run" in words and " ".join(words) in self.shown):
            check(line)
            return ""
        self.shown.add(" ".join(words))
        told = re.match(r"exit (\d+)", comment)
        here = words[0] == "aya" and words[1:3] != ["lab", "psql"] and not set("|$&") & set(line) and "<" not in words
        code, out, error = (self._here if here else self._shell)(line)
        assert code == int(told[1] if told else 0), f"{line}: exit {code}\n{out[-2000:]}\n{error[-2000:]}"
        self.anew = line.startswith("aya lab reset") or (self.anew and words[:3] == ["aya", "lab", "new"])
        return out

    def _here(self, line: str) -> tuple[int, str, str]:
        """``aya`` within this process: its imports are paid for once."""
        words, _ = split(line)
        target = self.folder / words[-1] if ">" in words else None
        words = words[: words.index(">")] if target else words
        with contextlib.chdir(self.folder):
            done = aya(*words[1:])
        if target:
            target.write_text(done.stdout)
        return done.returncode, done.stdout, done.stderr

    def _shell(self, line: str) -> tuple[int, str, str]:
        programs = [str(Path(sys.executable).parent), str(self.site.path(self.site.nodes["ALPHA"].postgresql.bin_directory))]
        environment = os.environ | {"PATH": os.pathsep.join([*programs, os.environ["PATH"]])}
        command = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr
