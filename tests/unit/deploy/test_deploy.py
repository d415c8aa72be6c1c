"""What `deploy/` holds is valid by the schemas that its consumers publish, and says what the command line takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import kubernetes_validate
import pytest
from azure.mgmt.containerinstance.models import ContainerGroup
from dockerfile_parse import DockerfileParser
from ruamel.yaml import YAML

from voxload.cli.main import cli

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
OPERATED = DEPLOY / "kubernetes" / "locusttest.yaml"
GROUPS = sorted((DEPLOY / "azure").glob("*.yaml"))


def read(path):
    return list(YAML(typ="safe").load_all(path.read_text()))


MANIFESTS = {item["kind"]: item for item in read(DEPLOY / "kubernetes" / "voxload.yaml")}


def container(kind):
    (found,) = MANIFESTS[kind]["spec"]["template"]["spec"]["containers"]
    return found


def parsed(arguments):
    """The options of a command as the real command line reads them; an unknown one raises."""
    name, *rest = arguments
    command = cli.get_command(click.Context(cli), name)
    return name, command.make_context(name, rest).params


def missing(model):
    """The required fields that a model of the SDK lacks, its parts' too."""
    kind = type(model)
    found = [
        f"{kind.__name__}.{name}"
        for name, rules in kind._validation.items()
        if rules.get("required") and getattr(model, name) is None
    ]
    for name in kind._attribute_map:
        value = getattr(model, name)
        for part in value if isinstance(value, list) else [value]:
            if hasattr(part, "_attribute_map"):
                found += missing(part)
    return found


