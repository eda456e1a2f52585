"""The documents keep their word: links lead somewhere, every method is explained, the README's figures are measured."""
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

from command import needed

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "packaging/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def prose(text):
    """Without fenced blocks and code spans, which hold no links."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *(```|~~~).*?^ *\1", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text):
    """As GitHub names them."""
    fenceless = re.sub(r"^ *(```|~~~).*?^ *\1", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)", fenceless, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(target)
    return broken


def rows(text, title):
    """Cells of the first table behind a line that begins with the title, without its two header lines."""
    behind = re.split(rf"^{re.escape(title)}.*$", text, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", behind, flags=re.MULTILINE)[0]
    return [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


class Links(unittest.TestCase):
    def test_links_lead_to_files_and_headings(self):
        for page in PAGES:
            with self.subTest(page=page.name):
                self.assertEqual(broken_links(page), [])

    def test_a_broken_link_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "page.md"
            page.write_text("# A title, `x`\n[a](page.md#a-title-x) [b](gone.md) [c](#gone) [d](https://example.org)\n"
                            "`[e](gone.md)`\n```\n# not a title\n[f](gone.md)\n```\n[g](#not-a-title)\n")
            self.assertEqual(broken_links(page), ["gone.md", "#gone", "#not-a-title"])


class Methods(unittest.TestCase):
    def test_every_method_has_its_row_and_no_other(self):
        listed = json.loads(subprocess.run([needed("KVFOLD_BIN"), "methods", "--json"], check=True, text=True,
                                           stdout=subprocess.PIPE).stdout)
        explained = [row[0].split()[0].strip("`") for row in rows((ROOT / "docs/methods.md").read_text(), "# Methods")]
        self.assertCountEqual(explained, [method["name"] for method in listed])


class CostAndWorth(unittest.TestCase):
    def test_the_readme_shows_the_figures_of_the_results(self):
        results = (ROOT / "docs/results.md").read_text()
        quality = {row[0]: row for row in rows(results, "## SmolLM2-135M-Instruct, 2048 tokens, 8x")}
        exact = {}  # by method: alone, and with cells recalled
        for task, method, _, answered, *_ in rows(results, "## Recall"):
            if task == "questions":
                exact.setdefault(method, []).append(answered)
        shown = rows((ROOT / "README.md").read_text(), "<!-- cost and worth")
        self.assertEqual(len(shown), 3)
        for name, *figures in shown:
            method = name.strip("`")
            share, top1, cost = quality[method][-3:]
            self.assertEqual(figures, [cost, share, top1, *exact[name]], method)


if __name__ == "__main__":
    unittest.main()
