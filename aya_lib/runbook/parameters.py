"""A runbook's parameters: declared in the notebook's own cell, read as text, checked by type.

Read with ``ast`` and ``tokenize``, never executed. (papermill's inspection loses a parameter whose comment contains
``=``, takes any type, and only warns about unknown names.)
"""

from __future__ import annotations

import ast
import io
import json
import shlex
import tokenize
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from aya_lib.errors import ParameterError, UsageError, nearest

NAMES: dict[str, Any] = {kind.__name__: kind for kind in (str, int, float, bool, list, dict)} | {"Literal": Literal}
WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True)
class Parameter:
    """``type`` as Python's typing has it; ``annotation`` as it is written; ``comment``: meaning and unit."""

    name: str
    type: Any
    annotation: str
    default: Any
    comment: str


@dataclass(frozen=True)
class Declaration:
    """What a notebook says of itself. ``limit_s``: it must end within; ``changes_site``: it needs the site's lock; ``contents``:
    that of those who load or measure, for which no role is kept waiting; ``own_lock``: one of its own, which it takes itself, for
    it works beside everybody; ``gated``: it asks for requirements before it applies anything."""

    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    changes_site: bool
    limit_s: float
    gated: bool = False
    contents: bool = False
    own_lock: bool = False

    @property
    def name(self) -> str:
        return self.path.stem

    def parameter(self, name: str) -> Parameter:
        """The parameter called so; :class:`ParameterError` names the nearest one, and all that are allowed."""
        names = [parameter.name for parameter in self.parameters]
        if name not in names:
            raise ParameterError(
                f"{self.name} has no parameter '{name}'{nearest(name, names)}", hint=f"Allowed are {', '.join(names)}"
            )
        return self.parameters[names.index(name)]


def declared(notebook: Path) -> Declaration:
    """Read a notebook's parameter cell, title and ``aya`` metadata; :class:`UsageError` when it is no runbook."""
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        cells = content["cells"]
    except FileNotFoundError:
        raise UsageError(f"no notebook {notebook}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{notebook} is not a notebook: {error}") from None
    tagged = [c for c in cells if c["cell_type"] == "code" and "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise UsageError(f"{notebook}: found {len(tagged)} cells tagged 'parameters', a runbook has one")
    aya = content["metadata"].get("aya", {})
    headings = [line for c in cells if c["cell_type"] == "markdown" for line in "".join(c["source"]).splitlines()]
    title = next((line.lstrip("# ") for line in headings if line.startswith("# ")), notebook.stem)
    source = "".join(tagged[0]["source"])
    changes, limit = bool(aya.get("changes_site", False)), float(aya.get("limit_s", 300))
    code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    gated = 0 <= code.find("runbook.require(") < code.find("runbook.apply(")
    kinds = bool(aya.get("contents", False)), aya.get("lock") == "own"
    return Declaration(notebook, title, _parse(source, notebook), changes, limit, gated, *kinds)


def validate(declaration: Declaration, values: Mapping[str, object]) -> dict[str, Any]:
    """The values, each of its declared type; :class:`ParameterError` otherwise. What is not given has its default."""
    checked = given(declaration, values)
    return {parameter.name: checked.get(parameter.name, parameter.default) for parameter in declaration.parameters}


def parse(declaration: Declaration, assignments: Iterable[str]) -> dict[str, Any]:
    """``name=value`` words of a command line, each value turned into its parameter's type."""
    values: dict[str, Any] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals:
            raise ParameterError(f"-p {word}: no '=' in it", hint="Write -p name=value")
        parameter = declaration.parameter(name.strip())
        values[parameter.name] = _checked(parameter, _from_text(parameter, text))
    return values


def given(declaration: Declaration, values: Mapping[str, object]) -> dict[str, Any]:
    """Values by name, as a flat YAML file has them (``papermill -f`` takes the same)."""
    return {str(name): _checked(declaration.parameter(str(name)), value) for name, value in values.items()}


def require(declaration: Declaration, name: str, option: str) -> None:
    """:class:`ParameterError` when a command line option sets a parameter that the runbook does not have."""
    if name not in [parameter.name for parameter in declaration.parameters]:
        raise ParameterError(f"{declaration.name} takes no {option}: it has no parameter {name}")


def command(declaration: Declaration, values: Mapping[str, Any]) -> str:
    """The command that runs it with these values: those that are not the default, as a shell takes them."""
    words = ["aya", "run", declaration.name]
    for parameter in declaration.parameters:
        value = values.get(parameter.name, parameter.default)
        text = value if isinstance(value, str) else json.dumps(value)
        if parameter.name == "site" and value != "lab":
            words += ["--site", text]
        elif value != parameter.default:
            words += ["-p", f"{parameter.name}={text}"]
    return shlex.join(words)


def _parse(source: str, notebook: Path) -> tuple[Parameter, ...]:
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            continue  # of the words that the types are written with
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise UsageError(f"{notebook}: parameter cell, line {node.lineno}: allowed is 'name: type = literal  # meaning'")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise UsageError(f"{notebook}: parameter '{node.target.id}': its default is not a literal") from None
        written = ast.unparse(node.annotation)
        kind = eval(compile(ast.Expression(node.annotation), str(notebook), "eval"), {"__builtins__": {}}, NAMES)
        parameters.append(Parameter(node.target.id, kind, written, default, comments.get(node.end_lineno or 0, "")))
        _checked(parameters[-1], default)
    return tuple(parameters)


def _checked(parameter: Parameter, value: object) -> Any:
    if not _is(value, parameter.type):
        line = f"parameter '{parameter.name}': found {value!r} ({type(value).__name__}), allowed is {_allowed(parameter)}"
        raise ParameterError(line, hint=f"For example {parameter.name}={parameter.default!r}")
    return float(typing.cast(float, value)) if parameter.type is float else value


def _allowed(parameter: Parameter) -> str:
    if get_origin(parameter.type) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(parameter.type))
    return WORDS.get(parameter.annotation, parameter.annotation)


def _is(value: object, kind: Any) -> bool:
    """Whether a value has a type, strictly: no text for a bool, no bool for a number; a whole number may be a float."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner and type(value) in {type(choice) for choice in inner}
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_is(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(k, inner[0]) and _is(v, inner[1]) for k, v in value.items())
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    return value is None if kind in (None, type(None)) else isinstance(value, kind)


def _from_text(parameter: Parameter, text: str) -> object:
    kind = parameter.type
    choices = get_args(kind) if get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if type(None) in choices and text.lower() in ("none", "null", ""):
        return None
    kind = next(choice for choice in choices if choice is not type(None))
    if kind is str or get_origin(kind) is Literal:
        return next((choice for choice in get_args(kind) if str(choice) == text), text)
    if kind is bool:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else text
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    try:
        return yaml.safe_load(text if text.strip().startswith(("[", "{")) else f"[{text}]")
    except yaml.YAMLError:
        return text


def runbooks(folder: Path) -> list[str]:
    """Names of the notebooks of a folder."""
    return sorted(path.stem for path in folder.glob("*.ipynb"))


def find(name: str, folder: Path) -> Path:
    """The notebook of a runbook, by its name or by the path of its file; :class:`UsageError` names the nearest one."""
    path = Path(name) if name.endswith(".ipynb") else folder / f"{name}.ipynb"
    if path.is_file():
        return path
    raise UsageError(
        f"unknown runbook '{name}'{nearest(name, runbooks(folder))}", hint=f"There are {', '.join(runbooks(folder)) or 'none'}"
    )
