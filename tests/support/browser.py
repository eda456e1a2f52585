"""Headless Chromium over its debugging pipe (Chrome DevTools Protocol), with nothing but the standard library."""
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 60


def needed(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set; run this through ctest -L page")
    return value


def keep_picture(data, name):
    """Into the folder KVFOLD_SCREENSHOTS, if it is set."""
    folder = os.environ.get("KVFOLD_SCREENSHOTS")
    if folder:
        (pathlib.Path(folder) / f"{name}.png").write_bytes(data)


def find_chromium():
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise RuntimeError("no Chromium found on PATH (%s); install it: apt-get install -y chromium" % ", ".join(NAMES))


class Browser:
    def __init__(self):
        program = find_chromium()
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()
        arguments = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--hide-scrollbars", "--force-device-scale-factor=1", f"--user-data-dir={self.profile.name}",
                     "--remote-debugging-pipe"]
        # The pipe is at 3 and 4 by definition; the shell puts it there.
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh", *arguments], pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number, self.events = b"", 0, []

    def close(self):
        try:
            self.call("Browser.close")
        except RuntimeError:
            pass
        os.close(self.to)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)
        self.profile.cleanup()

    def _message(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.back, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError("Chromium does not answer")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message = self._message(deadline)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)


class Page:
    """One tab. Complaints are console errors, uncaught exceptions and requests that failed."""

    def __init__(self, browser, width=1280, height=1000, dark=False):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height):
        self.width, self.height = width, height
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression):
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {expression}; the page says: {self.value('document.body.innerText')}")
            time.sleep(0.05)

    def complaints(self):
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str(parameters["args"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found

    def screenshot(self, clip=None):
        """PNG of the whole page, or of {x, y, width, height} of it. The window becomes as tall as the page:
        captureBeyondViewport would make it one pixel wide for a moment, and charts be drawn anew."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        self.size(self.width, max(self.height, size["height"]))
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1, **(clip or {})}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", clip=clip)["data"])
