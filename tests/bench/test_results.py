"""What bench/results.py and bench/peers.py make of what was measured; both are run by hand."""
import pathlib
import struct
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import gguf_name  # noqa: E402
import pages  # noqa: E402
import peers  # noqa: E402
import results  # noqa: E402

ONE = "One line.\n<!-- a -->\nold\n<!-- end of a -->\nLast.\n"


class Pages(unittest.TestCase):
    def test_a_geometric_mean(self):
        self.assertAlmostEqual(pages.geomean([0.01, 1, 100]), 1)
        self.assertAlmostEqual(pages.geomean({"x": 2, "y": 8}.values()), 4)  # the arithmetic one is 5

    def test_a_marked_part_is_replaced_and_nothing_else(self):
        self.assertEqual(pages.with_marked(ONE, "a", "new\n"), ONE.replace("old", "new"))
        self.assertEqual(pages.marked(ONE, "a"), "<!-- a -->\nold\n<!-- end of a -->\n")

    def test_a_part_that_is_not_there_goes_to_the_end(self):
        self.assertEqual(pages.marked(ONE, "b"), "")
        self.assertEqual(pages.with_marked(ONE, "b", "new\n"), ONE + "\n<!-- b -->\nnew\n<!-- end of b -->\n")


class Models(unittest.TestCase):
    def test_a_share_is_of_the_method_that_keeps_the_newest(self):
        rows = [{"task": "continuation", "method": name, "kl_geomean": kl}
                for name, kl in (("keep_last", 0.2), ("refine", 0.05))]
        self.assertEqual(results.share_of_keep_last({"rows": rows}, "refine"), "0.25 (0.0500)")
        self.assertEqual(results.share_of_keep_last({"rows": rows}, "keep_last"), "1.00 (0.2000)")

    def test_texts_are_there_and_explained(self):
        explained = (ROOT / "bench/texts/README.md").read_text()
        own = [ROOT / text for text in results.TEXTS if text.startswith("bench/texts/")]
        self.assertCountEqual(own, [file for file in (ROOT / "bench/texts").iterdir() if file.name != "README.md"])
        for text in own:
            with self.subTest(text=text.name):
                self.assertIn(f"| `{text.name}` |", explained)
                self.assertGreater(len(text.read_bytes()), 16000)

    def test_texts_are_chosen_by_name(self):
        self.assertEqual(results.chosen_texts("chat.txt,GPL-3"),
                         ["bench/texts/chat.txt", "/usr/share/common-licenses/GPL-3"])
        with self.assertRaisesRegex(results.argparse.ArgumentTypeError, "no text gone.txt; there are prose.txt"):
            results.chosen_texts("gone.txt")


def answered(task, method, exact, cells):
    return {"task": task, "method": method, "exact": exact, "exact_full": 0.62, "nll": 1.5, "nll_full": 1.25,
            "kl": 0.06, "cells_after": cells}


ANSWERED = [answered(task, method, exact, cells) for task in ("questions", "copy")
            for method, exact, cells in (("keep_last", 0.12, 128), ("fast", 0.5, 128), ("fast +16", 0.6, 144),
                                         ("balanced", 0.56, 128), ("balanced +16", 0.63, 144), ("best", 0.4, 128),
                                         ("best +16", 0.7, 144))]


class Recall(unittest.TestCase):
    def test_what_is_recalled_stands_beside_the_cells_that_it_takes(self):
        with mock.patch.object(results, "recall_report", lambda: ("command", {"rows": ANSWERED})):
            table = results.recall()
        self.assertIn("| questions | `balanced` | 128 | 56% | +0.25 | 0.060 |", table)
        self.assertIn("| questions | `balanced` | 144 | 63% | +0.25 | 0.060 |", table)

    def test_the_readme_has_both(self):
        rows = [{"task": "continuation", "method": method, "kl_geomean": kl, "top1": 0.9, "study_s": 2, "solve_s": 1}
                for method, kl in (("keep_last", 0.2), ("fast", 0.1), ("balanced", 0.05), ("best", 0.04))]
        with mock.patch.object(results, "recall_report", lambda: ("command", {"rows": ANSWERED})), \
                mock.patch.object(results, "quality_report", lambda ratio: ("", {"rows": rows, "prefill_s": 3.0})):
            table = results.cost_and_worth()
        self.assertIn("| `balanced` | 1.00 | 0.25 | 90.0% | 56% | 63% |", table)


