"""The installer's page in a headless Chromium, in front of the real program with its default pack.

    make test-web

CAPTIOND_PROGRAM names the program (default: target/debug/captiond). CAPTIOND_SCREENSHOTS, if set, is a
folder that gets pictures of the page.
"""

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from webdriver import ENTER, SPACE, TAB, Browser, free_port, missing, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests/samples"
TOKEN = "q7Jx2mV0sLzT4bWn"
SCREENSHOTS = os.environ.get("CAPTIOND_SCREENSHOTS")

# Of every element that shows text of its own: the contrast of text and background (WCAG 2.2, 1.4.3).
CONTRASTS = """
const channel = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = parse(getComputedStyle(element).backgroundColor);
    if (color.length < 4 || color[3] > 0) { return color; }
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || element.closest("script, style, .unseen") || !element.checkVisibility()) { continue; }
  const pair = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
  found.push([element.id || element.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)]);
}
return found;
"""

MOVING = """
return [...document.querySelectorAll("*")].filter((element) => {
  const style = getComputedStyle(element);
  return style.animationName !== "none" || style.transitionDuration.split(", ").some((time) => parseFloat(time) > 0);
}).map((element) => element.id || element.tagName);
"""

# Mean grey value of a picture that is shown.
BRIGHTNESS = """
const image = document.getElementById(arguments[0]);
if (image.hidden || !image.complete || image.naturalWidth === 0) { return null; }
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 16;
const context = canvas.getContext("2d");
context.drawImage(image, 0, 0, 16, 16);
const pixels = context.getImageData(0, 0, 16, 16).data;
let sum = 0;
for (let at = 0; at < pixels.length; at += 4) { sum += (pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3; }
return sum / 256;
"""


