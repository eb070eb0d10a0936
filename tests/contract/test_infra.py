"""The files of infra/ for clusters pass schemas and linters of their programs, and keep our rules.

No container engine, Kubernetes, cloud or Slurm runs here: docs/infrastructure.md says so.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from copy import deepcopy
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pipeline import __version__
from tests.contract.imports import ROOT

INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent  # not resolved: the virtual environment's
CRDS = {
    kind: json.loads((Path(__file__).parent / "crds" / f"{kind.lower()}s.json").read_text())
    for kind in ("RayCluster", "RayJob", "RayCronJob")
}
LOCK = dict(
    line.split("==")
    for path in (INFRA / "requirements.lock", *sorted((INFRA / "lock").glob("*.txt")))
    for line in path.read_text().splitlines()
    if "==" in line
)
IMAGE = f"convoy:{__version__}"
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY|AUTH_KEY")


def read(name):
    return (INFRA / name).read_text()


MANIFESTS = {
    path.name: [document for document in yaml.safe_load_all(path.read_text()) if document]
    for path in (*sorted((INFRA / "k8s").glob("*.yaml")), INFRA / "schedule" / "ray-cron-job.yaml")
}
JOBS = {"ray-job.yaml", "ray-cron-job.yaml"}  # started by hand, or applied, once the rest is there
KUSTOMIZATION = MANIFESTS.pop("kustomization.yaml")[0]
OBJECTS = [document for documents in MANIFESTS.values() for document in documents]
COMPOSE = yaml.safe_load(read("compose.yaml"))
DOCKERFILE = read("docker/Dockerfile").replace("\\\n", " ").splitlines()
LAUNCHERS = {name: yaml.safe_load(read(f"ray/{name}.yaml")) for name in ("cloud", "on-premise")}


def the(kind, name):
    (found,) = [o for o in OBJECTS if o["kind"] == kind and o["metadata"].get("name") == name]
    return found


def pod_templates():
    """Return each pod template of the manifests by a name, that of a job's submitter by kind."""
    found = {}
    for thing in OBJECTS:
        spec = thing.get("spec", {})
        spec = spec.get("jobTemplate", spec)
        if "template" in spec:
            found[thing["metadata"]["name"]] = spec["template"]
        for group in (spec.get("headGroupSpec"), *spec.get("workerGroupSpecs", ())):
            if group:
                found[f"ray {group.get('groupName', 'head')}"] = group["template"]
        if "submitterPodTemplate" in spec:
            found[thing["kind"]] = spec["submitterPodTemplate"]
    return found


PODS = pod_templates()


def closed(schema):
    """Return a schema that refuses unknown fields, as Kubernetes' strict mode does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        strict.setdefault("additionalProperties", False)
    return strict


def templates_in(schema, value):
    """Return the pod templates of a Ray object: what its schema leaves to Kubernetes'."""
    if schema.get("x-pod-template"):
        return [value]
    if isinstance(value, list):
        return [found for item in value for found in templates_in(schema["items"], item)]
    inner = schema.get("properties", {}) if isinstance(value, dict) else {}
    return [f for name in inner if name in value for f in templates_in(inner[name], value[name])]


def validate(thing):
    version = kubernetes_validate.latest_version()
    if thing["kind"] not in CRDS:
        kubernetes_validate.validate(thing, version, strict=True)
        return
    schema = CRDS[thing["kind"]]
    jsonschema.Draft202012Validator(closed(schema)).validate(thing)
    templates = templates_in(schema, thing)
    assert templates
    for template in templates:
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        kubernetes_validate.validate(whole, version, strict=True)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def accepted_by(*command):
    done = run(BIN / command[0], *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name):
    for thing in MANIFESTS[name]:
        validate(thing)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", ("spec", "rayVersoin"), "2.60.0"),
        ("RayCluster", ("spec", "authOptions", "mode"), "tokens"),
        ("RayCluster", ("spec", "workerGroupSpecs", 0, "maxReplicas"), "8"),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "containers", 0, "limits"), 1),
        ("RayJob", ("spec", "clusterSelector"), "convoy"),
        ("RayJob", ("spec", "submitterPodTemplate", "spec", "restartPolicyy"), "Never"),
        ("RayCronJob", ("spec", "concurrencyPolicy"), "Forbid"),
        ("RayCronJob", ("spec", "jobTemplate", "backoffLimit"), "0"),
    ],
)
def test_a_mistake_in_a_ray_object_is_found(kind, path, value):
    (thing,) = (deepcopy(o) for o in OBJECTS if o["kind"] == kind)
    inner = thing
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(thing)