@pytest.mark.parametrize("version", ["1.29", "1.33", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", sorted(MANIFESTS))
def test_the_manifests_are_valid(kind, version):
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_the_validator_finds_mistakes():
    wrong = {**MANIFESTS["Job"], "spec": {**MANIFESTS["Job"]["spec"], "backofLimit": 0}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_master_and_workers_find_each_other():
    name, run = parsed(container("Job")["args"])
    other, worker = parsed(container("Deployment")["args"])
    assert (name, other) == ("run", "worker")
    service = MANIFESTS["Service"]
    assert run["remote"]
    assert run["workers"] == MANIFESTS["Deployment"]["spec"]["replicas"]
    assert run["master_bind"] == "0.0.0.0"
    assert worker["master_host"] == service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    (opened,) = container("Job")["ports"]
    assert port["targetPort"] == opened["name"]
    assert port["port"] == opened["containerPort"] == run["master_port"] == worker["master_port"]
    assert service["spec"]["selector"].items() <= MANIFESTS["Job"]["spec"]["template"]["metadata"]["labels"].items()
    deployment = MANIFESTS["Deployment"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_pods_are_confined_and_every_mount_has_its_volume(kind):
    pod = MANIFESTS[kind]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    secured = container(kind)["securityContext"]
    assert secured["readOnlyRootFilesystem"]
    assert not secured["allowPrivilegeEscalation"]
    assert {mount["name"] for mount in container(kind)["volumeMounts"]} == {item["name"] for item in pod["volumes"]}
    assert container(kind)["resources"]["requests"] == container(kind)["resources"]["limits"]


TEXT, FLAG, COUNT, PART = str, bool, int, "checked as a part of a pod"
LOCUST_TEST = {
    "image": TEXT,
    "master": {"command": TEXT, "autostart": FLAG, "autoquit": {"enabled": FLAG, "timeout": COUNT}, "resources": PART},
    "worker": {"command": TEXT, "replicas": COUNT, "resources": PART},
    "testFiles": {"configMapRef": TEXT, "srcMountPath": TEXT},
    "env": {"variables": PART},
    "volumes": PART,
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT, "target": TEXT}],
    "security": {"podSecurityContext": PART, "containerSecurityContext": PART},
}
"""The fields of `locust.io/v2` that we use, as locust-k8s-operator 2.3.0 documents them."""


def strange(found, known, path="spec"):
    """The places of a resource that have no such field, or another type."""
    if known == PART:
        return []
    if isinstance(known, dict):
        places = [f"{path}.{name}" for name in found if name not in known]
        return places + [
            place for name in found if name in known for place in strange(found[name], known[name], f"{path}.{name}")
        ]
    if isinstance(known, list):
        return [place for item in found for place in strange(item, known[0], f"{path}[]")]
    return [] if type(found) is known else [path]


def operated_pod(spec, role):
    """The pod that the operator makes of its resource, as far as it is our text."""
    mounts = [
        {"name": item["name"], "mountPath": item["mountPath"]}
        for item in spec["volumeMounts"]
        if item["target"] in {role, "both"}
    ]
    container = {
        "name": role,
        "image": spec["image"],
        "args": spec[role]["command"].split(),
        "resources": spec[role]["resources"],
        "env": spec["env"]["variables"],
        "volumeMounts": mounts,
        "securityContext": spec["security"]["containerSecurityContext"],
    }
    pod = {
        "containers": [container],
        "volumes": spec["volumes"],
        "securityContext": spec["security"]["podSecurityContext"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": pod}


def test_the_resource_of_the_locust_operator():
    claim, test = read(OPERATED)
    assert claim == MANIFESTS["PersistentVolumeClaim"]
    assert (test["apiVersion"], test["kind"]) == ("locust.io/v2", "LocustTest")
    spec = test["spec"]
    assert strange(spec, LOCUST_TEST) == []
    wrong = {**spec, "imge": "x", "worker": {"replicas": "4"}}
    assert strange(wrong, LOCUST_TEST) == [
        "spec.imge",
        "spec.worker.replicas",
    ]
    assert {"image", "master", "worker"} <= spec.keys()
    names = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in spec["volumeMounts"]} == names
    for role in ("master", "worker"):
        pod = operated_pod(spec, role)
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        assert spec[role]["resources"]["requests"] == spec[role]["resources"]["limits"]


def test_the_operator_starts_locust_with_what_it_takes():
    """Its own arguments are added to ours; Locust reads them and loads the file, in a process of its own."""
    _, test = read(OPERATED)
    spec = test["spec"]
    added = {
        "master": ["--master", "--expect-workers", str(spec["worker"]["replicas"]), "--autostart", "--autoquit", "10"],
        "worker": ["--worker", "--master-host", "voxload-master"],
    }
    code = (
        "import runpy, sys\n"
        "from locust.argument_parser import parse_options\n"
        "options = parse_options(sys.argv[2:])\n"
        "user = runpy.run_path(sys.argv[1])['Caller']\n"
        "print(options.locustfile, options.num_users, user.scenario, user.results)"
    )
    folder = spec["testFiles"].get("srcMountPath", "/lotest/src")
    for role, more in added.items():
        arguments = [str(DEPLOY / "kubernetes" / "locustfile.py"), *spec[role]["command"].split(), *more]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        users = 200 if role == "master" else None
        (results,) = (mount["mountPath"] for mount in spec["volumeMounts"] if mount["name"] == "results")
        expected = f"{folder}/locustfile.py {users} {folder}/scenario.yaml {results}"
        assert done.stdout.splitlines()[-1] == expected  # Locust warns of its own function


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: path.stem)
def test_container_groups_are_what_the_sdk_knows(path):
    """A field that the API does not have is lost on the way through the vendor's model."""
    (group,) = read(path)
    version, told = group.pop("apiVersion"), group.pop("name")
    assert version == "2023-05-01"
    model = ContainerGroup.deserialize(group)
    assert model.serialize() == group
    assert missing(model) == []
    (worker,) = group["properties"]["containers"]
    command, *arguments = worker["properties"]["command"]
    assert command == "voxload"
    name, options = parsed(arguments)
    assert name == "worker"
    assert options["region"] == group["location"] == path.stem.removeprefix("worker-")
    assert told.endswith(group["location"])


def test_the_validator_finds_mistakes_in_container_groups():
    (group,) = read(GROUPS[0])
    wrong = {"location": "x", "properties": {**group["properties"], "restartPolity": "Never"}}
    assert ContainerGroup.deserialize(wrong).serialize() != wrong
    del wrong["properties"]["osType"]
    assert missing(ContainerGroup.deserialize(wrong)) == ["ContainerGroup.os_type"]


def test_the_image(tmp_path):
    parser = DockerfileParser(path=str(tmp_path), cache_content=True)
    parser.content = (DEPLOY / "Dockerfile").read_text()
    assert parser.parent_images == ["python:3.11-slim", "python:3.11-slim"]
    steps = [(item["instruction"], item["value"]) for item in parser.structure if item["instruction"] != "COMMENT"]
    assert parser.is_multistage
    last = steps[[number for number, (name, _) in enumerate(steps) if name == "FROM"][-1] :]
    user = dict(last)["USER"]
    assert user.split(":")[0] == str(MANIFESTS["Job"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"])
    assert dict(last)["ENTRYPOINT"] == '["voxload"]'
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for name, value in steps:
        if name == "COPY" and "--from" not in value:
            for source in value.split()[:-1]:
                assert (ROOT / source.removeprefix("./")).exists(), source
                assert f"!{source.removeprefix('./')}" in ignored, source
