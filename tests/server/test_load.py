"""A mixed load for as long as KVFOLD_LOAD_SECONDS says: eight conversations, each with a code word of its own, that
share a beginning, and are asked on, edited, asked again, hung up on, saved and restored; titles and choices of four
beside them, and a short question that is never folded. On SmolLM2: a tiny model repeats no word.

No question names its slot, as those of chat programs do not. llama-server alone, too, mixes up texts when one does and
the slot is busy: it takes the text out of its prompt cache into the slot before it looks (docs/experiments)."""
import collections
import http.client
import json
import os
import pathlib
import random
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse

import llama_server
from command import TEXTS, needed
from llama_server import LlamaServer

llama_server.ANSWER_S = 900  # of many requests at once, on a machine that may be busy with others

LOAD_S = float(os.environ.get("KVFOLD_LOAD_SECONDS", "8"))
ROUND_S = 200  # memory is looked at after each: the first takes what the server needs
WORDS = ("quartzite", "mandolin", "turmeric", "obsidian", "parsnip", "gazebo", "lacquer", "walrus")
SYSTEM = "You are a helpful assistant. You answer in one short sentence. " + (TEXTS / "prose.txt").read_text()[:700]
QUESTION = "What is my code word?"
SLOTS = len(WORDS) + 1 + 5  # those of the conversations, of the short question, and of choices and titles
CACHED = 64  # MiB: llama-server's own prompt cache, at most
CELLS = 2048  # the conversations together take up to four times as many
ARCHIVE = 128  # MiB: less than the folds of all conversations replace
LONGEST = 3600  # characters of a conversation, about 900 tokens


def foreign(answer, word):
    return [other for other in WORDS if other != word and other in answer.lower()]


class Conversation:
    """A person with a code word, who does what comes to mind."""

    def __init__(self, load, number):
        self.load, self.number, self.word = load, number, WORDS[number]
        self.random = random.Random(number)
        self.passages = (TEXTS / "dialogue.txt").read_text()
        self.done = collections.Counter()
        self.begin()

    def begin(self):
        self.messages = [{"role": "system", "content": SYSTEM},
                         {"role": "user", "content": f"My code word is {self.word}. Please remember: {self.word}."},
                         {"role": "assistant", "content": f"Your code word is {self.word}."}]

    def run(self, stop):
        acts = [self.go_on] * 5 + [self.edit, self.regenerate, self.hang_up, self.save_and_restore, self.title, self.four]
        while not stop.is_set():
            act = self.random.choice(acts)
            self.done[act.__name__] += 1
            act()
            if sum(len(message["content"]) for message in self.messages) > LONGEST:
                self.begin()

    def ask(self):
        answer = self.load.chat(self.messages)
        self.load.check(answer, self)
        return answer

    def question(self):
        if self.random.random() < 0.4:
            return QUESTION
        begin = self.random.randrange(len(self.passages) - 400)
        return "What do you think of this? " + self.passages[begin:begin + self.random.randrange(100, 400)]

    def go_on(self):
        self.messages.append({"role": "user", "content": self.question()})
        self.messages.append({"role": "assistant", "content": self.ask()})

    def regenerate(self):
        if len(self.messages) > 3:
            self.messages.pop()
            self.messages.append({"role": "assistant", "content": self.ask()})

    def edit(self):
        """Four turns back, and all that followed goes."""
        if len(self.messages) > 3 + 2 * 4:
            del self.messages[-2 * 4:]
        self.go_on()

    def hang_up(self):
        self.load.hang_up({"messages": self.messages + [{"role": "user", "content": self.question()}], "max_tokens": 64,
                           "temperature": 0, "stream": True})

    def save_and_restore(self):
        """A slot, whosever chat it holds."""
        for action in ("save", "erase", "restore"):
            body = {} if action == "erase" else {"filename": f"{self.word}.slot"}
            self.load.server.ask(f"/slots/{self.number}?action={action}", body)
        self.go_on()

    def title(self):
        """As chat programs ask for one beside the chat."""
        said = "\n".join(message["content"] for message in self.messages[1:])
        answer = self.load.chat([{"role": "user", "content": f"Give this chat a title of three words.\n{said}"}])
        self.load.check(answer, self)

    def four(self):
        body = {"messages": self.messages + [{"role": "user", "content": QUESTION}], "max_tokens": 16, "n": 4,
                "temperature": 0.5, "seed": 1}
        for choice in self.load.server.ask("/v1/chat/completions", body)["choices"]:
            self.load.check(choice["message"]["content"], self)


