"""Real Prometheus scrapes a real service under a small load; every query of ours means something to it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.conftest import ROOT, SHIPPED_MODEL, running_process

DEPLOY = ROOT / "deploy/prometheus"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/mien.json").read_text())
WITHIN_S = 90


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        message = f"no {program}; `apt-get install prometheus` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


class Prometheus:
    """A running Prometheus, asked over its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            if result := self.query(expression):
                return result
            time.sleep(0.5)
        raise AssertionError(f"no data for {expression}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped model, which a test may spoil."""
    return Path(shutil.copytree(SHIPPED_MODEL, tmp_path_factory.mktemp("model") / "served"))


@pytest.fixture(scope="module")
def service(model: Path) -> Iterator[tuple[str, int]]:
    """URL and process id of a service of which a little of everything was asked."""
    with running_process(model=model, detect_side_px=320, queue_size=0, workers=1) as (url, process):
        yield url, process.pid


@pytest.fixture(scope="module")
def prometheus(service: tuple[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Debian's Prometheus with our configuration: our target, and seconds where it has minutes."""
    program, home = needs("prometheus"), tmp_path_factory.mktemp("prometheus")
    config = (DEPLOY / "prometheus.yml").read_text().replace("api:8000", service[0].removeprefix("http://"))
    (home / "prometheus.yml").write_text(re.sub(r"_interval: \d+s", "_interval: 1s", config))
    rules = re.sub(r"for: \d+m", "for: 1s", (DEPLOY / "alerts.yml").read_text())
    (home / "alerts.yml").write_text(rules)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
    running = subprocess.Popen(
        [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL, cwd=home
    )
    try:
        asked = Prometheus(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            try:
                asked.query("up")
                break
            except OSError:
                time.sleep(0.2)
        yield asked
    finally:
        running.terminate()
        running.wait(timeout=30)


def ask(url: str, data: bytes | None = None) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "image/jpeg"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=20).read()


def load(url: str, jpeg: bytes, seconds: float) -> None:
    """Pictures, faults and a video session, for so long."""
    end = time.monotonic() + seconds
    with connect(url.replace("http", "ws") + "/stream", compression=None) as ws:
        ws.recv()
        while time.monotonic() < end:
            ask(f"{url}/predict", jpeg)
            ask(f"{url}/predict", b"no picture")
            ask(f"{url}/nothing")
            for _ in range(6):
                ws.send(jpeg)
            ws.recv(timeout=20)


def test_promtool_accepts_configuration_rules_and_metrics(service: tuple[str, int]) -> None:
    promtool = needs("promtool")
    for arguments in (["config", "prometheus.yml"], ["rules", "alerts.yml"]):
        done = subprocess.run([promtool, "check", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    metrics = urllib.request.urlopen(f"{service[0]}/metrics", timeout=10).read()
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()


def test_each_alert_fires_on_the_fault_that_it_is_for() -> None:
    done = subprocess.run(
        [needs("promtool"), "test", "rules", "alerts_test.yml"], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text()))
    tested = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts", (DEPLOY / "alerts_test.yml").read_text()))
    assert tested == alerts
    runbook = (ROOT / "docs/operations.md").read_text()
    assert all(f"### {alert}\n" in runbook for alert in alerts)


def expressions() -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    ]


def test_every_panel_shows_data(prometheus: Prometheus, service: tuple[str, int], jpeg: bytes) -> None:
    prometheus.wait_for('up{job="mien"} == 1')
    load(service[0], jpeg, seconds=8)
    time.sleep(1.5)  # one more scrape
    empty = []
    for title, expression in expressions():
        concrete = expression.replace("$__rate_interval", "20s").replace("$instance", ".*")
        values = [float(series["value"][1]) for series in prometheus.query(concrete)]
        if not values or all(value != value for value in values):
            empty.append(f"{title}: {concrete}")
    assert empty == []


def test_every_alert_can_be_evaluated(prometheus: Prometheus) -> None:
    prometheus.wait_for("ALERTS or vector(1)")
    time.sleep(2)
    (group,) = prometheus.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}


def test_a_refused_model_and_a_dead_service_raise_the_alarm(
    prometheus: Prometheus, service: tuple[str, int], model: Path
) -> None:
    url, pid = service
    prometheus.wait_for('mien_model_loads_total{result="failed"} == 0')
    with (model / "model.onnx").open("ab") as file:
        file.write(b"\0")
    os.kill(pid, signal.SIGHUP)
    prometheus.wait_for('ALERTS{alertname="MienModelLoadFailed", alertstate="firing"}')
    assert urllib.request.urlopen(f"{url}/readyz", timeout=10).status == 200  # the one before goes on
    os.kill(pid, signal.SIGTERM)
    prometheus.wait_for('ALERTS{alertname="MienDown", alertstate="firing"}')


def test_the_dashboard_is_complete() -> None:
    panels = DASHBOARD["panels"]
    assert panels[0]["title"] == "Are users fine?"
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = {target["datasource"]["uid"] for p in panels if p["type"] != "row" for target in p["targets"]}
    provisioned = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert sources == {"mien-prometheus"}
    assert "uid: mien-prometheus" in provisioned
    assert all(panel.get("description") for panel in panels if panel["type"] != "row")
