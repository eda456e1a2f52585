"""Fenced code blocks of a Markdown text whose info string is '<language> snippet'.

```sh snippet   run by sh -eu, must end with code 0
```c snippet    must compile as C99 without a warning
```python snippet   run by tests/python, must end with code 0
"""
import dataclasses
import re
import textwrap

LANGUAGES = ("sh", "c", "python")


@dataclasses.dataclass
class Snippet:
    language: str
    line: int  # of the opening fence
    code: str


def find_snippets(text):
    snippets = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = re.match(r"^\s*(`{3,}|~{3,})\s*([^`]*?)\s*$", lines[at])
        if not opening:
            at += 1
            continue
        fence, info = opening[1], opening[2].split()
        start = at + 1
        at = start
        while at < len(lines) and not re.match(rf"^\s*{re.escape(fence[0])}{{{len(fence)},}}\s*$", lines[at]):
            at += 1
        if at == len(lines):
            raise ValueError(f"line {start}: the fence is never closed")
        if "snippet" in info:
            if info[1:] != ["snippet"] or info[0] not in LANGUAGES:
                raise ValueError(f"line {start}: '{' '.join(info)}' is none of {', '.join(LANGUAGES)} with 'snippet'")
            code = textwrap.dedent("\n".join(lines[start:at])) + "\n"
            if not code.strip():
                raise ValueError(f"line {start}: the snippet is empty")
            snippets.append(Snippet(info[0], start, code))
        at += 1
    return snippets