class Load:
    def __init__(self, server):
        self.server, self.lock = server, threading.Lock()
        self.answers, self.recalled, self.faults = 0, 0, []

    def chat(self, messages, **fields):
        body = {"messages": messages, "max_tokens": 24, "temperature": 0, **fields}
        return self.server.ask("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def check(self, answer, person):
        with self.lock:
            self.answers += 1
            self.recalled += person.word in answer.lower()
            if found := foreign(answer, person.word):
                self.faults.append(f"{person.word}: {found} in {answer!r} after {person.messages[1:]}; "
                                   f"{dict(person.done)}; {self.server.kvfold_log()[-12:]}")

    def hang_up(self, body):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.server.base).netloc, timeout=llama_server.ANSWER_S)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 500:
            raise RuntimeError(f"{answer.status} for a stream")
        answer.read(1)
        connection.close()

    def run(self, work, stop):
        """In a thread: what goes wrong is a fault, and ends all."""
        try:
            work(stop)
        except Exception as error:
            said = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            with self.lock:
                self.faults.append(f"{error!r} {said}")
            stop.set()


class MixedLoad(unittest.TestCase):
    def server(self, folder, kvfold):
        return LlamaServer(needed("KVFOLD_MODEL_SMOL"), folder, "-kvu", "--cache-ram", str(CACHED), kvfold=kvfold,
                           threads=2, slots=SLOTS, context=4 * CELLS)

    def control(self, server):
        """A short question that is answered from nothing."""
        question = server.passage("code", 0, 40)
        return server.complete(question, 8, cache_prompt=False)["tokens"]

    def resident(self, server):
        kvfold = server.process.pid
        program = pathlib.Path(f"/proc/{kvfold}/task/{kvfold}/children").read_text().split()[0]
        pages = int(pathlib.Path(f"/proc/{program}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def memory_at_rest(self, server):
        """MiB beside the archive, when no request and no fold has run for a while: a fold takes memory for as long as
        it does."""
        calm_since = time.monotonic()
        while time.monotonic() < calm_since + 3:
            folds = any(sequence["folding"] for sequence in server.admin("/sequences")["sequences"])
            if folds or any(slot["is_processing"] for slot in server.ask("/slots")):
                calm_since = time.monotonic()
            time.sleep(0.1)
        return self.resident(server) - server.admin("/state")["totals"]["archive_bytes"] / 2**20

    def run_for(self, seconds, server, work):
        stop = threading.Event()
        threads = [threading.Thread(target=run, args=(*args, stop)) for run, *args in work]
        for thread in threads:
            thread.start()
        start, folds = time.monotonic(), lambda: "became" in server.log()  # later on a machine that is busy
        try:
            while (waited := time.monotonic() - start) < seconds or (waited < 20 * seconds and not folds()):
                if stop.wait(1):
                    break
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_nothing_is_lost_mixed_up_or_left_over(self):
        rounds = max(1, round(LOAD_S / ROUND_S))
        with tempfile.TemporaryDirectory() as folder:
            with self.server(folder, None) as server:
                expected = self.control(server)
            with self.server(folder, ("--virtual", 4, "--method", "select", "--archive", ARCHIVE,
                                      "--admin", "127.0.0.1:0")) as server:
                load, controls, memory = Load(server), [], []
                people = [Conversation(load, number) for number in range(len(WORDS))]

                def ask_again(stop):
                    while not stop.is_set():
                        controls.append(self.control(server))
                        stop.wait(2)

                work = [(load.run, run) for run in (*(person.run for person in people), ask_again)]
                for _ in range(rounds):
                    self.run_for(LOAD_S / rounds, server, work)
                    memory.append(self.memory_at_rest(server))
                totals = server.admin("/state")["totals"]
                done = sum((person.done for person in people), start=collections.Counter())
                report = f"{load.answers} answers, {load.recalled} with the code word; {dict(done)}; {totals}; " \
                         f"MiB at rest beside the archive {[round(one) for one in memory]}"
                print(report)
                self.assertEqual(load.faults, [], report)
                self.assertIsNone(server.process.poll())
        self.assertGreater(load.recalled, 0, report)  # the model does say code words, so a foreign one would show
        self.assertGreater(totals["folds"], 0, report)
        self.assertEqual(totals["failures"], 0, report)
        if rounds > 1:
            # In a batch with others the order of sums differs; most answers are the same to the letter.
            self.assertGreater(sum(one == expected for one in controls), len(controls) / 2, (expected, controls))
            # llama-server's cache holds whole conversations, and may be nearly empty or full.
            self.assertLess(max(memory[1:]) - memory[0], CACHED, report)

    def test_a_foreign_word_is_seen(self):
        self.assertEqual(foreign("Your code word is Walrus.", "gazebo"), ["walrus"])
        self.assertEqual(foreign("Your code word is Walrus.", "walrus"), [])


if __name__ == "__main__":
    unittest.main()
