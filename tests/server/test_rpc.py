"""Layers that live on other machines: llama.cpp's RPC backend, here with two servers on this one."""
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest

from command import TEXTS, needed
from llama_server import LlamaServer, die_with_parent

START_S = 20


class Workers:
    """Two ggml-rpc-server processes on free ports."""

    def __enter__(self):
        program = pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "bin" / "ggml-rpc-server"
        self.ports = [self.free_port() for _ in range(2)]
        self.processes = [subprocess.Popen([program, "-t", "1", "-p", str(port)], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                           preexec_fn=die_with_parent) for port in self.ports]
        for port in self.ports:
            self.wait_for(port)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def free_port(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def wait_for(self, port):
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"ggml-rpc-server did not listen on port {port} within {START_S} s")

    @property
    def flags(self):
        return ("--rpc", ",".join(f"127.0.0.1:{port}" for port in self.ports), "-ngl", "99")


class Spread(unittest.TestCase):
    def test_a_sequence_whose_layers_live_elsewhere_is_compacted_and_goes_on(self):
        prompt = " ".join((TEXTS / "manual.txt").read_text().split()[:200])
        with tempfile.TemporaryDirectory() as folder, Workers() as workers:
            with LlamaServer(needed("KVFOLD_PLAIN_MODEL"), folder, *workers.flags,
                             "-lv", "4", kvfold=("--admin", "127.0.0.1:0")) as server:
                for port in workers.ports:  # both hold a part of the cache
                    self.assertRegex(server.log(), rf"127\.0\.0\.1:{port}\S* KV buffer size")
                first = server.complete(prompt, 4)
                answer = server.admin("/compact", {"id_slot": 0, "method": "solver", "ratio": 4.0})
                self.assertTrue(answer["success"])
                self.assertAlmostEqual(answer["compression_ratio"], 4, delta=0.1)
                self.assertRegex(answer["solved_on"], r"the processor: RPC\S* does not tell what it computes")
                self.assertRegex(server.log(), r"solved on the processor.*: RPC")
                again = server.complete(prompt + first["content"] + " and", 8)
                self.assertLess(again["timings"]["prompt_n"], 16)
                self.assertEqual(again["timings"]["predicted_n"], 8)
                self.assertEqual(server.admin("/state")["totals"]["failures"], 0)


if __name__ == "__main__":
    unittest.main()
