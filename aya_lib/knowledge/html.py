"""The text of a web page as Markdown. All of it but navigation: what is left out is counted in words."""

from __future__ import annotations

import re
import warnings
from typing import Any

from aya_lib.knowledge import decoding

NOT_SHOWN = ["script", "style", "template"]
# Ways through a site; the classes are those of DocBook's pages, PostgreSQL's among them.
WAYS = "nav, [role=navigation], .navheader, .navfooter"
# A page's own head, foot or margin is navigation when most of its words are links (Kohlschuetter et al., WSDM 2010).
MARGINS = "header, footer, aside, [role=banner], [role=contentinfo], [role=complementary]"
LINKED = 0.5
# What browsers show as blocks and the converter would write into the line.
BLOCKS = (
    "aside details summary main header footer figure figcaption address fieldset form dialog legend nav noscript option"
    " button label canvas object text desc"
)
PERMALINKS = {"", "¶", "#", "§", "🔗"}
QUOTES, LISTS, DEEP = 4, 8, 100  # levels that are kept: each one costs characters before every line


def page(data: bytes) -> tuple[str, str, tuple[str, ...], int]:
    """The title of the page's head, its text, what was replaced, and the words of navigation that were left out."""
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
    from markdownify import MarkdownConverter

    text, notes = decoding.html(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(re.sub(r"</?(frameset|noframes)\b[^>]*>", "", text, flags=re.IGNORECASE), "lxml")
    title = next((found.get_text(" ", strip=True) for found in soup("title") if not found.find_parent("svg")), "")
    for part in soup(NOT_SHOWN):
        if not part.decomposed and not part.get("shadowrootmode"):
            part.decompose()
    body = soup.body or soup
    _flatter(body)
    furniture = _without_ways(body)
    _in_words(body)
    converter = MarkdownConverter(heading_style="ATX", escape_underscores=False, escape_asterisks=False, escape_misc=False)
    return title, str(converter.convert_soup(body)), notes, furniture


def _without_ways(body: Any) -> int:
    """Take navigation out, unless nothing else is there; how many words went with it."""
    ways = [part for part in body.select(WAYS) if _linked(part) or not part.find("p")]
    ways += [part for part in body.select(MARGINS) if not part.find_parent(["main", "article"]) and _linked(part)]
    taken = {id(part) for part in ways}
    outermost = [part for part in ways if not any(id(above) in taken for above in part.parents)]
    texts = [part.get_text(" ") for part in outermost]
    if len("".join(body.get_text().split())) <= len("".join("".join(texts).split())):
        return 0
    for part in outermost:
        part.decompose()
    return sum(len(text.split()) for text in texts)


def _linked(part: Any) -> bool:
    whole = len("".join(part.get_text().split()))
    links = sum(len("".join(link.get_text().split())) for link in part("a"))
    return whole > 0 and links > LINKED * whole


def _in_words(body: Any) -> None:
    """What stands for a picture takes its place; links are their words; marks that only link to a heading go."""
    for part in body("a"):
        if str(part.get("href", "")).startswith("#") and part.get_text(strip=True) in PERMALINKS and not part.find("img"):
            part.decompose()
        else:
            part.unwrap()
    for part in body(["img", "area", "input"], alt=True):
        part.replace_with(f" {part['alt']} ")
    for part in body("img"):
        part.decompose()
    for part in body(["td", "th"]):
        del part["colspan"]
    for part in body(BLOCKS.split()):
        part.name = "div"


def _flatter(body: Any) -> None:
    """Quotations, lists and anything else nested deeper than is worth it lose a level's form, never a word."""
    waiting = [(body, 0, 0, 0)]
    while waiting:
        tag, depth, quotes, lists = waiting.pop()
        quotes, lists = quotes + (tag.name == "blockquote"), lists + (tag.name in ("ul", "ol"))
        if depth == DEEP:
            tag.string = tag.get_text("\n", strip=True)
            continue
        waiting += [(child, depth + 1, quotes, lists) for child in tag.find_all(True, recursive=False)]
        if (quotes > QUOTES and tag.name == "blockquote") or (lists > LISTS and tag.name in ("ul", "ol")):
            tag.name = "div"
        elif lists > LISTS and tag.name == "li":
            tag.name = "p"
