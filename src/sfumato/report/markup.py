"""HTML built from parts, in which text cannot become markup.

A Markup is finished HTML; every other string given to `tag` or `join` is text and is escaped. The page
allows itself nothing: its content security policy forbids scripts, frames, forms and every outside
address, and admits its one style sheet by hash and images only as data inside the page. So a class
named "<script>" is shown as that, and the page works offline and sends nothing anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import final

VOID = frozenset({"br", "hr", "img", "input", "meta", "source"})


@final
class Markup(str):
    """Finished HTML."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as HTML: markup as it is, anything else escaped."""
    return value if isinstance(value, Markup) else Markup(escape(str(value), quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other, each as `text` makes it."""
    return Markup(str(text(between)).join(text(p) for p in parts))


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """<element attributes>children</element>; None and False leave an attribute out, True stands bare.

    A trailing underscore is dropped from an attribute's name (class_) and others become hyphens.
    """
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        words.append(label if value is True else f'{label}="{text(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening) if element in VOID else Markup(f"{opening}{join(children)}</{element}>")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a media type (image/png, image/svg+xml) as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def policy(style: str) -> str:
    """The content security policy of a page with this style sheet."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def page(title: str, style: str, *body: object) -> str:
    """A whole document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"
