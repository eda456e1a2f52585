"""kvfold.solve_head on arrays, in a Python without llama.cpp."""
import os
import subprocess
import sys
import unittest

from command import needed
from package import NEEDS, ROOT, kvfold

import numpy

T, D, DV, N, KEPT = 64, 16, 8, 48, 16


def attention(keys, values, queries, scale):
    """Output [n, dv] and log of the mass [n]."""
    logits = scale * queries.astype(numpy.float64) @ keys.T
    top = logits.max(axis=1, keepdims=True)
    weights = numpy.exp(logits - top)
    mass = weights.sum(axis=1, keepdims=True)
    return weights @ values / mass, (numpy.log(mass) + top)[:, 0]


class SolveHead(unittest.TestCase):
    def setUp(self):
        random = numpy.random.default_rng(1)
        self.keys, self.values = (random.normal(size=(T, width)).astype(numpy.float32) for width in (D, DV))
        self.queries = random.normal(0.5, 1, size=(N, D)).astype(numpy.float32)
        self.scale = D ** -0.5

    def solve(self, **more):
        return kvfold.solve_head(self.keys, self.values, self.queries, self.scale, KEPT, **more)

    def error(self, head):
        """As numpy counts it, of the output and of the mass."""
        full, full_mass = attention(self.keys, self.values, self.queries, self.scale)
        now, mass = attention(numpy.asarray(head.keys), numpy.asarray(head.values), self.queries, self.scale)
        return numpy.linalg.norm(now - full) / numpy.linalg.norm(full), numpy.sqrt(((mass - full_mass) ** 2).mean())

    def test_the_errors_that_it_tells_are_those_that_numpy_finds(self):
        for method in (None, "select", "solver", "omp", "refine", "omp_refine"):
            with self.subTest(method=method):
                head = self.solve(method=method)
                self.assertEqual(numpy.asarray(head.keys).shape, (KEPT, D))
                output, mass = self.error(head)
                self.assertAlmostEqual(head.output_error, output, delta=1e-4)
                self.assertAlmostEqual(head.mass_error, mass, delta=1e-4)

    def test_a_fit_is_better_than_the_cells_as_they_are(self):
        self.assertLess(self.error(self.solve()), self.error(self.solve(method="select")))

    def test_cells_are_rising_and_pinned_ones_among_them(self):
        head = self.solve(pinned=[0, 1, 63])
        self.assertEqual(sorted(set(head.cells)), head.cells)
        self.assertLessEqual({0, 1, 63}, set(head.cells))
        chosen = self.solve(method="select")
        numpy.testing.assert_array_equal(numpy.asarray(chosen.keys), self.keys[chosen.cells])

    def test_arrays_of_other_kinds_give_the_same(self):
        expected = self.solve()
        for kind in (lambda matrix: matrix.astype(numpy.float64), lambda matrix: numpy.asfortranarray(matrix),
                     lambda matrix: matrix.tolist(), memoryview):
            head = kvfold.solve_head(kind(self.keys), kind(self.values), kind(self.queries), self.scale, KEPT)
            self.assertEqual((head.cells, head.keys), (expected.cells, expected.keys))

    def test_what_makes_no_sense(self):
        nan = self.keys * numpy.nan
        for kind, words, call in (
                (kvfold.InvalidArgument, "keys is no matrix", lambda: kvfold.solve_head([1.0], self.values, self.queries, 1, 2)),
                (kvfold.InvalidArgument, "no match", lambda: kvfold.solve_head(self.keys, self.values[1:], self.queries, 1, 2)),
                (kvfold.InvalidArgument, "cannot keep 65 of 64", lambda: kvfold.solve_head(self.keys, self.values, self.queries, 1, 65)),
                (kvfold.InvalidArgument, "no method 'best'", lambda: self.solve(method="best")),
                (kvfold.InvalidArgument, "pinned cell 64", lambda: self.solve(pinned=[64])),
                (kvfold.Numeric, "NaN", lambda: kvfold.solve_head(nan, self.values, self.queries, 1, 2))):
            with self.subTest(words=words), self.assertRaisesRegex(kind, words):
                call()

    def test_the_instruction_set_is_chosen_as_in_the_command(self):
        script = "import kvfold\nkvfold.solve_head([[1, 0], [0, 1]], [[1], [2]], [[1, 0.5]], 1, 1)\n"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "KVFOLD_KERNELS": "none_such"}
        done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, env=environment)
        self.assertRegex(done.stderr, "InvalidArgument: .*none_such")

    def test_a_process_without_llama_cpp_or_numpy(self):
        script = ("import sys, kvfold\nhead = kvfold.solve_head([[1, 0], [0, 1], [1, 1]], [[1], [2], [3]], [[1, 0.5]], 1, 2)\n"
                  "print(head.keys.shape, sorted({'llama_cpp', 'numpy'} & set(sys.modules)), 'libllama' in open('/proc/self/maps').read())")
        for paths in ([str(ROOT / "python")], [str(ROOT / "python"), *NEEDS]):
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, env=environment)
            self.assertRegex(done.stdout, r"\(2, 2\) \[('numpy')?\] False", done.stderr)


if __name__ == "__main__":
    unittest.main()