def test_kustomization_applies_every_manifest_but_the_jobs():
    assert set(KUSTOMIZATION["resources"]) == set(MANIFESTS) - JOBS
    assert KUSTOMIZATION["images"][0]["name"] == "convoy"
    assert KUSTOMIZATION["images"][0]["newTag"] == __version__
    # Kustomize follows aliases, but has failed on merge keys.
    assert not [name for name in KUSTOMIZATION["resources"] if "<<" in read(f"k8s/{name}")]
    namespace = the("Namespace", KUSTOMIZATION["namespace"])
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", PODS)
def test_pods_have_few_rights_limits_and_probes(name):
    pod = PODS[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # The autoscaler is a container of the head, and asks Kubernetes for pods.
    assert pod.get("automountServiceAccountToken", True) is (name == "ray head")
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound])
        assert container["image"] in (IMAGE, COMPOSE["services"]["postgres"]["image"])
        if name not in ("RayJob", "RayCronJob"):
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        mounted = [mount["name"] for mount in container["volumeMounts"]]
        claimed = [claim["metadata"]["name"] for claim in claims_of(name)]
        assert sorted(mounted) == sorted([volume["name"] for volume in pod["volumes"]] + claimed)
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


def claims_of(name):
    sets = [o for o in OBJECTS if o["kind"] == "StatefulSet" and o["metadata"]["name"] == name]
    return [claim for found in sets for claim in found["spec"]["volumeClaimTemplates"]]


def test_secrets_come_by_reference_to_those_that_the_commands_make():
    text = read("k8s/kustomization.yaml")
    made = set(re.findall(r"create secret generic ([\w-]+)", text))
    asked = {the("RayCluster", "convoy")["spec"]["authOptions"]["secretName"]}
    for template in PODS.values():
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                asked.add(volume["secret"]["secretName"])
        for container in template["spec"]["containers"]:
            asked |= {source["secretRef"]["name"] for source in container.get("envFrom", ())}
            for variable in container.get("env", ()):
                if SECRET.search(variable["name"]) and not variable["name"].endswith("_FILE"):
                    asked.add(variable["valueFrom"]["secretKeyRef"]["name"])
    assert asked == made
    assert not [o for o in OBJECTS if o["kind"] == "Secret"]


