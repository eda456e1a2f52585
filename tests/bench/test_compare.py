"""The arithmetic of bench/compare: ratios, their spread, and when it fails."""
import importlib.machinery
import importlib.util
import pathlib
import threading
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench" / "compare"
loader = importlib.machinery.SourceFileLoader("compare", str(SCRIPT))
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
loader.exec_module(compare)


class Compare(unittest.TestCase):
    def test_ratios_are_paired_by_round(self):
        self.assertEqual(compare.ratios_of([2, 9, 4], [1, 3, 8]), [2, 3, 0.5])
        row = compare.compare_times({"solve": [2, 9, 4]}, {"solve": [1, 3, 8]})["solve"]
        self.assertEqual(row["ratio"], {"median": 2, "min": 0.5, "max": 3})  # the medians give 4 / 3
        self.assertEqual(row["this"], {"median": 4, "min": 2, "max": 9})

    def test_a_slow_hour_that_hits_both_sides_changes_nothing(self):
        row = compare.compare_times({"solve": [1.0, 5.0, 1.0, 7.0]}, {"solve": [1.0, 5.0, 1.0, 7.0]})["solve"]
        self.assertEqual(row["ratio"], {"median": 1, "min": 1, "max": 1})

    def test_only_a_median_above_the_limit_fails(self):
        compared = compare.compare_times({"solve": [1.03, 1.03, 9.0], "study": [1.04, 1.04, 0.1]},
                                         {"solve": [1.0, 1.0, 1.0], "study": [1.0, 1.0, 1.0]})
        self.assertEqual(compare.too_slow(compared, 1.03), ["study"])
        self.assertEqual(compare.too_slow(compared, 1.05), [])
        self.assertEqual(compare.too_slow(compared, 1.0), ["solve", "study"])
        self.assertEqual(compare.too_slow(compared, None), [])

    def test_times_that_cannot_be_compared_are_an_error(self):
        for this, that in (([1], [1, 2]), ([], []), ([0.0], [1.0]), ([1.0], [0.0])):
            with self.subTest(this=this, that=that), self.assertRaises(compare.CannotCompare):
                compare.ratios_of(this, that)
        with self.assertRaises(compare.CannotCompare):
            compare.compare_times({"solve": [1]}, {"study": [1]})

    def test_other_work_is_an_error(self):
        work = {"tokens": 2048, "cells_before": 2048, "cells_after": 256, "study_tokens": 704}
        compare.check_same_work(work, dict(work))
        for field in work:
            with self.subTest(field=field), self.assertRaises(compare.CannotCompare):
                compare.check_same_work(work, {**work, field: 1})

    def test_every_other_round_has_the_processors_the_other_way_round(self):
        self.assertEqual([compare.order_of(i, compare.halves_of([0, 1, 2, 3, 4])) for i in range(3)],
                         [[[0, 1], [2, 3]], [[2, 3], [0, 1]], [[0, 1], [2, 3]]])
        self.assertEqual(compare.halves_of([7]), [[7], [7]])

    def test_both_sides_run_at_once(self):
        together = threading.Barrier(2, timeout=10)
        self.assertEqual(compare.at_once([1, 2], lambda side: together.wait() >= 0 and side), [1, 2])

    def test_the_table_has_a_line_a_figure(self):
        lines = compare.table(compare.compare_times({"solve": [0.2, 0.4]}, {"solve": [0.1, 0.1]})).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[1], r"^solve +300\.0 ms +100\.0 ms +3\.000 \(2\.000\.\.4\.000\)$")


if __name__ == "__main__":
    unittest.main()
