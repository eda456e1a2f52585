"""Runs guests under the real kvfold; see guests/guest.c for what they can do."""
import os
import pathlib
import subprocess

from command import CommandTest, needed

PATIENCE_S = 20  # only a test that fails waits so long


class GuestTest(CommandTest):
    @property
    def guests(self):
        return pathlib.Path(needed("KVFOLD_GUESTS"))

    @property
    def library(self):
        return str(self.guests / "libfake-preload.so")

    def environment(self, **variables):
        clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "KVFOLD_PRELOAD")}
        return {**clean, "KVFOLD_PRELOAD_LIBRARY": self.library, **variables}

    def guest_argv(self, *words, options=(), command="run"):
        program = [str(self.guests / "guest")] if command == "run" else []
        return [needed("KVFOLD_BIN"), command, *options, "--", *program, *words]

    def run_guest(self, *words, options=(), **more):
        """The guest's end, outputs as bytes."""
        more.setdefault("env", self.environment())
        return subprocess.run(self.guest_argv(*words, options=options), cwd=self.folder, capture_output=True,
                              timeout=PATIENCE_S, **more)

    def start_guest(self, *words, options=(), command="run", **more):
        """A guest that has said "ready"; it and kvfold are gone when the test ends."""
        (self.folder / "bin").mkdir(exist_ok=True)
        server = self.folder / "bin" / "llama-server"  # what kvfold serve takes
        if not server.exists():
            server.symlink_to(self.guests / "guest")
        process = subprocess.Popen(self.guest_argv(*words, options=options, command=command), cwd=self.folder,
                                   env=self.environment(KVFOLD_LLAMA_PREFIX=str(self.folder)),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), "ready\n", process.poll())
        return process

    def end(self, process):
        if process.poll() is None:
            child = self.child_of(process.pid)
            process.kill()
            if child:
                os.kill(child, 9)
        process.communicate()

    def child_of(self, pid):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def run_file(self, path, *words, options=()):
        return subprocess.run([needed("KVFOLD_BIN"), "run", *options, "--", str(path), *words], cwd=self.folder,
                              env=self.environment(), capture_output=True, text=True, timeout=PATIENCE_S)
