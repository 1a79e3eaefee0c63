"""Where a browser may break inline code at the end of a line.

An option stays whole: `--settings` would be cut after its dashes. A long name may be cut after a
mark within it (`goalrank_state_newest_event_seconds`), so that a table with such names fits a
narrow screen. Code blocks are left as they are, and what is copied or searched does not change.
"""

from __future__ import annotations

import re
from typing import Any

# Blocks come first in the alternatives, so that code within them is passed over.
_CODE = re.compile(r"<pre\b.*?</pre>|<code>([^<]*)</code>", re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
_MARK = re.compile(r"(?<=\w)[_./:=](?=\w)")


def on_page_content(html: str, **_: Any) -> str:
    """Mark options and the places of long names."""
    return _CODE.sub(_marked, html)


def _marked(code: re.Match[str]) -> str:
    if code[1] is None:
        return code[0]
    with_places = _MARK.sub(r"\g<0><wbr>", code[1])
    return "<code>" + _OPTION.sub(r'<span class="whole">\g<0></span>', with_places) + "</code>"
