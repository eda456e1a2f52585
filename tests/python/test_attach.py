"""A Llama that folds by itself, and what keeps one from going on with a torn fold."""
import unittest
import unittest.mock
import warnings

from command import needed
from package import kvfold, llama_cpp, next_tokens, open_llama, quick, read, state, text


class Counted:
    """Counts the tokens that a Llama reads."""

    def __init__(self, llm):
        self.read, self.calls = 0, []
        inner = llm.eval

        def counting(tokens):
            self.read += len(tokens)
            self.calls.append(len(tokens))
            inner(tokens)

        llm.eval = counting


def attach(llm, **more):
    return kvfold.attach(llm, **{"virtual": 6, "method": "select", "threads": 1, **more})


def asks(llm):
    """A function that asks the Llama and returns what the answer says of its tokens, as a server does."""
    counted = Counted(llm)

    def ask(messages):
        counted.calls.clear()
        usage = llm.create_chat_completion(messages, max_tokens=16, temperature=0)["usage"]
        return {**usage, "prompt_tokens_details": {"cached_tokens": usage["prompt_tokens"] - counted.calls[0]}}

    return ask


def hits(ask, turns, words=12, between=lambda: None):
    """The prompt's tokens that were not read in each turn. The answers in it are written here, so that every model that
    is asked gets the same prompts."""
    messages, found = [{"role": "system", "content": "Be kind."}], []
    for turn in range(turns):
        messages.append({"role": "user", "content": text(words, start=turn * words)})
        usage = ask(messages)
        assert usage["completion_tokens"] > 0, messages
        found.append(usage["prompt_tokens_details"]["cached_tokens"])
        messages.append({"role": "assistant", "content": text(words, start=600 + turn * words)})
        between()
    return found


class Chat(unittest.TestCase):
    def test_a_chat_of_three_times_the_cells_reads_only_what_is_new(self):
        llm = open_llama(cells=256)
        chat = attach(llm)
        counted = Counted(llm)
        messages, held, written = [{"role": "system", "content": "Be kind."}], 0, 0
        while held < 3 * chat.cells:
            messages.append({"role": "user", "content": text(12, start=len(messages) * 6)})
            counted.read = 0
            answer = llm.create_chat_completion(messages, max_tokens=16, temperature=0)
            usage = answer["usage"]
            # A model with random weights writes what no tokenizer would: its last answer may be read once more.
            new = usage["prompt_tokens"] - (held - written) + usage["completion_tokens"]
            self.assertLessEqual(counted.read, new)
            self.assertGreater(usage["completion_tokens"], 0)
            self.assertLessEqual(chat.used, chat.cells)
            held, written = llm.n_tokens, usage["completion_tokens"]
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
        self.assertGreaterEqual(len(chat.folds), 3)
        self.assertEqual({fold.method for fold in chat.folds}, {"select"})

    def test_its_prompt_cache_hits_are_those_of_a_context_that_never_folds(self):
        llm, turns = open_llama(cells=256), 9
        chat = attach(llm)
        never_folds = hits(asks(open_llama(cells=6 * 256)), turns)
        self.assertEqual(hits(asks(llm), turns), never_folds)
        self.assertGreater(llm.n_tokens, 3 * chat.cells)
        self.assertGreaterEqual(len(chat.folds), 3)
        # One that folds the answer that the next prompt leaves out reads the prompt from its beginning.
        other = open_llama(cells=6 * 256)
        self.assertNotEqual(hits(asks(other), turns, between=lambda: quick(other, keep_last=0)), never_folds)

    def test_the_count_of_cells_is_that_of_the_cache(self):
        for model in ("mha", "gemma3", "granite_hybrid"):
            with self.subTest(model=model):
                llm = open_llama(f"{needed('KVFOLD_TINY_MODELS')}/{model}.gguf", cells=256)
                chat = attach(llm)
                for start in range(0, 200, 20):
                    read(llm, words=20, start=start)
                    info = kvfold._guard.inspect(llm.ctx)
                    self.assertEqual((chat.used, llm.n_tokens), (info.cells, info.end))
                self.assertGreater(len(chat.folds), 2)
                self.assertEqual(len(next_tokens(llm)), 8)

    def test_a_prompt_longer_than_the_cells_is_read_in_parts(self):
        llm = open_llama(cells=256)
        told = []
        chat = attach(llm, on_fold=told.append)
        tokens = read(llm, words=150)
        self.assertGreater(len(tokens), 3 * 256)
        self.assertEqual(llm.input_ids[:llm.n_tokens].tolist(), tokens)
        self.assertEqual(chat.folds, told)
        self.assertEqual(len(next_tokens(llm)), 8)

    def test_logits_of_all_positions_have_room(self):
        llm = open_llama(cells=256, logits_all=True)
        attach(llm)
        tokens = read(llm, words=100)
        answer = llm.create_completion(tokens, max_tokens=2, logprobs=1, temperature=0)
        self.assertEqual(len(answer["choices"][0]["logprobs"]["tokens"]), answer["usage"]["completion_tokens"])

    def test_a_state_comes_back_with_what_is_folded_of_it(self):
        llm = open_llama(cells=256)
        early = llm.save_state()
        chat = attach(llm)
        tokens = read(llm, words=100)
        saved, used = llm.save_state(), chat.used
        llm.reset()
        read(llm, words=5)
        llm.load_state(saved)
        self.assertEqual((chat.used, llm.n_tokens), (used, len(tokens)))
        read(llm, words=60, start=100)
        llm.load_state(early)  # made before the Llama grew
        read(llm, words=100)
        self.assertEqual(llm.n_tokens, len(tokens))

    def test_detach_leaves_the_llama_as_it_was(self):
        llm = open_llama(cells=256)
        chat = attach(llm)
        self.assertEqual((llm.n_ctx(), llm._n_ctx, llm.context_params.n_ctx), (6 * 256,) * 3)
        read(llm, words=100)
        chat.detach()
        chat.detach()
        self.assertEqual((llm.n_ctx(), llm._n_ctx, llm.context_params.n_ctx), (256,) * 3)
        with self.assertRaisesRegex(ValueError, "exceed context window of 256"):
            llm.create_completion(text(100), max_tokens=1)
        self.assertEqual(len(next_tokens(llm)), 8)
        attach(llm).detach()

    def test_a_llama_that_is_dropped_frees_its_model(self):
        llm = open_llama(cells=256)
        attach(llm)
        inner = llm._ctx
        del llm
        self.assertIsNone(inner.ctx)


