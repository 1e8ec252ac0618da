"""The driver's metrics at the Prometheus endpoint of a real Ray, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from cluster.metrics import COUNTERS, GAUGES, RunMetrics, exported_names

ROOT = Path(__file__).resolve().parent.parent.parent
STATE = {"units_waiting": 7, "actors_busy": 3, "actors_starting": 1}
SCRIPT = """
import json, sys, time, urllib.request
import ray
from cluster.metrics import RunMetrics

state = json.loads(sys.argv[1])
early = RunMetrics()
early.update(frames=1000, units_done=1000, failures={"early": 1}, **state)  # without Ray: lost, and no error
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, logging_level="error",
         _system_config={"metrics_report_interval_ms": 500})
node = ray.nodes()[0]
metrics = RunMetrics()
metrics.update(frames=100, units_done=1, failures={}, device_busy_share=0.25, **state)
metrics.update(frames=90, units_done=1, failures={"decode": 1}, **state)  # an actor died: its frames are no more
metrics.update(frames=130, units_done=4, failures={"decode": 2, "decoder-crash": 1}, device_busy_share=0.75, **state)
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
deadline = time.monotonic() + 60
text = ""
while text.count("decode") < 2 and time.monotonic() < deadline:
    time.sleep(0.5)
    try:
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        pass
print(text)
ray.shutdown()
metrics.update(frames=131, units_done=4, failures={}, **state)
"""


def exported(text: str) -> dict[str, dict[str, float]]:
    """name -> error_class ("" without one) -> sum over whatever else labels it, of this project's metrics."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in re.findall(r"^(ray_stcn_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        kind = re.search(r'error_class="([^"]*)"', labels)
        series = found.setdefault(name, {})
        key = kind.group(1) if kind else ""
        series[key] = series.get(key, 0) + float(value)
    return found


def test_prometheus_reads_the_run():
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(STATE)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = exported(done.stdout)
    assert set(found) == exported_names()
    assert found["ray_stcn_frames_total"] == {"": 130}
    assert found["ray_stcn_units_done_total"] == {"": 4}
    assert found["ray_stcn_failures_total"] == {"decode": 2, "decoder-crash": 1}
    assert {name: found[f"ray_stcn_{name}"] for name in STATE} == {name: {"": number} for name, number in STATE.items()}
    assert found["ray_stcn_device_busy_share"] == {"": 0.75}


def test_without_ray_nothing_is_raised():
    metrics = RunMetrics()
    metrics.update(frames=1, units_done=0, failures={"decode": 1}, device_busy_share=0.5, **STATE)
    metrics.update(frames=0, units_done=0, failures={"decode": 1}, **STATE)


def test_every_metric_says_what_it_is():
    assert len(exported_names()) == len(COUNTERS) + len(GAUGES) == 7
    assert all({**COUNTERS, **GAUGES}.values())
