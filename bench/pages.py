"""What the pages of docs/ are made of: tables, their sections, and means."""

import math
import re
import statistics
import textwrap


def geomean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def wrapped(words):
    return textwrap.fill(words, 118, break_long_words=False, break_on_hyphens=False)


def section(title, words, header, rows, *commands):
    """A heading, a paragraph, a table and the commands that it came from."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return f"## {title}\n\n{wrapped(words)}\n\n" + "\n".join(lines) + "\n\n```sh\n" + "\n".join(commands) + "\n```\n"


def marked(page, name):
    """What stands between two comments of a page, with them; empty: there are none."""
    found = re.search(rf"<!-- {name} -->\n.*?<!-- end of {name} -->\n", page, re.DOTALL)
    return found[0] if found else ""


def with_marked(page, name, text):
    """The page with that text between its two comments; at its end when it has none."""
    new = f"<!-- {name} -->\n{text}<!-- end of {name} -->\n"
    old = marked(page, name)
    return page.replace(old, new) if old else f"{page}\n{new}"
