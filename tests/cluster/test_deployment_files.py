"""The files for clusters: what they say is what the code, Ray's own schema and its own command line understand."""

import copy
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.metrics import exported_names
from cluster.stop_policy import MARGIN_SECONDS, WAIT_VARIABLE, allowed_drain
from jobs import annotate

FOLDER = Path(__file__).resolve().parent.parent.parent / "cluster"
DAY = 86400


@pytest.fixture(scope="module")
def rayjob() -> dict:
    return yaml.safe_load((FOLDER / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def autoscaler() -> dict:
    return yaml.safe_load((FOLDER / "autoscaler-aws.yaml").read_text())


def annotate_arguments(command: str):
    """What the annotate command's own parser makes of a command line; fails the test where it refuses it."""
    words = shlex.split(command)
    starts = [n for n, word in enumerate(words) if word.endswith(("jobs.annotate", "annotate.py"))]
    assert starts, command
    rest = words[starts[0] + 1 :]
    return annotate.parser().parse_args(rest[1:] if rest[:1] == ["--"] else rest)


def pods(rayjob: dict) -> list[dict]:
    groups = [rayjob["spec"]["rayClusterSpec"]["headGroupSpec"], *rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_rayjob_starts_again_only_what_a_rerun_mends(rayjob: dict):
    spec = rayjob["spec"]
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["backoffLimit"] >= 1 and spec["submitterConfig"]["backoffLimit"] == 0
    assert spec["shutdownAfterJobFinishes"] is True and spec["ttlSecondsAfterFinished"] > 0
    assert DAY <= spec["activeDeadlineSeconds"] <= 30 * DAY
    arguments = annotate_arguments(spec["entrypoint"])
    assert arguments.failed_videos_exit == 0
    assert arguments.device == "cuda" and arguments.actors > 1


def test_rayjob_leaves_time_to_drain(rayjob: dict):
    arguments = annotate_arguments(rayjob["spec"]["entrypoint"])
    variables = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]
    wait = int(variables[WAIT_VARIABLE])
    assert wait == arguments.drain_seconds + MARGIN_SECONDS
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"metadata": {"job_submission_id": "x"}}), **variables}
    assert allowed_drain(arguments.drain_seconds, job) == (arguments.drain_seconds, None)
    for pod in pods(rayjob):
        assert pod["terminationGracePeriodSeconds"] > wait
    assert set(variables) == {WAIT_VARIABLE}, "the runtime env is shown on the dashboard: nothing else belongs there"


def test_rayjob_keeps_the_driver_off_spot_nodes(rayjob: dict):
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert not [name for name in rayjob["spec"] if name.startswith("entrypointNum") or name == "entrypointResources"]
    head, worker = pods(rayjob)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "on-demand" in head["nodeSelector"].values() and not head.get("tolerations")
    assert any("spot" in json.dumps(toleration) for toleration in worker["tolerations"])
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] and group["minReplicas"] == group["replicas"] == 0
    assert group["maxReplicas"] == annotate_arguments(rayjob["spec"]["entrypoint"]).actors


def test_rayjob_pins_its_images_and_asks_for_the_same_ray(rayjob: dict, autoscaler: dict):
    version = rayjob["spec"]["rayClusterSpec"]["rayVersion"]
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert set(re.findall(r"ray\[default\]==([\w.]+)", dockerfile)) == {version}
    for pod in pods(rayjob):
        (container,) = pod["containers"]
        assert re.search(r":\d+\.\d+\.\d+$", container["image"])
        assert pod["securityContext"]["runAsNonRoot"] and f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile
    for name in ("head_image", "worker_image"):
        assert f":{version}-py311-" in autoscaler["docker"][name]


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_a_pod_waits_for_its_own_work_alone(rayjob: dict, tmp_path: Path):
    """The preStop scripts as they are: they end at once without a driver or actor, and wait while one runs. Their
    `sleep` is one that takes no time and notes that it was asked."""
    slept, tools = tmp_path / "slept", tmp_path / "tools"
    tools.mkdir()
    (tools / "sleep").write_text('#!/bin/sh\necho "$1" >> "$SLEPT"\n')
    (tools / "sleep").chmod(0o755)
    head, worker = (pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] for pod in pods(rayjob))
    for command, title in ((head, "python -m jobs.annotate --manifest x"), (worker, "ray::AnnotateActor.annotate")):
        script = command[2].replace("/proc/[0-9]*/cmdline", "$CMDLINES")
        assert command[:2] == ["sh", "-c"] and script != command[2]
        waited = {}
        for name, line in (("idle", "raylet --port=1"), ("itself", " ".join(command)), ("busy", title)):
            cmdlines = tmp_path / f"{title[:3]}-{name}"
            cmdlines.write_text(line.replace(" ", "\0"))
            slept.write_text("")
            environment = {"CMDLINES": str(cmdlines), "SLEPT": str(slept), "PATH": f"{tools}:/usr/bin:/bin"}
            subprocess.run(["sh", "-c", script], env=environment, check=True)
            waited[name] = sum(map(int, slept.read_text().split()))
        assert waited == {"idle": 0, "itself": 0, "busy": 65}


