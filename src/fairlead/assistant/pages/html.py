"""HTML to blocks. Only what a reader of the page would see and read: no scripts, menus, forms or hidden elements.

Nothing is run or fetched. Hidden text is left out because it is where instructions to machines are put.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from fairlead.assistant.pages.blocks import Block, Heading, Item, Page, PageInvalid, Table, Text, clean

_DROPPED = (
    "script, style, noscript, template, iframe, object, svg, canvas, form, button, select, nav, header, footer, aside, "
    "dialog, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=contentinfo]"
)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.IGNORECASE
)
MAX_OPEN = 200
"""Elements that may be open at once; browsers stop at 512, and the time to parse grows with the square."""
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_UNCLOSED = frozenset(
    "area base br col colgroup dd dt embed hr img input li link meta optgroup option p param rp rt source tbody td "
    "tfoot th thead tr track wbr".split()
)
"""Elements that need no end, so that many of them are not deep."""
_LEAVES = frozenset(("p", "dt", "dd", "blockquote", "figcaption", "summary", "address", "caption", "legend"))
_INLINE = frozenset(
    "a abbr b bdi bdo br cite code data del dfn em font i img ins kbd label mark q s samp small span strong sub sup "
    "time u var wbr".split()
)


def read(text: str) -> Page:
    """One page. Broken markup is read as browsers read it. Raises PageInvalid for what nests too deep."""
    _check_depth(text)
    tree = LexborHTMLParser(text)
    named = tree.css_first("title")
    title = clean(named.text()) if named is not None else ""
    date = tree.css_first("meta[property='article:modified_time'], meta[name=date], meta[name='last-modified']")
    updated = clean((date.attributes.get("content") if date is not None else "") or "")[:10]
    for node in tree.css(_DROPPED):
        node.decompose()
    for node in tree.css("[style]"):
        if _HIDDEN.search(node.attributes.get("style") or ""):
            node.decompose()
    body = tree.css_first("main, article, [role=main]") or tree.body
    if body is None:
        return Page(title=title)
    first = body.css_first("h1")
    return Page(
        title=clean(first.text()) if first is not None else title,
        updated=updated,
        blocks=tuple(_blocks(body)),
        links=tuple(href for node in body.css("a[href]") if (href := node.attributes.get("href"))),
    )


def _check_depth(text: str) -> None:
    opened: Counter[str] = Counter()
    depth = 0
    for end, name in _TAG.findall(text):
        tag = name.lower()
        if tag in _UNCLOSED or (end and not opened[tag]):
            continue  # an end without a beginning closes nothing
        opened[tag] += -1 if end else 1
        depth += -1 if end else 1
        if depth > MAX_OPEN:
            raise PageInvalid(f"nests more than {MAX_OPEN} elements. Close them, or save the page as Markdown.")


def _blocks(node: LexborNode) -> Iterator[Block]:
    """Blocks below ``node``. Runs of text and inline elements between blocks are a text of their own."""
    run: list[str] = []
    for child in node.iter(include_text=True):
        if child.tag in _INLINE or child.tag == "-text":
            run.append(" " if child.tag == "br" else _said(child))
            continue
        yield from _flush(run)
        run = []
        yield from _block(child)
    yield from _flush(run)


def _flush(run: list[str]) -> Iterator[Block]:
    text = clean("".join(run))
    if text:
        yield Text(text)


def _block(node: LexborNode) -> Iterator[Block]:
    tag = node.tag or ""
    if re.fullmatch("h[1-6]", tag):
        yield Heading(int(tag[1]), clean(_said(node)), node.attributes.get("id") or "")
    elif tag == "pre":
        yield Text(clean(_said(node)), whole=True)
    elif tag == "table":
        yield from _table(node)
    elif tag == "dl":
        yield from _terms(node)
    elif tag == "li":
        yield from _item(node)
    elif tag in _LEAVES and not any(child.tag not in _INLINE for child in node.iter()):
        text = clean(_said(node))
        if text:
            yield Text(text)
    elif tag not in {"head", "hr"}:
        yield from _blocks(node)


def _item(node: LexborNode) -> Iterator[Block]:
    for number, block in enumerate(_blocks(node)):
        yield Item(block.text) if number == 0 and isinstance(block, Text) else block


def _terms(node: LexborNode) -> Iterator[Block]:
    """``term: meaning`` of a list of terms; one that holds more than words is read as ordinary blocks."""
    term = ""
    for child in node.iter():
        text = clean(_said(child))
        if child.tag == "dt":
            term = text
        elif child.tag == "dd" and text and not child.css("p, ul, ol, table, pre"):
            yield Item(f"{term}: {text}" if term else text)
        else:
            yield from _blocks(child)


def _table(table: LexborNode) -> Iterator[Block]:
    """A table of data; one inside another is read as a part of its cell, a layout table as texts."""
    lines = [line for line in table.css("tr") if _table_of(line) == table]
    cells = [[clean(_said(cell)) for cell in line.iter() if cell.tag in {"td", "th"}] for line in lines]
    headed = bool(lines) and any(cell.tag == "th" for cell in lines[0].iter())
    if len(cells) < 2 or max(map(len, cells)) < 2:
        for line in lines:
            for cell in line.iter():
                yield from _blocks(cell)
        return
    heads = tuple(cells[0]) if headed else ("",) * len(cells[0])
    yield Table(heads, tuple(tuple(line) for line in (cells[1:] if headed else cells) if any(line)))


def _table_of(node: LexborNode) -> LexborNode | None:
    parent = node.parent
    while parent is not None and parent.tag != "table":
        parent = parent.parent
    return parent


def _said(node: LexborNode) -> str:
    """The text of a node; blocks inside it are kept apart by spaces."""
    if node.tag == "-text":
        return node.text_content or ""
    if node.tag == "br":
        return " "
    if node.tag == "img":
        return node.attributes.get("alt") or ""
    inner = "".join(_said(child) for child in node.iter(include_text=True))
    return inner if node.tag in _INLINE else f" {inner} "