class Daemon:
    """`captiond run` on an empty folder."""

    def __init__(self):
        program = os.environ.get("CAPTIOND_PROGRAM", ROOT / "target/debug/captiond")
        self.folder = tempfile.TemporaryDirectory()
        here = pathlib.Path(self.folder.name)
        self.incoming = here / "in"
        self.incoming.mkdir()
        token = here / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN)
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        config = here / "captiond.toml"
        config.write_text(
            '[device]\nid = "porch"\n[source]\nkind = "folder"\npath = "in"\npoll = "100ms"\n'
            f'[web]\nlisten = "127.0.0.1:{self.port}"\ntoken_file = "token"\n'
        )
        self.log = here / "log"
        with self.log.open("wb") as log:
            command = [program, "run", "--config", config, "--pack", ROOT / "models/default"]
            self.process = subprocess.Popen(command, stderr=log)
        until("the daemon captions", self._captions)

    def _captions(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon has ended: {self.log.read_text()}")
        log = self.log.read_text()
        return "captioning" in log and "the page is at" in log

    def drop_in(self, sample):
        """As a careful writer does it. A name of its own each time, so that it's new."""
        name = f"{len(list(self.incoming.iterdir()))}-{sample}"
        hidden = self.incoming / f".{name}"
        shutil.copy(SAMPLES / sample, hidden)
        hidden.rename(self.incoming / name)
        return name

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)

    def setUp(self):
        rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        self.browser = Browser([rules])
        self.addCleanup(self.browser.close)

    def open(self):
        self.browser.open(self.daemon.origin + "/")

    def tab_to(self, element):
        for _ in range(20):
            if self.browser.focused() == element:
                return
            self.browser.keys(TAB)
        self.fail(f"no way to {element} by the tabulator key")

    def log_in(self):
        self.open()
        self.tab_to("token")
        self.browser.keys(TOKEN + ENTER)
        until("the page is shown", lambda: self.browser.text("connection") == "Connected.")

    def captioned(self, name):
        """Waits until the caption of this file is shown with both pictures; its text."""

        def shown():
            of = self.browser.text("captioned-text").endswith(name)
            pictures = [self.browser.run(BRIGHTNESS, id) for id in ("live", "captioned")]
            # The two pictures are the same then.
            there = None not in pictures and abs(pictures[0] - pictures[1]) < 1
            return self.browser.text("said") if of and there else None

        return until(f"the caption of {name}", shown)

    def assert_quiet(self):
        """Nothing on the console, nothing asked of anybody else."""
        self.assertEqual(self.browser.log("browser"), [])
        asked = 0
        for entry in self.browser.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = message["params"]["request"]["url"]
                if address.startswith("chrome://"):
                    continue  # the browser's own first tab
                own = address.startswith(self.daemon.origin + "/") or address.startswith(("blob:", "data:"))
                self.assertTrue(own, address)
                self.assertNotIn(TOKEN, address)
                asked += 1
        self.assertGreater(asked, 3)

    def test_picture_caption_and_confidence_arrive_live_with_the_keyboard_alone(self):
        self.log_in()
        self.assertEqual(self.browser.focused(), "caption-title")
        name = self.daemon.drop_in("snowy_mountain_and_forest.jpg")
        said = self.captioned(name)
        self.assertTrue(said and said != "No caption yet.", said)
        confidence = self.browser.text("confidence")
        self.assertRegex(confidence, r"^Confidence \d+ %: (sure|hedged|unsure), ")
        bright = self.browser.run(BRIGHTNESS, "live")
        self.assertEqual(self.browser.text("light"), "good")
        self.assertRegex(self.browser.text("live-text"), r"^\d+ by \d+ pixels, taken ")
        self.assertGreater(float(self.browser.text("time-total")), 0)
        self.assertIn("ok", self.browser.text("health"))
        # A guess begins small where it's read out, and is shown with a capital by the page's style.
        until("it is announced", lambda: said.casefold() in self.browser.text("announcer").casefold())

        # Another picture, without a reload.
        name = self.daemon.drop_in("too_dark_staircase.jpg")
        self.captioned(name)
        self.assertLess(self.browser.run(BRIGHTNESS, "live"), bright / 2)
        self.assertEqual(self.browser.text("light"), "too dark")
        self.assertIn("unsure, withheld because it is too dark", self.browser.text("confidence"))

        # Paused, nothing changes.
        self.tab_to("pause")
        self.browser.keys(SPACE)
        pressed = 'return document.getElementById("pause").getAttribute("aria-pressed")'
        self.assertEqual(self.browser.run(pressed), "true")
        name = self.daemon.drop_in("blurred_football.jpg")
        log = f"waits for {name}"
        until(log, lambda: self.state()["caption"]["origin"].endswith(name))
        self.assertEqual(self.browser.text("light"), "too dark")
        self.browser.keys(SPACE)
        self.captioned(name)
        self.assertEqual(self.browser.text("sharpness"), "blurred")
        self.assertIn("Focus", self.browser.text("sharpness-advice"))

        self.tab_to("announce-aiming")
        self.browser.keys(SPACE)
        self.daemon.drop_in("football_on_the_grass.jpg")
        until("aiming help is announced", lambda: "sharpness" in self.browser.text("announcer"))

        self.tab_to("describe")
        self.browser.keys(ENTER)
        until("the wish is confirmed", lambda: "Asked for a caption" in self.browser.text("answer"))

        # A reload of the tab needs no second login; a forgotten token does.
        self.open()
        until("it goes on", lambda: self.browser.text("connection") == "Connected.")
        self.tab_to("forget")
        self.browser.keys(ENTER)
        self.assertEqual(self.browser.focused(), "token")
        self.assertEqual(self.browser.run("return sessionStorage.length"), 0)
        shown = 'return [...document.images].filter((image) => image.src).length'
        self.assertEqual(self.browser.run(shown), 0)
        self.assert_quiet()

    def state(self):
        import urllib.request

        request = urllib.request.Request(
            self.daemon.origin + "/api/state", headers={"Authorization": "Bearer " + TOKEN}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def test_a_wrong_token_is_told_and_shows_nothing(self):
        self.open()
        self.tab_to("token")
        self.browser.keys("an0ther-t0ken-of-16" + ENTER)
        until("a refusal", lambda: "not the token" in self.browser.text("login-error"))
        self.assertEqual(self.browser.focused(), "token")
        self.assertTrue(self.browser.run('return document.getElementById("view").hidden'))
        self.assertEqual(self.browser.run("return sessionStorage.length"), 0)
        # The right one still opens it.
        self.browser.keys(TOKEN + ENTER)
        until("the page is shown", lambda: self.browser.text("connection") == "Connected.")

    def test_everything_has_a_name_and_a_place_for_a_screen_reader(self):
        self.open()
        self.check_tree({"main", "banner", "region"}, {"textbox", "button"})
        self.tab_to("token")
        self.browser.keys(TOKEN + ENTER)
        until("the page is shown", lambda: self.browser.text("connection") == "Connected.")
        self.captioned(self.daemon.drop_in("zebra_crossing_and_traffic_light.jpg"))
        self.check_tree({"main", "banner", "region"}, {"button", "checkbox", "image", "table", "status"})
        live = self.browser.run(
            'const live = document.getElementById("announcer");'
            'return [live.getAttribute("role"), live.getAttribute("aria-live"), live.getAttribute("aria-atomic")]'
        )
        self.assertEqual(live, ["status", "polite", "true"])

    def check_tree(self, landmarks, roles):
        self.browser.devtools("Accessibility.enable")
        nodes = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        named = {
            "button", "checkbox", "combobox", "figure", "form", "heading", "image", "link", "region", "searchbox",
            "slider", "switch", "table", "textbox", "RootWebArea",
        } - {"figure"}
        seen = set()
        for node in nodes:
            role = node.get("role", {}).get("value")
            if node["ignored"]:
                continue
            seen.add(role)
            focusable = any(
                entry["name"] == "focusable" and entry["value"]["value"] for entry in node.get("properties", [])
            )
            if role in named or focusable:
                self.assertTrue(node.get("name", {}).get("value", "").strip(), node)
        self.assertLessEqual(landmarks | roles, seen)

    def test_the_focus_can_be_seen_everywhere(self):
        self.log_in()
        style = (
            "const style = getComputedStyle(document.activeElement);"
            "return [document.activeElement.id, style.outlineStyle, parseFloat(style.outlineWidth)]"
        )
        seen = set()
        for _ in range(12):
            element, kind, width = self.browser.run(style)
            # Between the last and the first element the window itself has the focus.
            if element:
                self.assertEqual(kind, "solid", element)
                self.assertGreaterEqual(width, 2, element)
                seen.add(element)
            self.browser.keys(TAB)
        self.assertEqual(
            seen, {"caption-title", "describe", "pause", "forget", "announce-captions", "announce-aiming"}
        )

    def test_it_fits_and_can_be_read_in_light_and_dark_at_every_width(self):
        for login in (True, False):
            self.log_in() if not login else self.open()
            if not login:
                self.captioned(self.daemon.drop_in("brown_dog_on_the_grass.jpg"))
            for scheme in ("light", "dark"):
                for width in (320, 768, 1200):
                    self.browser.prefer(color_scheme=scheme, reduced_motion="reduce")
                    self.browser.width(width)
                    needed = self.browser.run("return document.documentElement.scrollWidth")
                    self.assertLessEqual(needed, width, f"{scheme} {width}")
                    contrasts = self.browser.run(CONTRASTS)
                    self.assertGreater(len(contrasts), 3 if login else 20)
                    for element, contrast in contrasts:
                        self.assertGreaterEqual(contrast, 4.5, f"{element}, {scheme}")
                    self.assertEqual(self.browser.run(MOVING), [])
                    if SCREENSHOTS:
                        part = "login" if login else "view"
                        self.browser.screenshot(f"{SCREENSHOTS}/{part}-{scheme}-{width}.png")
            self.browser.prefer(reduced_motion="no-preference")
            self.assertNotEqual(self.browser.run(MOVING), [], "the check itself sees what moves")

    def test_a_page_elsewhere_gets_nothing_even_with_the_token(self):
        self.daemon.drop_in("cup_apple_and_banana_on_a_table.jpg")

        class Elsewhere(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>elsewhere</title>")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.browser.open(f"http://127.0.0.1:{server.server_port}/")
        ask = """
          const [address, headers, mode, method, done] = arguments;
          fetch(address, { headers, mode, method }).then(
            async (answer) => done([answer.type, answer.status, await answer.text()]),
            (error) => done(["refused", 0, String(error)]));
        """
        with_token = {"Authorization": "Bearer " + TOKEN}
        state, describe = self.daemon.origin + "/api/state", self.daemon.origin + "/api/describe"
        for address, headers, method in [(state, with_token, "GET"), (state, {}, "GET"), (describe, with_token, "POST")]:
            found = self.browser.run_async(ask, address, headers, "cors", method)
            self.assertEqual(found[0], "refused", found)
        # What may be sent without asking first carries no token and shows nothing.
        found = self.browser.run_async(ask, describe, {}, "no-cors", "POST")
        self.assertIn(found[0], ("opaque", "refused"))
        self.assertEqual(found[1], 0)

        # A name that was made to point to the device (DNS rebinding) doesn't show the page.
        self.browser.open(f"http://evil.example:{self.daemon.port}/")
        text = self.browser.run("return document.body.innerText")
        self.assertIn("isn't reached by this name", text)


if __name__ == "__main__":
    if missing():
        names = " and ".join(missing())
        print(f"##### SKIPPED: the page in a browser: no {names}; Debian: chromium chromium-driver #####")
    else:
        unittest.main()
