"""docker/*.sh: what build.sh tells the engine, and how check.sh ends."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.architecture.repository import ROOT, project
from tests.docker.recipes import FOLDER

ENGINE = '#!/bin/sh\nprintf "%s\\n" "$@"\n'


@pytest.fixture
def build(tmp_path):
    """Runs build.sh with stand-ins for the engines, which print their arguments one a line."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "sed", "git"):
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)

    def build(*arguments: str, engines: tuple[str, ...] = ("docker",), **environment: str):
        for name in engines:
            (programs / name).write_text(ENGINE.replace("printf", f"echo {name}; printf"))
            (programs / name).chmod(0o755)
        return subprocess.run(
            [programs / "sh", FOLDER / "build.sh", *arguments],
            cwd=tmp_path,
            env={"PATH": str(programs), **environment},
            capture_output=True,
            text=True,
        )

    return build


def test_build_gives_the_version_of_the_package(build):
    lines = build("cpu").stdout.splitlines()
    assert lines[:4] == ["docker", "build", "--tag", "gpugrad:cpu"]
    assert f"VERSION={project()['version']}" in lines
    assert "docker/cpu.Dockerfile" in lines
    assert lines[-1] == "."


@pytest.mark.parametrize("which", ["cpu", "cuda", "cuda12", "cuda13"])
def test_build_takes_a_dockerfile_that_exists(build, which):
    lines = build(which).stdout.splitlines()
    assert (ROOT / lines[lines.index("--file") + 1]).is_file()
    assert ("CUDA=" + which in lines) == which[-1].isdigit()


def test_index_and_certificates_are_secrets_of_the_build(build):
    lines = build("cpu", PIP_CONF="a.conf", CA_CERT="b.crt", BASE="mine:1").stdout.splitlines()
    secrets = [lines[i + 1] for i, line in enumerate(lines) if line == "--secret"]
    assert sorted(secrets) == ["id=ca.crt,src=b.crt", "id=pip.conf,src=a.conf"]
    named = [lines[i + 1] for i, line in enumerate(lines) if line == "--build-arg"]
    assert "BASE=mine:1" in named
    assert not any("a.conf" in value or "b.crt" in value for value in named)


def test_settings_of_pip_are_taken_over(build):
    lines = build("cpu", PIP_CONFIG_FILE="a.conf", PIP_CERT="b.crt").stdout.splitlines()
    assert "id=pip.conf,src=a.conf" in lines
    assert "id=ca.crt,src=b.crt" in lines


def test_more_arguments_go_to_the_engine(build):
    assert "--no-cache" in build("cuda", "--no-cache").stdout.splitlines()


@pytest.mark.parametrize(
    ("engines", "wanted", "taken"),
    [
        (("podman", "buildah"), None, "podman"),
        (("docker", "buildah"), None, "docker"),
        (("docker", "buildah"), "buildah", "buildah"),
    ],
)
def test_engine_is_the_one_asked_for_or_the_first_found(build, engines, wanted, taken):
    environment = {"ENGINE": wanted} if wanted else {}
    lines = build("cpu", engines=engines, **environment).stdout.splitlines()
    assert lines[0] == taken
    # OCI's own image format would drop the health check
    assert ("--format" in lines) == (taken != "docker")


@pytest.mark.parametrize(
    ("arguments", "engines", "message"),
    [
        (("gpu",), ("docker",), "no image 'gpu'"),
        ((), ("docker",), "which image"),
        (("cpu",), (), "none of docker, podman and buildah"),
    ],
)
def test_what_cannot_be_built_is_said(build, arguments, engines, message):
    done = build(*arguments, engines=engines)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""


def test_check_of_an_unknown_image_ends_at_once(tmp_path):
    done = subprocess.run(
        ["sh", FOLDER / "check.sh", "gpu"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "nothing to check for 'gpu'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_cpu_image_is_built_and_run():
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed (apt-get install buildah)")
    done = subprocess.run(["sh", FOLDER / "check.sh", "cpu"], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all checks passed\n")
