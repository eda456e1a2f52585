"""The report of `kvfold eval` in headless Chromium, opened from disk.

KVFOLD_SCREENSHOTS=FOLDER keeps the pictures."""
import json
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import png
import sample
from browser import Browser, Page, keep_picture, needed

MARKS = ".point, .cell, polyline.series"
CHARTS = """[...document.querySelectorAll('figure')].map(f => ({
  title: f.querySelector('h3').textContent, marks: f.querySelectorAll('%s').length, rows: f.querySelectorAll('tbody tr').length}))""" % MARKS
BOXES = """[...document.querySelectorAll('figure .chart')].map(c => { const b = c.getBoundingClientRect();
  return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })"""
# WCAG contrast of every text in the charts against its panel.
CONTRASTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => { const [r, g, b] = parts(colour).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const panel = light(getComputedStyle(document.querySelector('.panel')).backgroundColor);
  return [...document.querySelectorAll('svg text')].map(t => light(getComputedStyle(t).fill))
    .map(ink => (Math.max(ink, panel) + 0.05) / (Math.min(ink, panel) + 0.05)); })()"""


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)
        cls.document = sample.document()

    def page(self, document=None, **options):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "report.html"
        html = subprocess.run([needed("KVFOLD_RENDER_REPORT")], input=json.dumps(document or self.document), text=True,
                              capture_output=True, check=True).stdout
        path.write_text(html)
        page = Page(self.browser, **options)
        page.open(path.as_uri())
        page.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
        return page

    def text(self, page, selector="body"):
        return page.value(f"document.querySelector('{selector}').innerText")

    def count(self, page, selector):
        return page.value(f"document.querySelectorAll('{selector}').length")

    def assert_marks(self, charts):
        self.assertGreater(len(charts), 0)
        for chart in charts:
            self.assertGreaterEqual(chart["marks"], 20, chart)

    def test_every_chart_has_its_marks_and_its_table(self):
        page = self.page()
        charts = page.value(CHARTS)
        self.assertEqual([chart["title"] for chart in charts],
                         ["continuation", "questions", "memory", "chat"] * 2 +
                         ["questions: Exact answers by depth", "questions: Likelihood of the answers by depth",
                          "memory: Exact answers by depth", "memory: Likelihood of the answers by depth",
                          "memory: F1 of written answers by depth", "KL by round", "Exact recall by round",
                          "Likelihood of the recall by round", "Cells by round", "Output error", "Mass error",
                          "select", "solver", "refine", "omp"])
        self.assert_marks(charts)
        for chart in charts:
            self.assertGreaterEqual(chart["rows"], 4, chart)
        self.assertEqual([chart["marks"] for chart in charts[-4:]], [16 * 64] * 4)
        # 6 methods at 4 ratios, their lines, and two full caches of other types
        self.assertEqual(charts[0]["marks"], 6 * 4 + 6 + 2)
        self.assertEqual(self.count(page, "#rows tbody tr"), len(self.document["rows"]))
        self.assertIn("noise floor", page.value("document.querySelector('figure svg').textContent"))
        self.assertEqual(page.complaints(), [])

    def test_charts_without_marks_would_be_noticed(self):  # the twin of the one above
        page = self.page()
        page.value(f"document.querySelectorAll('{MARKS}').forEach(mark => mark.remove())")
        with self.assertRaises(AssertionError):
            self.assert_marks(page.value(CHARTS))

    def test_the_charts_say_what_the_document_says(self):
        page = self.page()
        row = next(r for r in self.document["rows"] if (r["task"], r["method"], r["ratio"]) == ("continuation", "refine", 8))
        cells = page.value("[...[...document.querySelector('figure table').tBodies[0].rows].find(r => r.cells[0].textContent === '8').cells]"
                           ".map(c => c.textContent)")
        heads = page.value("[...document.querySelector('figure table').tHead.rows[0].cells].map(c => c.textContent)")
        self.assertAlmostEqual(float(cells[heads.index("refine")]), row["kl"], delta=0.001 * row["kl"] + 0.0005)
        # a larger KL stands higher
        at = ("Number([...document.querySelectorAll('figure .point')].find(p => p.textContent.startsWith('%s, 8'))"
              ".getAttribute('transform').match(/ ([\\d.]+)/)[1])")
        self.assertLess(page.value(at % "keep_random"), page.value(at % "refine"))

    def test_it_has_colours_in_light_and_in_dark_and_fits_any_width(self):
        for dark in (False, True):
            for width in (1280, 400):
                name = f"report-{'dark' if dark else 'light'}-{width}"
                page = self.page(width=width, dark=dark)
                self.assertLessEqual(page.value("document.documentElement.scrollWidth"), width, name)
                keep_picture(page.screenshot(), name)
                if dark == (width == 400):
                    for box in page.value(BOXES):
                        self.assertGreater(len(png.colours(page.screenshot(box), 120)), 20, (name, box))
                self.assertGreaterEqual(min(page.value(CONTRASTS)), 4.5, name)
                self.assertEqual(page.complaints(), [])

    def test_a_chart_that_is_not_drawn_would_be_blank(self):  # the twin of the one above
        page = self.page()
        page.value("document.querySelectorAll('figure svg').forEach(svg => { svg.style.visibility = 'hidden'; })")
        self.assertEqual(len(png.colours(page.screenshot(page.value(BOXES)[0]))), 1)

    def test_without_rows_it_says_so(self):
        page = self.page({**self.document, "rows": [], "runs": []})
        self.assertIn("Nothing was measured", self.text(page))
        self.assertEqual(self.count(page, "figure"), 0)
        self.assertIn("SmolLM2-135M-Instruct", self.text(page, "#facts"))
        for hidden in ("controls", "all-rows"):
            self.assertTrue(page.value(f"document.getElementById('{hidden}').hidden"), hidden)
        keep_picture(page.screenshot(), "report-nothing")
        self.assertEqual(page.complaints(), [])

    def test_charts_of_what_was_not_measured_are_left_out(self):
        rows = [{key: value for key, value in row.items() if key not in ("by_depth", "rounds", "exact", "exact_full")}
                for row in self.document["rows"] if row["task"] == "continuation" and row["ratio"] == 8]
        page = self.page({**self.document, "rows": rows, "runs": []})
        self.assertEqual([chart["title"] for chart in page.value(CHARTS)], ["KL", "KL against time"])
        self.assertEqual([chart["marks"] for chart in page.value(CHARTS)], [6, 6 * 2])  # points, then each with a line of length 0
        self.assertTrue(page.value("document.getElementById('ratio-choice').hidden"))
        self.assertNotIn("exact", self.text(page, "#rows"))
        keep_picture(page.screenshot(), "report-one-ratio")
        self.assertEqual(page.complaints(), [])

    def test_figures_that_are_not_known_leave_gaps(self):
        document = json.loads(json.dumps(self.document))
        for row in document["rows"]:
            if row["method"] == "solver" and row["ratio"] == 16:
                row["kl"] = None
        page = self.page(document)
        lines = "[...document.querySelectorAll('figure')][0].querySelectorAll('polyline.series').length"
        self.assertEqual(page.value(lines), 7)  # one line is in two pieces
        self.assertNotIn("NaN", page.value("document.getElementById('figures').innerHTML"))
        self.assertEqual(page.complaints(), [])

    def test_methods_can_be_hidden_and_the_ratio_chosen(self):
        page = self.page()
        box = "[...document.querySelectorAll('#methods label')].find(l => l.textContent === '%s').querySelector('input')"
        page.value(f"{box % 'omp'}.click()")
        self.assertNotIn("omp", [chart["title"] for chart in page.value(CHARTS)])
        self.assertEqual(page.value(CHARTS)[0]["marks"], 5 * 4 + 5 + 2)
        page.value("const ratio = document.getElementById('ratio'); ratio.value = '32'; ratio.dispatchEvent(new Event('change'))")
        self.assertIn("at 32\u00d7", self.text(page, "#figures"))
        for name in ("keep_last", "keep_random", "select", "solver", "refine"):
            page.value(f"{box % name}.click()")
        self.assertIn("full q8_0", page.value("document.getElementById('figures').innerHTML"))  # caches of other types stay
        page.value(f"{box % 'refine'}.click()")
        self.assertIn("refine", [chart["title"] for chart in page.value(CHARTS)])
        self.assertEqual(page.complaints(), [])

    def test_the_keyboard_reaches_everything_and_shows_where_it_is(self):
        page = self.page()
        seen = []
        for _ in range(9):
            page.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            page.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            seen.append(page.value("[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle, "
                                   "parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"))
        self.assertEqual([tag for tag, _, _ in seen[:8]], ["PRE", *["INPUT"] * 6, "SELECT"])
        for tag, style, width in seen:
            self.assertEqual(style, "solid", tag)
            self.assertGreaterEqual(width, 2, tag)

    def test_a_saved_chart_stands_alone_in_light_colours(self):
        for dark in (False, True):
            page = self.page(dark=dark)
            text = page.value("svgText(document.querySelector('figure .chart'))")
            root = xml.etree.ElementTree.fromstring(text)
            paths = root.findall("{http://www.w3.org/2000/svg}path")
            self.assertEqual(len(paths), 6 * 4 + 2)
            self.assertIn("rgb(47, 115, 145)", {path.get("fill") for path in paths})
            for word in ("var(", "light-dark", "class="):
                self.assertNotIn(word, text)
            self.assertEqual(self.count(page, ".stage"), 0)

    def test_names_with_markup_stay_text(self):
        name = "</script><img src=x onerror=alert(1)><b>bold</b>"
        document = json.loads(json.dumps(self.document).replace('"refine"', json.dumps(name)).replace('"questions"', json.dumps(name)))
        page = self.page({**document, "model": name, "command": name})
        self.assertIn(name, self.text(page, "#facts"))
        self.assertIn(name, [chart["title"] for chart in page.value(CHARTS)])
        self.assertEqual(self.count(page, "img, b"), 0)
        self.assertEqual(page.complaints(), [])


if __name__ == "__main__":
    unittest.main()
