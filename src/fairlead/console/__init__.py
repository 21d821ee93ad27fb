"""Pages: the customers' chat (and its embeddable widget) and the operators' console.

Shows what other rooms decide; holds no business rule and no SQL. Everything that is not ours (messages, passages,
names, feedback) is text: it reaches a page only through autoescaping templates or ``textContent``.
"""

from fairlead.console.door import create_app

__all__ = ["create_app"]
