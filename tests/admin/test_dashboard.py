"""The dashboard in headless Chromium, on the simulated cache of admin_demo.

KVFOLD_SCREENSHOTS=FOLDER keeps the pictures."""
import subprocess
import unittest

import png
from browser import Browser, Page, keep_picture, needed

LOADED = "!document.getElementById('all').hidden"
COUNT = "document.querySelectorAll('%s').length"


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def demo(self, scene, *arguments):
        """The address of a server on that scene."""
        process = subprocess.Popen([needed("KVFOLD_ADMIN_DEMO"), scene, *arguments], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)

        def stop():
            process.stdin.close()
            process.stdout.close()
            self.assertEqual(process.wait(20), 0)

        self.addCleanup(stop)
        self.last_demo = process
        return f"http://127.0.0.1:{int(process.stdout.readline())}/"

    def tell(self, line):
        """The demo: a number ends that process, "load" starts one more."""
        self.last_demo.stdin.write(line + "\n")
        self.last_demo.stdin.flush()

    def page(self, scene, ready=LOADED, **options):
        page = Page(self.browser, **options)
        page.open(self.demo(scene))
        page.wait_for(f"document.readyState === 'complete' && !!document.getElementById('all') && ({ready})")
        return page

    def count(self, page, selector):
        return page.value(COUNT % selector)

    def text(self, page, selector="body"):
        return page.value(f"document.querySelector('{selector}').innerText")

    def picture(self, page, name):
        data = page.screenshot()
        keep_picture(data, name)
        return data

    def test_a_lively_cache_fills_the_page(self):
        page = self.page("lively")
        self.assertEqual(self.count(page, ".sequence .bar"), 3)
        widths = page.value("[...document.querySelectorAll('.bar')].map(b => [...b.children].map(i => parseFloat(i.style.width)))")
        for pinned, folded, recalled, live in widths:
            self.assertGreater(pinned, 0)
            self.assertGreater(live, 0)
            self.assertLessEqual(pinned + folded + recalled + live, 100)
        self.assertGreater(max(folded for _, folded, _, _ in widths), 0)
        self.assertGreater(max(recalled for _, _, recalled, _ in widths), 0)
        self.assertRegex(self.text(page, ".sequence .held"), r"^[\d\u202f]+ tokens in [\d\u202f]+ cells, [\d.]+\u00d7$")
        for chart, lines in (("cells-chart", 2), ("speed-chart", 1)):
            points = page.value(f"[...document.querySelectorAll('#{chart} polyline')].map(l => l.points.length)")
            self.assertGreaterEqual(len(points), lines)
            self.assertGreater(sum(points), 150 * lines, chart)
            self.assertGreater(self.count(page, f"#{chart} .mark"), 3)
        self.assertGreater(self.count(page, "#speed-chart polyline"), 5)  # a gap where nothing was generated
        self.assertEqual(self.count(page, "#kept .cell"), 30 * 64)
        shades = page.value("new Set([...document.querySelectorAll('#kept .cell')].map(c => c.getAttribute('fill-opacity'))).size")
        self.assertGreater(shades, 100)
        for word in ("layer", "position", "share kept"):
            self.assertIn(word, page.value("document.getElementById('kept').textContent"))
        self.assertGreater(self.count(page, "#gain .gain"), 3)
        self.assertGreater(self.count(page, "#folds tbody tr"), 5)
        self.assertEqual(self.count(page, "#folds td.bad"), 1)
        self.assertIn("llama 135M Q4_1", self.text(page, "header"))
        self.assertRegex(self.text(page, "#tiles"), r"47\.2\s*MB\s+189 MB at the virtual size")
        for empty in ("nothing", "no-sequences", "no-kept", "no-gain", "no-folds", "notice", "login"):
            self.assertTrue(page.value(f"document.getElementById('{empty}').hidden"), empty)
        self.assertEqual(page.complaints(), [])

    def test_the_methods_are_the_servers(self):
        page = self.page("lively")
        options = page.value("[...document.querySelector('.sequence select').options].map(o => [o.value, o.title])")
        self.assertEqual([name for name, _ in options], ["refine", "self_study", "select", "keep_first", "squeeze"])
        self.assertEqual(options[4][1], "what squeeze is good for")
        self.assertEqual(page.value("document.querySelector('.sequence select').value"), "refine")

    def test_figures_are_shown_by_their_own_names(self):
        page = self.page("lively")
        rows = page.value("[...document.querySelectorAll('#folds tbody tr')].filter(r => !r.querySelector('.bad'))"
                          ".map(r => [r.querySelector('[data-name=method]').textContent, r.querySelector('[data-name=also]').textContent])")
        said = {method: also for method, also in rows}
        self.assertEqual(said, {"refine": "", "self_study": "drafts thrown away 1\u202f234"})

    def test_it_moves(self):
        page = self.page("lively")
        before = self.text(page, "#uptime")
        page.wait_for(f"document.getElementById('uptime').textContent !== {before!r}")

    def test_it_has_colours_in_light_and_in_dark_and_fits_any_width(self):
        seen = {}
        for dark in (False, True):
            for width in (1280, 400):
                page = self.page("lively", width=width, dark=dark)
                self.assertLessEqual(page.value("document.documentElement.scrollWidth"), width)
                name = f"{'dark' if dark else 'light'}-{width}"
                data = self.picture(page, name)
                seen[name] = png.colours(data)
                self.assertGreater(len(seen[name]), 50, name)
                self.assertEqual(page.complaints(), [])
        self.assertIn(bytes.fromhex("f7f6f3"), {c[:3] for c in seen["light-1280"]})
        self.assertIn(bytes.fromhex("14171a"), {c[:3] for c in seen["dark-1280"]})
        self.assertNotIn(bytes.fromhex("f7f6f3"), {c[:3] for c in seen["dark-1280"]})

    def test_a_blank_picture_would_be_noticed(self):  # the twin of the one above
        page = Page(self.browser)
        self.assertEqual(len(png.colours(page.screenshot())), 1)

    def test_no_sequences(self):
        page = self.page("no_sequences")
        self.assertIn("No sequences.", self.text(page))
        self.assertEqual(self.count(page, ".bar"), 0)
        self.assertEqual(self.count(page, "#kept .cell"), 0)
        self.assertEqual(self.count(page, "#folds tbody tr"), 0)
        for sentence in ("Nothing has been folded yet.", "No folds yet."):
            self.assertIn(sentence, self.text(page))
        self.picture(page, "no-sequences")
        self.assertEqual(page.complaints(), [])

    def test_no_model(self):
        page = self.page("no_model", ready="!document.getElementById('nothing').hidden")
        self.assertIn("No model loaded yet", self.text(page))
        self.assertFalse(page.value(LOADED))
        self.picture(page, "no-model")
        self.assertEqual(page.complaints(), [])

    def choose(self, page, process):
        page.value(f"var chooser = document.getElementById('process'); chooser.value = '{process}';"
                   "chooser.dispatchEvent(new Event('change'))")

    def shows(self, page, model, process):
        page.wait_for(f"document.title === 'kvfold \u00b7 {model}' && document.getElementById('process').value === '{process}'")

    def test_one_process_needs_no_chooser(self):
        page = self.page("lively")
        self.assertTrue(page.value("document.getElementById('process').hidden"))
        self.assertIn("llama 135M Q4_1", self.text(page, "header"))

    def test_among_several_processes_one_is_chosen_and_stays_so(self):
        page = self.page("several")
        self.assertFalse(page.value("document.getElementById('process').hidden"))
        names = page.value("[...document.getElementById('process').options].map(o => o.textContent)")
        self.assertEqual(names, ["llama-q4 \u00b7 4001", "gemma3-q4 \u00b7 4002"])
        self.shows(page, "llama 135M Q4_1", 4001)
        folds = self.count(page, "#folds tbody tr")
        page.value("document.querySelector('.sequence input').value = '6.5'")
        self.picture(page, "several")
        self.choose(page, 4002)
        self.shows(page, "gemma3 270M Q8_0", 4002)
        self.assertIn("gemma3 270M Q8_0", self.text(page, "header"))
        self.assertLess(self.count(page, "#folds tbody tr"), folds)
        self.assertNotEqual(page.value("document.querySelector('.sequence input').value"), "6.5")
        page.call("Page.reload")
        page.wait_for(f"document.readyState === 'complete' && !!document.getElementById('all') && ({LOADED})")
        self.shows(page, "gemma3 270M Q8_0", 4002)
        self.picture(page, "second-of-several")
        self.assertEqual(page.complaints(), [])

    def test_the_chooser_fits_a_narrow_page(self):
        page = self.page("several", width=400)
        self.assertFalse(page.value("document.getElementById('process').hidden"))
        self.assertLessEqual(page.value("document.documentElement.scrollWidth"), 400)
        self.picture(page, "several-400")

    def test_what_is_asked_for_reaches_the_chosen_process(self):
        page = self.page("several")
        self.choose(page, 4002)
        self.shows(page, "gemma3 270M Q8_0", 4002)
        # Both fold by themselves too, with another method.
        asked_for = "folds.filter(f => f.method === 'select').length"
        folds = lambda process: page.value(f"fetch('state?process={process}').then(r => r.json()).then(s => s.{asked_for})")
        before = folds(4001), folds(4002)
        page.value("document.querySelector('.sequence select').value = 'select';"
                   "document.querySelector('.sequence button').click()")
        page.wait_for("document.querySelector('.sequence output').textContent.includes('in 1.3 s')")
        self.assertEqual(folds(4001), before[0])
        self.assertGreater(folds(4002), before[1])

    def test_a_process_that_ends_makes_way_for_the_first(self):
        page = self.page("several")
        self.choose(page, 4002)
        self.shows(page, "gemma3 270M Q8_0", 4002)
        self.tell("4002")
        self.shows(page, "llama 135M Q4_1", 4001)
        page.wait_for("document.getElementById('process').hidden")
        self.tell("load")
        page.wait_for("!document.getElementById('process').hidden")
        self.shows(page, "llama 135M Q4_1", 4001)
        self.tell("4001")
        page.wait_for("document.title === 'kvfold \u00b7 qwen3 0.6B Q4_K'")

    def test_a_router_without_a_model_is_no_fault(self):
        page = self.page("unloaded", ready="!document.getElementById('nothing').hidden")
        self.assertEqual(self.text(page, "#link"), "live")
        self.tell("load")
        page.wait_for(LOADED)
        self.tell("4001")
        page.wait_for(f"!({LOADED})")
        self.assertIn("No model loaded yet", self.text(page))
        self.assertEqual(self.text(page, "#uptime"), "")
        self.assertTrue(page.value("document.getElementById('notice').hidden"))

    def test_passed_through_says_why_and_markup_stays_text(self):
        page = self.page("passed_through", ready="!document.getElementById('notice').hidden")
        self.assertIn("passed through as it is: its layers are <recurrent>", self.text(page, "#notice"))
        self.assertEqual(self.count(page, "recurrent"), 0)

    def test_a_server_that_sleeps_is_not_passed_through(self):
        page = self.page("asleep", ready="!document.getElementById('notice').hidden")
        self.assertIn("shows up here when it wakes", self.text(page, "#notice"))
        self.assertEqual(self.text(page, "#link"), "live")
        self.assertTrue(page.value("document.getElementById('all').hidden"))

    def test_a_draft_model_is_named(self):
        page = self.page("draft")
        self.assertIn("llama 15M F16", self.text(page, "#others"))
        self.assertIn("3 folds", self.text(page, "#others"))

    def test_nobody_answers(self):
        page = self.page("lost", ready="!document.getElementById('notice').hidden")
        self.assertIn("llama-server has ended with status 1", self.text(page, "#notice"))
        self.assertEqual(self.text(page, "#link"), "disconnected")
        self.assertTrue(page.complaints())  # the 503s: complaints are noticed

    def test_the_server_goes_away(self):
        page = self.page("lively")
        self.last_demo.stdin.close()
        page.wait_for("document.body.classList.contains('stale')")
        self.assertIn("does not answer", self.text(page, "#notice"))
        self.assertEqual(self.count(page, ".bar"), 3)  # what was known stays
        self.picture(page, "disconnected")

    def test_compacting_from_the_page(self):
        page = self.page("lively")
        first = "document.querySelector('.sequence[data-id=\"0\"] %s')"
        form = lambda method, ratio: page.value(
            f"{first % 'select'}.value = '{method}'; {first % 'input'}.value = '{ratio}'; {first % 'button'}.click()")
        output = f"{first % 'output'}"
        form("refine", "4")
        page.wait_for(f"/^[\\d\\u202f]+ \\u2192 [\\d\\u202f]+, [\\d.]+\\u00d7 in 1.3 s$/.test({output}.textContent)")
        self.assertEqual(page.complaints(), [])
        form("keep_first", "4")
        page.wait_for(f"{output}.className === 'bad'")
        self.assertIn("is a baseline", page.value(f"{output}.textContent"))
        page.wait_for(f"!{first % 'button'}.disabled")
        self.picture(page, "compact-error")

    def test_what_is_typed_survives_the_next_poll(self):
        page = self.page("lively")
        ratio = "document.querySelector('.sequence input')"
        page.value(f"{ratio}.focus(); {ratio}.value = '6.5'; document.querySelector('.sequence select').value = 'select'")
        before = self.text(page, "#uptime")
        page.wait_for(f"document.getElementById('uptime').textContent !== {before!r}")
        self.assertEqual(page.value(f"{ratio}.value"), "6.5")
        self.assertEqual(page.value("document.querySelector('.sequence select').value"), "select")
        self.assertTrue(page.value(f"document.activeElement === {ratio}"))

    def test_the_token_is_asked_for_and_kept(self):
        page = Page(self.browser)
        page.open(self.demo("lively", "0", "secret"))
        page.wait_for("!!document.getElementById('login') && !document.getElementById('login').hidden")
        enter = lambda token: page.value(
            f"document.getElementById('token').value = '{token}'; document.querySelector('#login button').click()")
        enter("wrong")
        page.wait_for("document.getElementById('notice').textContent.includes('did not accept')")
        self.picture(page, "token")
        enter("secret")
        page.wait_for(LOADED)
        page.call("Page.reload")
        page.wait_for(f"document.readyState === 'complete' && !!document.getElementById('all') && ({LOADED})")


if __name__ == "__main__":
    unittest.main()
