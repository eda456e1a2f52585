"""Signals reach the program once, whoever sends them, and nothing gets lost."""
import os
import pathlib
import signal
import subprocess
import time

from guest import PATIENCE_S, GuestTest
from terminal import Terminal

CTRL_C, CTRL_Z, CTRL_BACKSLASH = b"\x03", b"\x1a", b"\x1c"


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.002)


class SentToKvfold(GuestTest):
    def test_each_signal_reaches_the_program(self):
        process = self.start_guest("signals")
        for number in ("HUP", "INT", "QUIT", "USR1", "USR2", "TSTP", "CONT", "TERM"):
            process.send_signal(getattr(signal, f"SIG{number}"))
            self.assertEqual(process.stdout.readline(), f"{number}\n")
        self.assertEqual(process.wait(PATIENCE_S), 0)  # the program's code, not 130 or 143
        self.assertEqual(process.stdout.read() + process.stderr.read(), "")

    def test_a_burst_loses_nothing(self):
        process = self.start_guest("signals")
        for _ in range(200):
            process.send_signal(signal.SIGUSR1)
            self.assertEqual(process.stdout.readline(), "USR1\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_the_program_ends_as_it_would_alone(self):
        process = self.start_guest("input", stdin=subprocess.PIPE)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE_S), 128 + signal.SIGINT)

    def test_with_the_dashboard_too(self):
        process = self.start_guest("signals", options=["--admin", "127.0.0.1:0"])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.stdout.readline(), "INT\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_a_stop_is_announced_to_the_library_once(self):
        for options, command, number in ((["--admin", "127.0.0.1:0"], "run", signal.SIGTERM),
                                         (["--virtual", "4"], "run", signal.SIGTERM),
                                         (["--ratio", "4"], "serve", signal.SIGINT)):
            with self.subTest(options=options):
                process = self.start_guest("control-on", options=options, command=command)
                for _ in range(2):
                    process.send_signal(number)
                self.assertEqual(process.stdout.readline(), "stop\n")
                os.kill(self.child_of(process.pid), signal.SIGKILL)
                self.assertEqual(process.wait(PATIENCE_S), 128 + signal.SIGKILL)
                self.assertEqual(process.stdout.read(), "")

    def test_an_interrupt_is_no_stop_for_programs_that_may_go_on(self):
        process = self.start_guest("control-on", options=["--virtual", "4"])
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # signals are taken in order, so this one is the first that is a stop
        self.assertEqual(process.stdout.readline(), "stop\n")
        os.kill(self.child_of(process.pid), signal.SIGKILL)
        self.assertEqual(process.stdout.read(), "")

    def test_the_exit_code_survives_a_parent_that_ignores_sigchld(self):
        ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self.assertEqual(self.run_guest("exit", "7", preexec_fn=ignore).returncode, 7)

    def test_the_program_goes_on_when_kvfold_is_killed(self):
        process = self.start_guest("outlive")
        process.kill()
        self.assertEqual(process.stdout.readline(), "went on\n")


class FromTheTerminal(GuestTest):
    def terminal(self, *words):
        terminal = Terminal(self.guest_argv(*words), self.environment())
        self.addCleanup(terminal.close)
        terminal.wait_for(b"ready")
        return terminal

    def test_control_c_reaches_the_program_once(self):
        terminal = self.terminal("signals")
        terminal.press(CTRL_C)
        terminal.wait_for(b"INT\r\n")
        os.kill(terminal.program, signal.SIGUSR1)  # kvfold takes its signals in order, SIGINT before SIGUSR1
        terminal.wait_for(b"USR1\r\n")
        terminal.press(CTRL_BACKSLASH)
        terminal.wait_for(b"QUIT\r\n")
        os.kill(terminal.program, signal.SIGTERM)
        screen = terminal.wait_for(b"TERM\r\n")
        self.assertEqual([screen.count(b"INT\r\n"), screen.count(b"QUIT\r\n")], [1, 1], screen)
        self.assertEqual(terminal.next_state(), {"code": 0})

    def test_control_c_ends_a_program_that_does_not_catch_it(self):
        terminal = self.terminal("input")
        terminal.press(CTRL_C)
        self.assertEqual(terminal.next_state(), {"code": 128 + signal.SIGINT})

    def test_control_z_stops_both_and_the_shell_continues_both(self):
        terminal = self.terminal("input")
        guest = self.child_of(terminal.program)
        for _ in range(3):
            terminal.press(CTRL_Z)
            self.assertEqual(terminal.next_state(), {"stopped": signal.SIGTSTP})
            self.assertEqual(state_of(guest), "T")
            os.killpg(terminal.program, signal.SIGCONT)
            self.assertEqual(terminal.next_state(), {"continued": True})
            wait_until(lambda: state_of(guest) == "S" and state_of(terminal.program) == "S")
        terminal.press(CTRL_C)
        self.assertEqual(terminal.next_state(), {"code": 128 + signal.SIGINT})

    def test_a_signal_to_kvfold_alone_stops_and_continues_both(self):
        terminal = self.terminal("input")
        guest = self.child_of(terminal.program)
        os.kill(terminal.program, signal.SIGTSTP)
        self.assertEqual(terminal.next_state(), {"stopped": signal.SIGTSTP})
        self.assertEqual(state_of(guest), "T")
        os.kill(terminal.program, signal.SIGCONT)
        self.assertEqual(terminal.next_state(), {"continued": True})
        wait_until(lambda: state_of(guest) == "S")
