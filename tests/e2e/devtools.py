"""Chromium without a window, driven through its DevTools protocol (https://chromedevtools.github.io/devtools-protocol).

    with devtools.Browser(folder, microphone="speech.wav") as browser:
        page = browser.open("http://127.0.0.1:8080/", width=360, height=640)
        page.press(" ")
        page.wait_for("document.querySelectorAll('.line').length > 0")
        page.screenshot(folder / "phone.png")

Standard library only. One thread; nothing here is thread-safe. Whatever takes longer than it may raises TimeoutError.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import time

CHROMIUM = os.environ.get("EARSHOT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class WebSocket:
    """A client for text messages (RFC 6455)."""

    def __init__(self, url):
        host, port, path = re.fullmatch(r"ws://([^:/]+):(\d+)(/.*)", url).groups()
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                             "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        if b" 101 " not in self.file.readline():
            raise ConnectionError(f"{url}: no WebSocket")
        while self.file.readline() not in (b"\r\n", b""):
            pass

    def send(self, text):
        data = text.encode()
        size = len(data)
        # The highest bit of the length says that a mask follows; a mask of zeros leaves the data as they are.
        if size < 126:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        self.socket.sendall(head + bytes(4) + data)

    def receive(self):
        message = b""
        while True:
            first, size = self._read(2)
            if size == 126:
                size, = struct.unpack("!H", self._read(2))
            elif size == 127:
                size, = struct.unpack("!Q", self._read(8))
            data = self._read(size)
            if first & 0x0F == 8:
                raise ConnectionError("the browser closed the connection")
            if first & 0x0F <= 2:
                message += data
                if first & 0x80:
                    return message.decode()

    def close(self):
        self.file.close()
        self.socket.close()

    def _read(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise ConnectionError("the browser went away")
        return data


class Browser:
    """folder: for its profile. microphone: a wav that its microphone plays, once; None: there is none to be had."""

    def __init__(self, folder, microphone=None):
        self.folder = pathlib.Path(folder)
        options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self.folder / 'profile'}",
                   "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                   "--disable-component-update", "--disable-sync", "--no-proxy-server", "--hide-scrollbars",
                   "--force-color-profile=srgb", "--lang=en"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")
        if microphone is not None:
            options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                        f"--use-file-for-fake-audio-capture={microphone}%noloop"]
        self.log = open(self.folder / "chromium.log", "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([CHROMIUM, *options, "about:blank"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        try:
            self.socket = WebSocket(self._address())
        except BaseException:
            self._stop()
            raise
        self.last_id = 0
        self.pages = {}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        try:
            self.call("Browser.close")
        except (ConnectionError, OSError):
            pass
        self.socket.close()
        self._stop()

    def open(self, url, **view):
        """A page of its own; view as Page.view takes it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            page.call(f"{domain}.enable")
        page.view(**view)
        page.call("Page.navigate", url=url)
        page.wait_for("document.readyState === 'complete'")
        return page

    def save_downloads_to(self, folder):
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def call(self, method, session=None, **parameters):
        """The result of a DevTools command."""
        self.last_id += 1
        wanted = self.last_id
        message = {"id": wanted, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.receive())
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if answer.get("sessionId") in self.pages:
                self.pages[answer["sessionId"]].note(answer)

    def _address(self):
        end = time.monotonic() + 60
        while True:
            log = (self.folder / "chromium.log").read_text(encoding="utf-8", errors="replace")
            found = re.search(r"DevTools listening on (ws://\S+)", log)
            if found:
                return found[1]
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"{CHROMIUM} does not start: {log}")
            time.sleep(0.05)

    def _stop(self):
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Page:
    """One tab. complaints: what its console got as errors, refusals of its content security policy among them."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        self.complaints = []

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def note(self, event):
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def view(self, width=1280, height=800, dark=False, still=False):
        """still: as one who asked for less motion. Up to 500 pixels of width it is a phone."""
        phone = width <= 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
            {"name": "hover", "value": "none" if phone else "hover"}])

    def evaluate(self, expression):
        """The value of JavaScript, awaited where it is a promise; an element is {}, which does not count as true."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def wait_for(self, condition, timeout_s=60):
        """The first value of a JavaScript expression that counts as true."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            value = self.evaluate(condition)
            if value:
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{condition} is not so after {timeout_s} s; the page: "
                           + self.evaluate("document.body.innerText"))

    def press(self, key):
        """A key, as a finger presses it: " ", "Tab", "Enter"."""
        code = {" ": ("Space", 32, " "), "Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r")}[key]
        keys = {"key": key, "code": code[0], "windowsVirtualKeyCode": code[1]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=code[2], **keys)
        self.call("Input.dispatchKeyEvent", type="keyUp", **keys)

    def click(self, selector):
        """The middle of an element, as a mouse clicks it."""
        box = self.evaluate(f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
                            "return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose_files(self, selector, *files):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
