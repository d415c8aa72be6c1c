"""What `deploy/` holds is valid by the schemas that its consumers publish, and says what the command line takes."""

from __future__ import annotations

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
