"""A headless Chromium of its own, by the WebDriver protocol: enough to open a file, click, type, ask and photograph.

with Browser(folder) as browser:
    browser.open(path)
    browser.run("return document.title")
    browser.console()                          # what the console has said: (level, message)
"""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

_FLAGS = [
    "--headless", "--no-sandbox",
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Browser:
    """`folder` must be new and empty: the profile goes there. `scripting` False: no script of a page runs."""

    def __init__(
        self, folder: Path, *, scripting: bool = True, dark: bool = False, width: int = 1200, height: int = 900
    ) -> None:
        profile = folder / "profile"
        profile.mkdir(parents=True)
        flags = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options: dict[str, Any] = {"args": [*flags, *(["--force-dark-mode"] if dark else [])]}
        if not scripting:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        log = (folder / "driver.log").open("wb")
        self._driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=log)
        log.close()
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
            media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            self._devtools("Emulation.setEmulatedMedia", {"features": media})
        except BaseException:
            self.close()
            raise

    def _port(self) -> int:
        assert self._driver.stdout
        for line in self._driver.stdout:
            words = line.decode(errors="replace").strip().rstrip(".").split()
            if b"successfully" in line and words[-1].isdigit():
                return int(words[-1])
        raise RuntimeError("chromedriver did not start")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as problem:
            raise RuntimeError(f"{path}: {problem.read().decode()[:2000]}") from None

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        """The page's own width and height, as a phone has them when `mobile`."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self._call("POST", f"{self._session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script of the test's own in the page (also where the page's are off) and return its value."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def console(self) -> list[tuple[str, str]]:
        """What the console has said since the last call."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [(entry["level"], entry["message"]) for entry in entries]

    def screenshot(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        """End the browser and its driver."""
        if hasattr(self, "_session"):
            try:
                self._call("DELETE", self._session)
            except (RuntimeError, OSError):
                pass
        self._driver.terminate()
        try:
            self._driver.wait(10)
        except subprocess.TimeoutExpired:
            self._driver.kill()
            self._driver.wait()
        if self._driver.stdout:
            self._driver.stdout.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
