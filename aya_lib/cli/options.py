"""What several commands take, and how each of them ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from aya_lib.node.node import Nodes
    from aya_lib.show import Shown
    from aya_lib.site import Site


def sites() -> list[str]:
    """Names of sites, for a shell that completes words."""
    from aya_lib.site import known_sites

    return known_sites()


SiteName = Annotated[
    str, typer.Option("--site", metavar="NAME", help="A folder below parameters/, or a site.yaml.", autocompletion=sites)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]


def group(help_text: str | None = None) -> typer.Typer:
    """A group of commands; one without help is merged into the one above."""
    return typer.Typer(help=help_text, no_args_is_help=help_text is not None, rich_markup_mode=None)


def load(site: str) -> Site:
    """The site called so, whether or not it was made. The site is loaded here, and not where commands are only listed."""
    from aya_lib.site import load_site

    return load_site(site)


def nodes(site: str) -> Nodes:
    """The nodes of the site called so; :class:`AyaError` with the way out when it is a lab that was never made."""
    from aya_lib.node.node import open_nodes
    from aya_lib.site import made_site

    return open_nodes(made_site(site))


def print_json(document: Any) -> None:
    """The one document on stdout; what JSON has no word for is written as text, what would steer a terminal escaped."""
    import json

    from pydantic_core import to_jsonable_python

    from aya_lib.cli.printable import only_ascii
    from aya_lib.show import STEERING

    text = json.dumps(to_jsonable_python(document, fallback=str), indent=1, ensure_ascii=only_ascii())
    print(STEERING.sub(lambda found: "".join(f"\\u{ord(sign):04x}" for sign in found[0]), text))


def answer(shown: Shown | str, document: Any, as_json: bool) -> None:
    """What a command found: the one document with ``--json``, else text for a person."""
    from aya_lib.show import as_text

    if as_json:
        print_json(document)
    else:
        print(shown if isinstance(shown, str) else as_text(shown.table()))