class TakenBack(unittest.TestCase):
    """A prompt leaves the text amid a fold of an attached Llama that has an archive."""

    def edited(self, archive, cells=256, words=120, kept=0.4):
        llm = open_llama(cells=cells)
        chat = attach(llm, archive=archive) if cells == 256 else None
        tokens = read(llm, words=words)
        if chat:
            self.assertGreaterEqual(len(chat.folds), 3)
        new = llm.tokenize(b" Other words", add_bos=False)
        prompt = [*tokens[:int(kept * len(tokens))], *new]
        counted = Counted(llm)
        said = [token for token, _ in zip(llm.generate(prompt, temp=0), range(4))]
        if chat:
            self.assertLessEqual(chat.used, chat.cells)
        return counted.calls[0] - len(new), len(prompt), said

    def test_only_what_is_new_is_read(self):
        for kept in (0.1, 0.4, 0.9):
            with self.subTest(kept=kept), kvfold.Archive(1 << 30) as archive:
                read_again, length, said = self.edited(archive, kept=kept)
                self.assertEqual(read_again, 0)
                if length < 200:  # all of it are the original cells again
                    self.assertEqual(said, self.edited(None, cells=2048, kept=kept)[2])
        read_again, length, _ = self.edited(None)  # broken twin
        self.assertGreater(read_again, length // 2)

    def test_an_archive_without_the_fold_leaves_the_sequence_as_it_was(self):
        llm = open_llama(cells=256)
        attach(llm, archive=kvfold.Archive(0))
        tokens = read(llm, words=100)
        before, inner = state(llm), llm._ctx
        self.assertFalse(inner.kv_cache_seq_rm(-1, len(tokens) // 3, -1))
        self.assertEqual(state(llm), before)
        self.assertEqual(len(next_tokens(llm)), 8)

    def test_what_fails_half_way_leaves_the_sequence_as_it_was(self):
        llm = open_llama(cells=256)
        attach(llm, archive=kvfold.Archive(1 << 30))
        tokens = read(llm, words=120)
        before, inner, call = state(llm), llm._ctx, kvfold._library.call
        for raised in (kvfold.NotFound("gone"), KeyboardInterrupt()):
            unfolds = []

            def second_fails(name, *arguments):
                if name == "kvfold_sequence_unfold":
                    unfolds.append(name)
                    if len(unfolds) == 2:
                        raise raised
                return call(name, *arguments)

            with self.subTest(raised=raised), unittest.mock.patch.object(kvfold._library, "call", second_fails):
                if isinstance(raised, KeyboardInterrupt):
                    with self.assertRaises(KeyboardInterrupt):
                        inner.kv_cache_seq_rm(-1, 40, -1)
                else:
                    self.assertFalse(inner.kv_cache_seq_rm(-1, 40, -1))
                self.assertEqual(len(unfolds), 2)
            self.assertEqual(state(llm), before)
        self.assertTrue(inner.kv_cache_seq_rm(-1, 40, -1))  # broken twin: nothing failed
        self.assertNotEqual(state(llm), before)
        self.assertEqual(llm.n_tokens, len(tokens))

    def test_a_few_tokens_are_read_anew(self):
        llm = open_llama(cells=256)
        attach(llm, archive=kvfold.Archive(1 << 30))
        read(llm, words=100)
        self.assertFalse(llm._ctx.kv_cache_seq_rm(-1, kvfold._guard.LEAST_TAKEN_BACK - 1, -1))
        self.assertTrue(llm._ctx.kv_cache_seq_rm(-1, kvfold._guard.LEAST_TAKEN_BACK, -1))

    def test_it_goes_on_folding(self):
        with kvfold.Archive(1 << 30) as archive:
            llm = open_llama(cells=256)
            chat = attach(llm, archive=archive)
            whole = llm.tokenize(text(300).encode())
            counted, had = Counted(llm), 0
            for end in (900, 300, 1200, 60, 700):
                counted.read = 0
                next(llm.generate(whole[:end], temp=0))
                self.assertEqual(counted.read, max(end - had, 1))
                self.assertEqual(llm.input_ids[:llm.n_tokens].tolist(), whole[:end])
                info = kvfold._guard.inspect(llm.ctx)
                self.assertEqual((chat.used, llm.n_tokens), (info.cells, info.end))
                had = end

    def test_the_archive_of_a_detached_llama_is_left_alone(self):
        archive = kvfold.Archive(1 << 30)
        llm = open_llama(cells=256)
        chat = attach(llm, archive=archive)
        tokens = read(llm, words=100)
        chat.detach()
        self.assertFalse(llm._ctx.kv_cache_seq_rm(-1, len(tokens) // 3, -1))


class Refusals(unittest.TestCase):
    def test_what_cannot_be_attached(self):
        attached = open_llama(cells=256)
        attach(attached)
        mamba = open_llama(needed("KVFOLD_TINY_MODELS") + "/mamba.gguf")
        for kind, words, llm, more in (
                (kvfold.InvalidArgument, "attached already", attached, {}),
                (kvfold.InvalidArgument, "virtual is 0", open_llama(), {"virtual": 0}),
                (kvfold.InvalidArgument, "could ever be folded", open_llama(cells=256), {"keep_first": 255}),
                (kvfold.Unsupported, "embeddings", open_llama(embedding=True), {}),
                (kvfold.Unsupported, "recurrent model", mamba, {})):
            with self.subTest(words=words), self.assertRaisesRegex(kind, words):
                attach(llm, **more)

    def test_more_positions_than_the_model_was_trained_for(self):
        with self.assertWarnsRegex(RuntimeWarning, "trained for 2048 positions, and 3072 are allowed.*virtual=4"):
            attach(open_llama(cells=512))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            attach(open_llama(cells=512), virtual=4)

    def test_more_tokens_than_the_virtual_size(self):
        llm = open_llama(cells=256)
        attach(llm, virtual=2)
        with self.assertRaisesRegex(kvfold.InvalidArgument, "do not fit into 512"):
            read(llm, words=150)

    def test_a_method_that_fails_is_replaced_and_a_cancelled_one_is_not(self):
        llm = open_llama(cells=256)
        chat = attach(llm, method="no_such_method")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read(llm, words=60)
        self.assertEqual(chat.folds[0].method, "select")
        self.assertIn("no method 'no_such_method'", str(said[0].message))
        other = open_llama(cells=256)
        attach(other, progress=lambda stage, done: False)
        with self.assertRaises(kvfold.Cancelled):
            read(other, words=60)


class TornFolds(unittest.TestCase):
    """A prompt leaves the text amid the fold."""

    def leave_early(self, model=None):
        llm = open_llama(model)
        tokens = read(llm, words=60)
        quick(llm, keep_last=8)
        return llm, [*tokens[:len(tokens) // 2], *llm.tokenize(b" Other words", add_bos=False)]

    def fresh(self, prompt, model=None):
        llm = open_llama(model)
        return [token for token, _ in zip(llm.generate(prompt, temp=0), range(8))]

    def test_it_is_read_from_its_beginning(self):
        for name in ("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"):
            with self.subTest(model=name):
                llm, prompt = self.leave_early(needed(name))
                counted = Counted(llm)
                said = [token for token, _ in zip(llm.generate(prompt, temp=0), range(8))]
                self.assertEqual(said, self.fresh(prompt, needed(name)))
                self.assertGreaterEqual(counted.read, len(prompt))
                self.assertEqual(kvfold._guard.inspect(llm.ctx).cells, llm.n_tokens)

    def test_a_cut_behind_the_fold_has_its_window_or_is_read_again(self):
        """A Llama keeps windows whole, and a fold leaves as much as the model looks back on."""
        def say(fold):
            llm = open_llama(needed("KVFOLD_WINDOW_MODEL"))
            tokens = read(llm, words=60)
            if fold:
                quick(llm, ratio=2, keep_last=100)
            cut = [*tokens[:-60], *llm.tokenize(b" Other words", add_bos=False)]
            counted = Counted(llm)
            return [token for token, _ in zip(llm.generate(cut, temp=0), range(8))], counted.read, len(cut)
        expected, _, _ = say(fold=False)
        said, read_again, length = say(fold=True)
        self.assertEqual(said, expected)
        self.assertGreaterEqual(read_again, length)

    def test_without_the_guard_it_goes_wrong(self):
        llm, prompt = self.leave_early()
        del llm._ctx.kv_cache_seq_rm
        said = [token for token, _ in zip(llm.generate(prompt, temp=0), range(8))]
        self.assertNotEqual(said, self.fresh(prompt))

    def test_behind_the_fold_only_what_is_new_is_read(self):
        llm, _ = self.leave_early()
        prompt = [*llm.input_ids[:llm.n_tokens - 4].tolist(), 40, 41]
        counted = Counted(llm)
        next(llm.generate(prompt, temp=0))
        self.assertEqual(counted.read, 2)


class FoldedCache(unittest.TestCase):
    def setUp(self):
        self.llm = open_llama()
        self.cache = kvfold.FoldedCache(self.llm, ratio=4, method="select")
        self.llm.set_cache(self.cache)
        self.prompts = [text(40, start=40 * i) for i in range(6)]

    def ask(self, prompt):
        return self.llm.create_completion(prompt, max_tokens=4, temperature=0)

    def test_it_is_a_cache_of_llama_cpp_python(self):
        self.assertIsInstance(self.cache, llama_cpp.llama_cache.BaseLlamaCache)
        self.assertNotIn([1, 2, 3], self.cache)
        with self.assertRaises(KeyError):
            self.cache[[1, 2, 3]]

    def test_states_stay_whole_while_they_fit_and_are_compacted_then(self):
        self.ask(self.prompts[0])
        one = self.cache.cache_size
        for prompt in self.prompts[1:]:
            self.ask(prompt)
        self.assertEqual((self.cache.states, self.cache.compacted), (6, 0))
        self.cache.capacity_bytes = 4 * one
        self.ask(self.prompts[0] + " and")
        self.assertLessEqual(self.cache.cache_size, 4 * one)
        self.assertEqual((self.cache.states, self.cache.dropped), (7, 0))
        self.assertGreater(self.cache.compacted, 2)

    def test_a_compact_state_answers_for_its_prompt(self):
        self.ask(self.prompts[0])
        self.cache.capacity_bytes = 3 * self.cache.cache_size
        for prompt in self.prompts[1:]:
            self.ask(prompt)
        counted = Counted(self.llm)
        longer = self.prompts[0] + " and then"
        usage = self.ask(longer)["usage"]
        new = usage["prompt_tokens"] - len(self.llm.tokenize(self.prompts[0].encode()))
        self.assertLessEqual(counted.read, new + 4)
        self.assertGreater(self.cache.compacted, 0)

    def test_the_chat_goes_on_with_the_cells_it_had(self):
        self.ask(self.prompts[0])
        self.cache.capacity_bytes = 1
        self.ask(self.prompts[1])
        self.assertEqual(kvfold._guard.inspect(self.llm.ctx).folded_cells, 0)
        self.assertEqual(self.cache.states, 0)
        self.assertEqual(self.cache.dropped, 2)


if __name__ == "__main__":
    unittest.main()