def test_autoscaler_passes_rays_own_validation(autoscaler: dict):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(autoscaler)))
    wrong = prepare_config(copy.deepcopy(autoscaler))
    wrong["max_worker"] = 1
    with pytest.raises(Exception, match="max_worker"):
        validate_config(wrong)


def test_autoscaler_puts_work_on_spot_gpus_only(autoscaler: dict):
    kinds = autoscaler["available_node_types"]
    head, worker = kinds[autoscaler["head_node_type"]], kinds["gpu_worker"]
    assert head["resources"] == {"CPU": 0} and "InstanceMarketOptions" not in head["node_config"]
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert worker["resources"]["GPU"] == 1 and worker["min_workers"] == 0
    assert worker["max_workers"] <= autoscaler["max_workers"]
    (start,) = [line for line in autoscaler["head_start_ray_commands"] if "ray start --head" in line]
    assert "--num-cpus=0" in start
    for line in [start, autoscaler["worker_start_ray_commands"][-1]]:
        store = int(re.search(r"--object-store-memory=(\d+)", line).group(1))
        assert 80_000_000 <= store <= 500_000_000
    (mounted,) = autoscaler["file_mounts"]
    assert any(f"pip install --no-cache-dir '{mounted}[s3]'" in line for line in autoscaler["setup_commands"])


def test_the_submit_line_is_understood_by_ray_and_by_the_script(tmp_path: Path):
    """The line in the file's comment, through the parser of `ray submit` itself and the one of the script."""
    from ray.scripts.scripts import submit

    text = (FOLDER / "autoscaler-aws.yaml").read_text()
    (line,) = re.findall(r"^#\s+(ray submit .*jobs/annotate\.py.*)$", text, re.MULTILINE)
    root = FOLDER.parent
    words = [str(root / word) if word.startswith(("cluster/", "jobs/")) else word for word in shlex.split(line)[2:]]
    parsed = submit.make_context("submit", words).params
    assert Path(parsed["cluster_config_file"]).name == "autoscaler-aws.yaml" and parsed["tmux"]
    arguments = annotate.parser().parse_args(list(parsed["script_args"]))
    assert arguments.device == "cuda"
    assert arguments.actors == yaml.safe_load(text)["available_node_types"]["gpu_worker"]["max_workers"]


def test_dashboard_shows_every_metric_and_no_other():
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"ray_stcn_\w+", expression)}
    assert named == exported_names()
    for expression in expressions:
        assert expression.startswith("sum"), "each process has a series of its own"
        assert expression.count("ray_") == expression.count("ray_stcn_") == expression.count('SessionName=~"$session"')
        assert all(expression.count(left) == expression.count(right) for left, right in ("()", "{}", "[]"))
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers) and all(panel["title"] for panel in dashboard["panels"])
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "session"}


def test_dockerfile_copies_what_there_is_and_runs_as_nobody_special():
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    (base,) = [value for step, value in steps if step == "FROM"]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)
    copied = [word for step, value in steps if step == "COPY" for word in value.split()[:-1]]
    assert all((FOLDER.parent / name).exists() for name in copied)
    assert {"cluster", "jobs", "schemas", "stcn_core", "pyproject.toml"} <= set(copied)
    users = [value for step, value in steps if step == "USER"]
    assert users and users[-1] not in ("root", "0")
    assert any("[s3]" in value for step, value in steps if step == "RUN")


def test_no_file_holds_a_credential():
    for path in FOLDER.iterdir():
        if path.suffix in (".yaml", ".json", ".md") or path.name == "Dockerfile":
            text = path.read_text()
            assert not re.search(r"AKIA[0-9A-Z]{16}|(?i:secret_access_key)['\"]?\s*[:=]\s*['\"]?[\w/+]{20}", text), path


def test_the_cookbook_is_made_of_commands_that_parse():
    text = (FOLDER / "README.md").read_text()
    lines = [
        line for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for line in block.split("\n")
    ]
    annotating = [line for line in lines if "jobs.annotate" in line or "jobs/annotate.py" in line]
    assert len(annotating) >= 6
    for line in annotating:
        arguments = annotate_arguments(line)
        given = re.search(rf'"{WAIT_VARIABLE}": "(\d+)"', line)
        assert given is None or int(given.group(1)) == arguments.drain_seconds + MARGIN_SECONDS
        assert "--entrypoint-" not in line
    for name in re.findall(r"-m (jobs\.\w+)", "\n".join(lines)):
        assert (FOLDER.parent / f"{name.replace('.', '/')}.py").is_file()
    assert set(re.findall(r"ray_stcn_\w+", text)) == exported_names()
    for path in re.findall(r"\b(?:cluster|tests)/[\w/.-]+\w", text):
        assert (FOLDER.parent / path).exists(), path