class Written(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "docs").mkdir()
        (self.root / "docs/results.md").write_text(ONE)
        for name, value in (("ROOT", self.root), ("TABLES", {"a": lambda: "## A\n\nwords\n"})):
            patched = mock.patch.object(results, name, value)
            patched.start()
            self.addCleanup(patched.stop)

    def test_a_table_says_under_its_heading_what_it_was_measured_on(self):
        with mock.patch.object(results, "git", lambda *_: "abc"):
            results.write_tables(["a"], "Measured at abc.", "abc")
        self.assertEqual((self.root / "docs/results.md").read_text(),
                         ONE.replace("old\n", "## A\n\nMeasured at abc.\n\nwords\n"))

    def test_nothing_is_written_when_the_commit_changed(self):
        with mock.patch.object(results, "git", lambda *_: "def"), \
                self.assertRaisesRegex(SystemExit, "a is not written"):
            results.write_tables(["a"], "Measured at abc.", "abc")
        self.assertEqual((self.root / "docs/results.md").read_text(), ONE)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(*pairs):
    """A GGUF file's header; pairs: (key, type, bytes)."""
    values = b"".join(string(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + values


WORDS = ("words", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b"))
COUNT = ("count", 4, struct.pack("<I", 7))
NAME = ("general.name", 8, string("A Model"))
SIZE = ("general.size_label", 8, string("0.5B"))


class GgufName(unittest.TestCase):
    def write(self, data):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "file-name.gguf"
        path.write_bytes(data)
        return path

    def test_the_name_stands_behind_other_values(self):
        path = self.write(gguf(WORDS, COUNT, NAME, SIZE))
        self.assertEqual(gguf_name.metadata(path)["words"], ["a", "b"])
        self.assertEqual(gguf_name.metadata(path)["count"], 7)
        self.assertEqual(gguf_name.model_name(path), "A Model 0.5B")

    def test_a_size_that_the_name_has_is_not_said_twice(self):
        named = ("general.name", 8, string("A Model 0.5b"))
        self.assertEqual(gguf_name.model_name(self.write(gguf(named, SIZE))), "A Model 0.5b")

    def test_a_file_without_a_name_has_that_of_the_file(self):
        self.assertEqual(gguf_name.model_name(self.write(gguf(COUNT, SIZE))), "file-name")

    def test_other_files_are_refused(self):
        whole = gguf(WORDS, NAME)
        for data, words in ((b"no model", "no GGUF"), (whole[:-3], "ends inside"), (whole[:30], "ends inside"),
                            (gguf(("x", 77, b"")), "type 77")):
            with self.subTest(words=words), self.assertRaisesRegex(ValueError, words):
                gguf_name.metadata(self.write(data))

    def test_a_hash_tells_files_apart(self):
        self.assertEqual(gguf_name.short_hash(self.write(b"abc")), "ba7816bf8f01")


def report(cells=128):
    rows = [{"task": "continuation", "method": name, "kl_geomean": kl, "top1": 0.9, "cells_after": cells,
             "study_s": 2.0, "solve_s": 1.0} for name, kl in (("keep_last", 0.2), ("refine", 0.05))]
    runs = [{"method": row["method"], "text": "GPL-3", "kl": row["kl_geomean"] * part} for row in rows
            for part in (0.5, 1.5)]
    return {"rows": rows, "runs": runs, "seeds": [1, 2], "prefill_s": 4.0}


def measured(**presses):
    return {"texts": {"GPL-3": {"noise": {"kl": 0.002, "top1": 0.99}, "presses": presses}}}


SNAP = {"kl": 0.1, "top1": 0.85, "cells": 128, "plain_s": [10, 100], "pressed_s": [11, 120]}


class Peers(unittest.TestCase):
    def table(self, **presses):
        return peers.table(1024, 8, "kvfold eval", report(), measured(**presses), "Here.")

    def test_rows_are_sorted_and_times_paired_by_round(self):
        lines = [line for line in self.table(SnapKVPress=SNAP).splitlines() if line.startswith("| `")]
        self.assertEqual(lines, ["| `refine` | kvfold | 0.0500 | 90.0% | 0.75 | 3.0 |",
                                 "| `SnapKVPress` | kvpress | 0.1000 | 85.0% | 0.15 | 10.5 |",
                                 "| `keep_last` | kvfold | 0.2000 | 90.0% | 0.75 | 3.0 |"])

    def test_what_was_not_measured_is_said(self):
        words = self.table(SnapKVPress=SNAP, GonePress={"error": "LookupError: none"}).replace("\n", " ")
        self.assertIn("Not measured: `GonePress` (GPL-3: LookupError: none).", words)
        self.assertIn("The prefill took 4.0 s in llama.cpp, with the file's quantised weights, and 55.0 s in", words)

    def test_without_any_press_there_is_no_table(self):
        with self.assertRaisesRegex(SystemExit, "no press could be measured: .*GonePress"):
            self.table(GonePress={"error": "LookupError: none"})

    def test_caches_of_other_sizes_are_not_compared(self):
        with self.assertRaisesRegex(SystemExit, r"`SnapKVPress` keeps 130 cells, and `refine` 128"):
            self.table(SnapKVPress={**SNAP, "cells": 130})


if __name__ == "__main__":
    unittest.main()