def test_manifests_find_each_other():
    jobs = [o["spec"] for o in OBJECTS if o["kind"] in ("RayJob", "RayCronJob")]
    for job in (spec.get("jobTemplate", spec) for spec in jobs):
        cluster = the("RayCluster", job["clusterSelector"]["ray.io/cluster"])
        scripts = re.findall(r"bash (?:/opt/convoy/)?(\S+)", job["entrypoint"])
        assert scripts
        for script in scripts:
            assert (ROOT / script).is_file()
            assert in_the_image(script)
    labels = [template["metadata"]["labels"] for template in PODS.values()]
    labels += [{"ray.io/cluster": cluster["metadata"]["name"]}]  # KubeRay sets it
    labels += [{"app.kubernetes.io/name": "kuberay-operator"}]  # of its helm chart
    for thing in OBJECTS:
        if thing["kind"] == "Service":
            assert any(thing["spec"]["selector"].items() <= found.items() for found in labels)
        if thing["kind"] == "NetworkPolicy":
            rules = [from_ for rule in thing["spec"].get("ingress", ()) for from_ in rule["from"]]
            for selector in (thing["spec"], *rules):
                wanted = selector["podSelector"].get("matchLabels", {})
                assert any(wanted.items() <= found.items() for found in labels), wanted
    assert the("NetworkPolicy", "deny-ingress")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    address = PODS["ray head"]["spec"]["containers"][0]["env"][0]["value"]
    host, port = address.removeprefix("http://").split(":")
    assert the("Service", host)["spec"]["ports"][0]["port"] == int(port)
    (server,) = PODS["mlflow"]["spec"]["containers"]
    allowed = next(arg for arg in server["args"] if arg.startswith("--allowed-hosts="))
    assert any(fnmatch(f"{host}:{port}", host_) for host_ in allowed.split("=")[1].split(","))
    for template in PODS.values():
        for volume in template["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = the("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_compose_is_valid():
    accepted_by(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml"
    )


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_services_of_compose_have_few_rights_and_limits(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert service["healthcheck"]["test"][0] == "CMD"
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)
    for variable, value in service["environment"].items():
        if SECRET.search(variable) and not variable.endswith(("_FILE", "_PATH")):
            # `:?` ends with a line where the variable is missing or empty.
            assert not re.sub(r"\$\{[A-Z_]+:\?[^}]+\}", "", value).strip('",'), variable
    assert not {"secrets", "configs"} & set(service)  # Compose refuses both with read_only
    for other in service.get("depends_on", ()):
        assert "healthcheck" in COMPOSE["services"][other]


def test_what_compose_asks_for_is_made_by_its_first_command():
    text = read("compose.yaml")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", code))
    head = text[: text.index("\nname:")]
    assert asked == {name for name in asked if re.search(rf"\b{name}\b", head)}
    assert run("git", "check-ignore", "infra/.env", cwd=ROOT).returncode == 0


def test_the_image_file_passes_hadolint():
    accepted_by("hadolint", INFRA / "docker" / "Dockerfile")


def in_the_image(path):
    """Say whether the build may see a file: infra/docker/Dockerfile.dockerignore names what may."""
    lines = read("docker/Dockerfile.dockerignore").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    return any(path == name or path.startswith(f"{name}/") for name in allowed)


def test_the_image_holds_what_it_must_and_no_more():
    lines = read("docker/Dockerfile.dockerignore").splitlines()
    assert lines[1] == "*"
    for name in (line[1:] for line in lines if line.startswith("!")):
        assert run("git", "ls-files", "--error-unmatch", name, cwd=ROOT).returncode == 0, name
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for path in tracked.stdout.splitlines():
        if path.startswith(("pipeline/", "infra/lock/")) or path in ("dvc.yaml", "params.yaml"):
            assert in_the_image(path), path
    assert not in_the_image("infra/.env")
    copied = [line.split()[1:-1] for line in DOCKERFILE if line.startswith("COPY ")]
    for source in (source for sources in copied for source in sources if source != "."):
        assert (ROOT / source).exists()
        assert in_the_image(source), source


def test_the_image_runs_without_root_and_changes_from_the_bottom_up():
    users = [line.split()[1] for line in DOCKERFILE if line.startswith("USER ")]
    assert users == ["1000:1000"]
    order = ("apt-get install", "-r /tmp/lock/torch.txt", "requirements.lock", "COPY . .", "USER ")
    text = "\n".join(line for line in DOCKERFILE if not line.startswith("#"))
    assert sorted(order, key=text.index) == list(order)


def test_versions_are_those_of_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    python = project["tool"]["mypy"]["python_version"]
    (base,) = [line.split()[1] for line in DOCKERFILE if line.startswith("FROM ")]
    assert re.fullmatch(rf"python:{re.escape(python)}\.\d+-slim-\w+", base)
    for name in ("ray/on-premise.yaml", "ray/ray.service"):
        assert set(re.findall(r"python(3[\d.]*\d)", read(name))) == {python}
    assert the("RayCluster", "convoy")["spec"]["rayVersion"] == LOCK["ray"]
    # The launcher for hosts and the image install from the lock, and from nothing else.
    assert "-r ~/convoy/requirements.lock" in LAUNCHERS["on-premise"]["setup_commands"][1]
    assert LAUNCHERS["on-premise"]["file_mounts"]["~/convoy/lock"] == "infra/lock"
    only = dict(re.findall(r"^(\w+)==(\S+)$", read("docker/requirements.txt"), re.M))
    assert not set(only) & set(LOCK)
    assert only["boto3"] == LOCK["botocore"]
    named = {
        name: set(re.findall(r"convoy:(\d[\w.]*)", path.read_text())) for name, path in files()
    }
    assert set().union(*named.values()) == {__version__}
    postgres = {
        tag for _, path in files() for tag in re.findall(r"postgres:(1\S+)", path.read_text())
    }
    assert len(postgres) == 1


def files():
    """Return the files of infra/ for clusters, by name, without the locks."""
    paths = sorted(path for path in INFRA.rglob("*") if path.is_file())
    names = {path.relative_to(INFRA).as_posix(): path for path in paths if path.name != ".env"}
    return [(name, path) for name, path in names.items() if "lock" not in name]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_files_are_valid_and_ask_for_the_token(name):
    schema = Path(find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json"
    accepted_by("check-jsonschema", "--schemafile", schema, INFRA / "ray" / f"{name}.yaml")
    launcher = LAUNCHERS[name]
    for moment in ("head", "worker"):
        stop, start = launcher[f"{moment}_start_ray_commands"]
        assert stop.endswith("ray stop")
        assert re.search(r"export [^;]*RAY_AUTH_MODE=token\b.*; *ray start ", start)
        assert "--dashboard-host" not in start  # loopback, where nothing else is said
    assert launcher["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert launcher["auth"]["ssh_user"] != "root"


def test_shell_scripts_pass_shellcheck():
    found = [*INFRA.rglob("*.sh"), *INFRA.rglob("*.sbatch"), ROOT / ".ci" / "run"]
    assert len(found) >= 7
    accepted_by("shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *found)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_is_valid(tmp_path):
    """On a host that has Ray where the unit says; here another program stands there."""
    unit = tmp_path / "ray.service"
    text = read("ray/ray.service")
    unit.write_text(text.replace("/opt/convoy/.venv/bin/ray start", f"{sys.executable} start"))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")
    service = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    assert service["Restart"] == "always"
    assert service["StartLimitIntervalSec"] == "0"
    assert service["User"] != "root"
    assert "--block" in service["ExecStart"]
    assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%d/ray_token" in text


@pytest.mark.parametrize(("name", "path"), files())
def test_no_file_holds_a_secret(name, path):
    text = path.read_text()
    for key, value in re.findall(r"(?<![\w{])([A-Z_]+)\s*[=:][ \t]*[\"']*([^\s\"',}]+)", text):
        if SECRET.search(key) and not key.endswith(("_FILE", "_PATH", "_KEY_ID")):
            assert value.startswith("$"), key  # a reference, or a command that makes it
    assert not re.findall(r"(?<![\w/.-])[A-Za-z0-9+]{32,}(?![\w/.-])", text)  # hex or base64
    assert "AKIA" not in text
