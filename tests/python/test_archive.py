"""What folds replaced, kept and taken back from Python."""
import gc
import pathlib
import tempfile
import unittest

from package import kvfold, next_tokens, open_llama, quick, read, state

PLENTY = 1 << 30


class Archives(unittest.TestCase):
    def setUp(self):
        self.llm = open_llama()
        self.tokens = read(self.llm)
        self.before = state(self.llm)

    def test_unfold_gives_the_cells_back_byte_for_byte(self):
        with kvfold.Archive(PLENTY) as archive:
            self.assertEqual(archive.bytes, 0)
            quick(self.llm, archive=archive)
            self.assertGreater(archive.bytes, len(self.before) / 2)
            self.assertNotEqual(state(self.llm), self.before)
            self.assertFalse(self.llm._ctx.kv_cache_seq_rm(0, 10, -1))  # a cut inside of the fold
            kvfold.unfold(self.llm, archive)
        self.assertEqual(state(self.llm), self.before)
        self.assertTrue(self.llm._ctx.kv_cache_seq_rm(0, 10, -1))

    def test_budgets_are_whole_numbers_that_a_machine_can_have(self):
        for budget in (-1, 2**64, 1e9, "5", None):
            with self.subTest(budget=budget), self.assertRaisesRegex(kvfold.InvalidArgument, "budget_bytes is"):
                kvfold.Archive(budget)

    def test_each_fold_leads_to_the_one_before(self):
        archive = kvfold.Archive(PLENTY)
        quick(self.llm, archive=archive)
        next_tokens(self.llm, 40)
        quick(self.llm, archive=archive, ratio=1.5)
        kvfold.unfold(self.llm, archive)
        info = kvfold._guard.inspect(self.llm.ctx)
        self.assertEqual((info.cells, info.folded_cells), (self.llm.n_tokens, 0))

    def test_pointers_do_as_well(self):
        archive = kvfold.Archive(PLENTY)
        quick(ctx=self.llm.ctx, tokens=self.tokens, archive=archive)
        kvfold.unfold(None, archive, ctx=self.llm.ctx)
        self.assertEqual(state(self.llm), self.before)

    def test_a_file_goes_with_its_slot_file(self):
        with tempfile.TemporaryDirectory() as folder:
            slot, file = pathlib.Path(folder) / "a.slot", pathlib.Path(folder) / "a.archive"
            archive = kvfold.Archive(PLENTY)
            quick(self.llm, archive=archive)
            kvfold.save(self.llm, slot)
            archive.save(self.llm, file)
            other, restored = open_llama(), kvfold.Archive(PLENTY)
            kvfold.load(other, slot)
            with self.assertRaisesRegex(kvfold.NotFound, "does not hold"):
                kvfold.unfold(other, restored)
            small = kvfold.Archive(archive.bytes - 1)
            with self.assertRaisesRegex(kvfold.InvalidArgument, "no room in"):
                small.load(other, file)
            self.assertEqual(small.bytes, 0)
            restored.load(other, file)
            kvfold.unfold(other, restored)
            self.assertEqual(state(other), self.before)
            with self.assertRaisesRegex(kvfold.InvalidArgument, "another slot file"):
                restored.load(other, file)
            with self.assertRaisesRegex(kvfold.Corrupt, "no archive"):
                restored.load(self.llm, slot)
            with self.assertRaisesRegex(kvfold.NotFound, "holds nothing"):
                kvfold.Archive(PLENTY).save(self.llm, file)

    def test_what_makes_no_sense_is_refused(self):
        archive = kvfold.Archive(PLENTY)
        with self.assertRaisesRegex(kvfold.InvalidArgument, "nothing is folded"):
            kvfold.unfold(self.llm, archive)
        with self.assertRaisesRegex(kvfold.InvalidArgument, "budget_bytes is -1"):
            kvfold.Archive(-1)
        archive.close()
        archive.close()
        for call in (lambda: archive.bytes, lambda: quick(self.llm, archive=archive),
                     lambda: kvfold.unfold(self.llm, archive)):
            with self.assertRaisesRegex(kvfold.InvalidArgument, "closed"):
                call()
        self.assertEqual(state(self.llm), self.before)

    def test_an_archive_that_is_dropped_is_freed(self):
        archive = kvfold.Archive(PLENTY)
        end = archive._end
        del archive
        gc.collect()
        self.assertFalse(end.alive)


if __name__ == "__main__":
    unittest.main()
