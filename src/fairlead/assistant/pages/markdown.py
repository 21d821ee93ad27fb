"""Markdown (CommonMark with tables) to blocks. Front matter gives title and date; raw HTML is dropped, not read."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from fairlead.assistant.pages.blocks import Block, Heading, Item, Page, PageInvalid, Table, Text, clean

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:^|\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MARKDOWN = MarkdownIt("commonmark").enable("table")


def read(text: str) -> Page:
    """One page. Raises PageInvalid for front matter that is not YAML."""
    meta, body = _split_front_matter(text)
    tree = SyntaxTreeNode(_MARKDOWN.parse(body))
    updated = meta.get("updated", "")
    first = next((_inline(node) for node in tree.children if node.type == "heading" and node.tag == "h1"), "")
    return Page(
        title=clean(str(meta.get("title") or "")) or first,
        updated=updated.isoformat() if isinstance(updated, datetime.date) else str(updated or ""),
        blocks=tuple(block for node in tree.children for block in _blocks(node, top=True)),
        links=tuple(str(node.attrs["href"]) for node in tree.walk() if node.type == "link" and node.attrs.get("href")),
    )


def _split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        meta = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError as error:
        raise PageInvalid(f"its front matter is not YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(meta, dict):
        raise PageInvalid("its front matter is not `key: value` lines; expected title and updated.")
    return meta, text[match.end() :]


def _blocks(node: SyntaxTreeNode, *, top: bool = False) -> Iterator[Block]:
    if node.type in {"html_block", "hr"}:
        return
    if node.type == "heading" and top:
        yield Heading(int(node.tag[1]), _inline(node))
    elif node.type in {"fence", "code_block"}:
        yield Text(clean(node.content), whole=True)
    elif node.type in {"paragraph", "inline", "heading"}:
        yield Text(_inline(node))
    elif node.type == "table":
        yield _table(node)
    elif node.type == "list_item" and node.children and node.children[0].type in {"paragraph", "inline"}:
        yield Item(_inline(node.children[0]))
        for child in node.children[1:]:
            yield from _blocks(child)
    else:
        for child in node.children:
            yield from _blocks(child)


def _table(table: SyntaxTreeNode) -> Table:
    lines = [node for part in table.children for node in part.children if node.type == "tr"]
    heads, *rows = [tuple(_inline(cell) for cell in line.children) for line in lines]
    return Table(heads, tuple(rows))


def _inline(node: SyntaxTreeNode) -> str:
    """The words of a node, without markup."""
    return clean("".join(_words(node)))


def _words(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type in {"text", "code_inline", "image"}:
        yield node.content
    elif node.type in {"softbreak", "hardbreak"}:
        yield " "
    elif node.type != "html_inline":
        for child in node.children:
            yield from _words(child)
