"""What a program gets to see when kvfold runs it, and which programs kvfold refuses."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from command import needed
from guest import PATIENCE_S, GuestTest

WORDS = ["-c", "4096", "-ctk", "q8_0", "-ctv", "q8_0", "-ngl", "0", "--ratio", "none", "--help", "--version", "--", "-",
         "", " a  b ", "line\nbreak", "*", "$HOME", "--log=x", "{}", b"\xff\xfe"]


class Words(GuestTest):
    def test_words_behind_the_dashes_arrive_byte_for_byte(self):
        done = self.run_guest("words", *WORDS, options=["--log", "off"])
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = [os.fsencode(word) for word in (str(self.guests / "guest"), "words", *WORDS)]
        self.assertEqual(done.stdout.split(b"\0")[:-1], expected)

    def test_a_bare_name_is_found_in_path_and_stays_the_programs_name(self):
        variables = self.environment(PATH=f"{self.guests}:{os.environ['PATH']}")
        done = subprocess.run([needed("KVFOLD_BIN"), "run", "--", "guest", "words"], env=variables, capture_output=True,
                              timeout=PATIENCE_S)
        self.assertEqual(done.stdout, b"guest\0words\0", done.stderr)

    def test_input_and_output_are_the_programs(self):
        done = self.run_guest("input", input=b"anything")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"ready\n", b""))


class Ends(GuestTest):
    def test_the_programs_exit_code_is_kvfolds(self):
        for code in (0, 1, 2, 42, 130, 255):
            with self.subTest(code):
                done = self.run_guest("exit", str(code))
                self.assertEqual((done.returncode, done.stderr), (code, b""))

    def test_a_signal_that_ends_the_program_is_128_and_its_number(self):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, signal.SIGXFSZ, signal.SIGPIPE):
            with self.subTest(number):
                self.assertEqual(self.run_guest("die", str(int(number))).returncode, 128 + number)

    def test_a_crash_is_told_and_an_end_on_request_is_not(self):
        crash = self.run_guest("die", str(int(signal.SIGSEGV))).stderr.decode()
        self.assertRegex(crash, r"\Akvfold: \S+/guest was ended by signal 11 \(.+\)\n\Z")
        self.assertEqual(self.run_guest("die", str(int(signal.SIGTERM))).stderr, b"")


class Environment(GuestTest):
    def variables(self, *options, **more):
        done = self.run_guest("environment", options=options, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.decode().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line), lines[-1]

    def test_the_library_is_loaded_behind_what_is_preloaded_already(self):
        other = self.guests / "libfake-server-impl.so"
        variables, last = self.variables(env=self.environment(LD_PRELOAD=str(other)))
        self.assertEqual(variables["LD_PRELOAD"], f"{other}:{self.library}")
        self.assertEqual(last, "preloaded")

    def test_without_options_nothing_is_asked_of_the_library(self):
        variables, _ = self.variables()
        self.assertEqual(json.loads(variables["KVFOLD_PRELOAD"]), {"virtual": 1, "log": "info"})

    def test_every_option_reaches_the_library(self):
        variables, _ = self.variables("--virtual", "4", "--ratio", "8", "--method", "select", "--high-water", "0.5",
                                      "--keep-first", "2", "--keep-last", "0", "--log", "warn")
        settings = json.loads(variables["KVFOLD_PRELOAD"])
        self.assertTrue(settings.pop("control").endswith("/control"))  # by which a stop is announced
        self.assertEqual(settings,
                         {"virtual": 4, "ratio": 8.0, "method": "select", "high_water": 0.5, "keep_first": 2,
                          "keep_last": 0, "log": "warn"})

    def test_the_program_inherits_no_descriptor_of_kvfolds(self):
        self.assertEqual(self.descriptors(), {0, 1, 2})

        self.assertEqual(self.descriptors(["--admin", "127.0.0.1:0"]), {0, 1, 2})

    def test_with_the_dashboard_it_hears_of_a_socket_that_is_gone_afterwards(self):
        for folder, longest in ((self.folder, None), (self.folder / ("long" * 30), "/tmp")):
            folder.mkdir(exist_ok=True)
            with self.subTest(folder=folder):
                variables, _ = self.variables("--admin", "127.0.0.1:0", env=self.environment(TMPDIR=str(folder)))
                control = pathlib.Path(json.loads(variables["KVFOLD_PRELOAD"])["control"])
                self.assertEqual(str(control.parent.parent), longest or str(folder))
                self.assertLessEqual(len(str(control)), 100)
                self.assertFalse(control.parent.exists())

    def test_a_program_runs_where_there_can_be_no_socket(self):
        nowhere = self.environment(TMPDIR="/proc")
        done = self.run_guest("environment", options=["--virtual", "4"], env=nowhere)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr.decode(), r"\Akvfold: no folder /proc/\S+ .*; a stop may take as long as a fold\n\Z")
        self.assertIn(b'KVFOLD_PRELOAD={"log":"info","virtual":4}\n', done.stdout)
        done = self.run_guest("environment", options=["--admin", "127.0.0.1:0"], env=nowhere)
        self.assertEqual((done.returncode, done.stdout), (1, b""))

    def descriptors(self, options=()):
        done = self.run_guest("descriptors", options=options, stdin=subprocess.DEVNULL)
        return {int(line.split()[0]) for line in done.stdout.decode().splitlines()}

    def signals_of(self, field, **more):
        status = self.run_guest("status", **more).stdout.decode()
        bits = int(next(line.split()[1] for line in status.splitlines() if line.startswith(field + ":")), 16)
        # 32 and 33 are glibc's own; its posix_spawn leaves them ignored, until the program's glibc sets them up.
        return {number for number in range(1, 65) if bits >> (number - 1) & 1} - {32, 33}

    def test_no_signal_is_blocked_or_ignored(self):
        for options in ((), ("--admin", "127.0.0.1:0")):
            with self.subTest(options=options):
                self.assertEqual(self.signals_of("SigBlk", options=options), set())
                self.assertEqual(self.signals_of("SigIgn", options=options), set())

    def test_a_signal_that_was_ignored_before_kvfold_stays_ignored(self):
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.assertEqual(self.signals_of("SigIgn", preexec_fn=ignore), {signal.SIGHUP})


class Refused(GuestTest):
    def refuse(self, path, *words):
        done = self.run_file(path)
        self.assertEqual(done.stdout, "")  # it did not run
        self.assert_fails(done, 1, *words)

    def copy(self, name, change):
        path = self.folder / name
        shutil.copy(self.guests / "guest", path)
        path.write_bytes(change(path.read_bytes()))
        return path

    def test_programs_that_do_not_load_llama(self):
        words = ("does not load llama.cpp as a shared library (libllama.so)", "only work inside programs that do")
        self.refuse(self.guests / "stranger", *words)
        self.refuse(self.guests / "static", "linked statically", *words)
        self.refuse(self.guests / "stranger", "kvfold run --children")

    def test_a_program_that_loads_llama_through_a_library_is_run(self):
        done = self.run_file(self.guests / "indirect")
        self.assertEqual((done.returncode, done.stdout), (0, "ran\n"), done.stderr)

    def test_scripts_and_other_files(self):
        script = self.folder / "script"
        script.write_text("#!/bin/sh\necho ran\n")
        text = self.folder / "text"
        text.write_text("echo ran\n")
        empty = self.folder / "empty"
        empty.write_text("")
        for path in (script, text, empty):
            path.chmod(0o755)
        self.refuse(script, "is a script", "give the program itself", "kvfold run --children")
        self.refuse(text, "not an ELF program")
        self.refuse(empty, "not an ELF program")

    def test_damaged_programs(self):
        self.refuse(self.copy("narrow", lambda b: b[:4] + b"\x01" + b[5:]), "64-bit")
        self.refuse(self.copy("header", lambda b: b[:40]), "64-bit")
        self.refuse(self.copy("segments", lambda b: b[:70]), "cut short")
        self.refuse(self.copy("half", lambda b: b[:1000]), "libraries")

    def test_what_cannot_be_started(self):
        plain = self.folder / "plain"
        plain.write_text("")
        self.refuse(self.folder, "folder")
        self.refuse(plain, "not executable")
        self.refuse("./absent", "no such program")
        self.refuse("no-program-of-this-name", "PATH")

    def test_a_missing_preload_library(self):
        done = self.run_guest("words", env=self.environment(KVFOLD_PRELOAD_LIBRARY="/nowhere/x.so"))
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"/nowhere/x.so", done.stderr)

    def test_wrong_usage_is_one_line_and_code_2(self):
        guest = str(self.guests / "guest")
        cases = {
            ("run",): "-- PROGRAM",
            ("run", "--"): "-- PROGRAM",
            ("run", guest, "words"): "not expected",
            ("run", "--virtual", "0", "--", guest): "virtual",
            ("run", "--virtual", "1025", "--", guest): "virtual",
            ("run", "--ratio", "0.5", "--", guest): "0.5",
            ("run", "--ratio", "--", guest): "ratio",
            ("run", "--method", "finest", "--", guest): "no method 'finest'",
            ("run", "--high-water", "1", "--", guest): "between 0 and 1",
            ("run", "--high-water", "x", "--", guest): "between 0 and 1",
            ("run", "--keep-first", "0", "--", guest): "keep-first",
            ("run", "--keep-last", "-2", "--", guest): "keep-last",
            ("run", "--log", "loud", "--", guest): "no log level 'loud'",
            ("run", "--admin", "8089", "--", guest): "HOST:PORT",
            ("run", "--admin-token-file", "f", "--", guest): "--admin",
            ("serve", "-m", "model"): "-m",
        }
        for arguments, words in cases.items():
            with self.subTest(arguments=arguments):
                self.assert_fails(self.run_command(*arguments), 2, words)

    def test_help_shows_where_the_program_stands(self):
        self.assertIn("kvfold run [OPTIONS] -- PROGRAM", self.succeed("run", "--help"))
        self.assertIn("kvfold serve [OPTIONS] --", self.succeed("serve", "--help"))


class Serve(GuestTest):
    def serve(self, prefix, *words):
        return subprocess.run([needed("KVFOLD_BIN"), "serve", "--ratio", "4", "--", *words], capture_output=True,
                              env=self.environment(KVFOLD_LLAMA_PREFIX=str(prefix)), timeout=PATIENCE_S)

    def test_serve_runs_the_server_of_the_prefix_with_its_words(self):
        (self.folder / "bin").mkdir()
        server = self.folder / "bin" / "llama-server"
        server.symlink_to(self.guests / "guest")
        done = self.serve(self.folder, "words", *WORDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.split(b"\0")[:-1], [os.fsencode(word) for word in (str(server), "words", *WORDS)])

    def test_a_prefix_without_a_server_is_an_error(self):
        done = self.serve(self.folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"KVFOLD_LLAMA_PREFIX", done.stderr)


class Children(GuestTest):
    """--children: the program is a launcher, and what it starts is compacted."""

    def test_programs_that_do_not_load_llama_are_run_and_so_are_their_children(self):
        script = self.folder / "script"
        script.write_text(f"#!/bin/sh\n'{self.guests}/guest' environment\nexit 3\n")
        script.chmod(0o755)
        done = self.run_file(script, options=["--children", "--virtual", "4"])
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertTrue(done.stdout.endswith("\npreloaded\n"), done.stdout)
        self.assertRegex(done.stdout, r'KVFOLD_PRELOAD={"control":"\S+","log":"info","virtual":4}\n')
        for guest in ("static", "stranger"):
            with self.subTest(guest):
                done = self.run_file(self.guests / guest, options=["--children"])
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_nothing_is_said_of_a_launcher_that_drops_the_library(self):
        done = self.run_guest("input", options=["--children"], env=self.environment(), stdin=subprocess.DEVNULL)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_the_server_has_no_such_option(self):
        self.assert_fails(self.run_command("serve", "--children", "--", "-m", "model"), 2, "--children")


class Dashboard(GuestTest):
    def test_every_child_that_connects_is_listed(self):
        guest = f"'{self.guests}/guest'"
        process = subprocess.Popen([needed("KVFOLD_BIN"), "run", "--children", "--admin", "127.0.0.1:0", "--", "sh", "-c",
                                    f"{guest} control & {guest} control & wait"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=self.environment())
        self.addCleanup(self.end, process)
        address = process.stderr.readline().split()[-1]
        self.assertEqual([process.stdout.readline(), process.stdout.readline()], ["ready\n", "ready\n"])
        ask = lambda path: json.load(urllib.request.urlopen(address + path, timeout=PATIENCE_S))
        first, second = (one["pid"] for one in ask("processes")["processes"])
        for pid in (first, second):
            self.assertEqual(ask(f"sequences?process={pid}")["sequences"], [{"n": 7}])
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + PATIENCE_S
        while [one["pid"] for one in ask("processes")["processes"]] != [second]:
            self.assertLess(time.monotonic(), end)
        self.assertEqual(ask("sequences")["sequences"], [{"n": 7}])
        os.kill(second, signal.SIGKILL)
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_the_dashboard_asks_the_program(self):
        process = self.start_guest("control", options=["--admin", "127.0.0.1:0"])
        said = process.stderr.readline()
        self.assertRegex(said, r"\Akvfold: dashboard at http://127\.0\.0\.1:\d+/\n\Z")
        ask = lambda path: json.load(urllib.request.urlopen(said.split()[-1] + path, timeout=PATIENCE_S))
        self.assertEqual(ask("sequences")["sequences"], [{"n": 7}])
        listed = ask("processes")["processes"]
        self.assertEqual([(one["pid"], one["program"]) for one in listed], [(self.child_of(process.pid), "guest")])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_S), 128 + signal.SIGTERM)

    def test_nothing_is_started_when_the_dashboard_cannot_be(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            in_use = f"127.0.0.1:{taken.getsockname()[1]}"
            cases = [(("--admin", in_use), b"in use"),
                     (("--admin", "0.0.0.0:0"), b"token"),
                     (("--admin", "127.0.0.1:0", "--admin-token-file", "absent"), b"absent")]
            for options, word in cases:
                with self.subTest(options=options):
                    done = self.run_guest("words", options=options)
                    self.assertEqual((done.returncode, done.stdout), (1, b""))
                    self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
                    self.assertIn(word, done.stderr)
