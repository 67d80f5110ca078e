"""A headless Chromium, driven over WebDriver (W3C) with the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

# So long a condition may take on a busy machine; met conditions return at once.
PATIENCE = 120

TAB, ENTER, SPACE = "\ue004", "\ue007", " "

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]


def missing():
    """The programs that aren't there, by name."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, look):
    """Waits until `look` gives something."""
    start = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() - start > PATIENCE:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.05)


class Browser:
    """One window with a profile of its own, closed by `close`."""

    def __init__(self, more_arguments=()):
        self.profile = tempfile.TemporaryDirectory()
        port = free_port()
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.base = f"http://127.0.0.1:{port}"
        self.session = None
        try:
            until("chromedriver is ready", self._ready)
            arguments = [*ARGUMENTS, f"--user-data-dir={self.profile.name}", *more_arguments]
            wanted = {
                "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": arguments},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.session:
            self._call("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait()
        self.profile.cleanup()

    def open(self, address):
        self._call("POST", self.session + "/url", {"url": address})

    def run(self, script, *arguments):
        """Runs JavaScript in the page and returns what it returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", self.session + "/execute/sync", body)

    def run_async(self, script, *arguments):
        """The same for a script that calls its last argument with the result."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", self.session + "/execute/async", body)

    def text(self, element):
        """The text of the element of this id, as far as it's shown."""
        return self.run("return document.getElementById(arguments[0]).innerText", element)

    def focused(self):
        """The id of the element that has the keyboard."""
        return self.run("return document.activeElement.id")

    def keys(self, text):
        """Presses keys, wherever the focus is."""
        actions = []
        for key in text:
            actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._call("POST", self.session + "/actions", {"actions": [keyboard]})

    def log(self, kind):
        """What has come to a log (`browser`: the console, `performance`: the network) since the last call."""
        return self._call("POST", self.session + "/se/log", {"type": kind})

    def devtools(self, command, **parameters):
        body = {"cmd": command, "params": parameters}
        return self._call("POST", self.session + "/goog/cdp/execute", body)

    def prefer(self, **features):
        """Sets media features: prefer(color_scheme="dark")."""
        listed = [
            {"name": "prefers-" + name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.devtools("Emulation.setEmulatedMedia", features=listed)

    def width(self, pixels, height=900):
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=pixels, height=height, deviceScaleFactor=1, mobile=False
        )

    def screenshot(self, path):
        """The whole page as PNG."""
        self.devtools("Emulation.setScrollbarsHidden", hidden=True)
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def _ready(self):
        try:
            return self._call("GET", "/status")["ready"]
        except OSError:
            return False

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise RuntimeError(f"{method} {path}: {value.get('error')}: {value.get('message')}") from None
