"""Slot files between the unmodified llama-server and the command line, on tiny models: what the server writes is read,
and whatever prompt follows a compacted one, the server answers it as if it had read it anew."""
import pathlib
import tempfile
import unittest
import urllib.error

from command import CommandTest, needed
from llama_server import LlamaServer

DOCUMENT, RATIO, TAIL = 600, 8, 8  # tokens; TAIL: an eighth of the compact cells at least


class Stock:
    """What holds for every model."""
    model = None
    flags = ()
    goes_on = True  # after a restored state, whoever wrote it; with windows the server reads again
    goes_back = True  # by some tokens; a recurrent state does not

    def setUp(self):
        super().setUp()
        self.path = str(pathlib.Path(needed("KVFOLD_TINY_MODELS")) / f"{self.model}.gguf")

    def server(self, **options):
        return LlamaServer(self.path, self.folder, *self.flags, **options)

    def compacted(self, server, document):
        """The server reads and saves the document; its file is compacted."""
        server.complete(document, id_slot=0)
        server.save("full.slot")
        self.compact("--session", "full.slot", "-r", RATIO, "-o", "small.slot", model=self.path)

    def test_the_servers_own_file_is_read(self):
        with self.server() as server:
            server.complete(server.passage("manual", 0, 200))
            server.save("full.slot")
        shown = self.succeed("inspect", "full.slot")
        self.assertIn("200 tokens in 200 cells", shown)
        self.assertTrue(self.with_model("ask", "-s", "full.slot", "-p", "What?", "-n", 4, model=self.path).stdout)

    def test_a_prompt_that_leaves_the_document_anywhere_is_answered_as_ever(self):
        with self.server() as server:
            document, end = server.passage("manual", 0, DOCUMENT), server.passage("prose", 0, 8)
            self.compacted(server, document)
            for cut in (DOCUMENT - 1, DOCUMENT - 4, DOCUMENT - 40, DOCUMENT // 2, 10, 1):
                with self.subTest(cut=cut):
                    prompt = document[:cut] + end
                    server.erase()
                    expected = server.complete(prompt, 6)["tokens"]
                    server.erase()
                    self.assertEqual(server.restore("small.slot")["n_restored"], DOCUMENT)
                    answer = server.complete(prompt, 6)
                    if self.goes_on and self.goes_back and cut > DOCUMENT - TAIL:
                        self.assertEqual(answer["timings"]["cache_n"], cut)
                    else:
                        self.assertEqual(answer["timings"]["cache_n"], 0)
                        self.assertEqual(answer["tokens"], expected)
            self.assertNotIn("Invalid input batch", server.log())

    def test_what_goes_on_behind_the_document_is_all_that_is_read(self):
        with self.server() as server:
            document, more = server.passage("manual", 0, DOCUMENT), server.passage("prose", 0, 20)
            self.compacted(server, document)
            server.erase()
            server.restore("small.slot")
            timings = server.complete(document + more)["timings"]
            self.assertEqual(timings["prompt_n"], len(more) if self.goes_on else DOCUMENT + len(more))
            server.erase()
            server.restore("small.slot")
            timings = server.complete(document)["timings"]
            self.assertEqual(timings["prompt_n"], 1 if self.goes_on and self.goes_back else DOCUMENT)


class Plain(Stock, CommandTest):
    model = "mha"

    def test_slots_with_caches_of_their_own_take_a_file_that_was_made_for_them(self):
        with self.server(slots=2, context=4096) as server:
            document = server.passage("manual", 0, DOCUMENT)
            self.compacted(server, document)
            self.assertIn("-np 2", self.succeed("inspect", "small.slot"))
            self.compact("--session", "full.slot", "-r", RATIO, "--slots", 1, "-o", "one.slot", model=self.path)
            self.compact("--session", "one.slot", "-r", 1, "--slots", 2, "-o", "two.slot", model=self.path)
            server.erase()
            with self.assertRaises(urllib.error.HTTPError):  # broken twin: made for one slot
                server.restore("one.slot")
            for name in ("small.slot", "two.slot"):
                self.assertEqual(server.restore(name)["n_restored"], DOCUMENT)
            timings = server.complete(document + document[:5], id_slot=0)["timings"]
            self.assertEqual(timings["prompt_n"], 5)


class Window(Stock, CommandTest):
    model = "gemma3"
    goes_on = False


class Hybrid(Stock, CommandTest):
    model = "granite_hybrid"
    goes_back = False


class Images(Stock, CommandTest):
    model = "qwen2vl"


del Stock

if __name__ == "__main__":
    unittest.main()
