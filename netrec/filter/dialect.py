"""Which language a filter's text is written in: tcpdump's (this package) or SQL over the fields of a table.

The rule is by words alone, so that a slip of the pen is reported in the language that was meant:

1. a character that only SQL has (= < > , ; + * % [ ]) outside quotation marks makes it SQL;
2. so does one of the words in, is, like, ilike, between, null, true, false, similar, glob;
3. else it is tcpdump's language when its first word (after not and opening parentheses) is one of that language,
4. and SQL when it is not.

A process or host that is named like one of those words goes in quotation marks: process "like".
"""

from __future__ import annotations

import re

from netrec.filter.parser import KEYWORDS

_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_SQL_CHARACTERS = re.compile(r"[=<>,;+*%\[\]]")
_SQL_WORDS = re.compile(r"\b(in|is|like|ilike|between|null|true|false|similar|glob)\b", re.IGNORECASE)
_FIRST_WORD = re.compile(r"(?:\s|!|\(|not(?=[\s(!]))*([^\s()!&|]*)")


def is_expression(text: str) -> bool:
    """Whether the text is meant in tcpdump's language; False: as SQL. Does not say that it is right."""
    plain = _QUOTED.sub('""', text)
    if _SQL_CHARACTERS.search(plain) or _SQL_WORDS.search(plain):
        return False
    match = _FIRST_WORD.match(plain)
    return match is not None and match[1] in KEYWORDS
