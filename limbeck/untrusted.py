"""Text that a model or a file says, made safe to show: what acts on its surroundings or cannot be seen gets a number.

Whoever shows it still escapes it for the place where it stands (a page, a card, a terminal's markup). Pure.
"""

import re

# Controls except tab and newline; soft hyphen; Arabic, Mongolian and zero-width marks; line and paragraph separators;
# bidirectional embeddings, overrides and isolates; byte order mark; interlinear marks; lone surrogates; tag characters.
# The zero-width joiners U+200C and U+200D stay: Persian, Hindi and emoji need them, and they reorder nothing.
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\U000e0000-\\U000e007f]"
)


def visible(text: str) -> str:
    """Show characters that act on the text around them, or cannot be seen, as ⟪U+202E⟫."""
    return _UNSEEN.sub(lambda match: f"⟪U+{ord(match[0]):04X}⟫", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int) -> str:
    """Text on a single line, made visible, white space folded, cut to `limit` characters with an ellipsis."""
    line = " ".join(visible(text[: 2 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
