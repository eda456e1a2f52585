"""A terminal with a program in its foreground, as a shell with job control starts it."""
import json
import os
import pty
import select
import signal
import sys

PATIENCE_S = 20  # only a test that fails waits so long


class Terminal:
    """The shell is this module as a program: it writes a JSON line for each change of the program's state to a pipe."""

    def __init__(self, argv, env):
        states, report = os.pipe()
        os.set_inheritable(report, True)
        self.pid, self.keyboard = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, __file__, str(report), *argv], env)
        os.close(report)
        self.states, self.unread = states, b""
        self.screen = b""
        self.program = self.next_state()["started"]

    def read(self, descriptor, what):
        if not select.select([descriptor], [], [], PATIENCE_S)[0]:
            raise TimeoutError(f"{what} did not come; on the screen: {self.screen}")
        return os.read(descriptor, 4096)

    def next_state(self):
        while b"\n" not in self.unread:
            self.unread += self.read(self.states, "a change of state")
        line, self.unread = self.unread.split(b"\n", 1)
        return json.loads(line)

    def press(self, key):
        os.write(self.keyboard, key)

    def wait_for(self, text):
        """What is on the screen once `text` is."""
        while text not in self.screen:
            self.screen += self.read(self.keyboard, text)
        return self.screen

    def close(self):
        try:
            os.killpg(self.program, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.keyboard)
        os.waitpid(self.pid, 0)
        os.close(self.states)


def shell(report, argv):
    def say(**state):
        os.write(report, (json.dumps(state) + "\n").encode())

    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # tcsetpgrp from the background
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    may_start, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(may_start, 1)
        for number in (signal.SIGTTOU, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execv(argv[0], argv)
    os.setpgid(pid, pid)
    os.tcsetpgrp(0, pid)
    os.close(may_start)
    os.close(go)
    say(started=pid)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED | os.WCONTINUED)
        if os.WIFSTOPPED(status):
            say(stopped=os.WSTOPSIG(status))
        elif os.WIFCONTINUED(status):
            say(continued=True)
        else:
            say(code=os.waitstatus_to_exitcode(status))
            return


if __name__ == "__main__":
    shell(int(sys.argv[1]), sys.argv[2:])
