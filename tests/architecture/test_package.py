"""What a user installs works away from the repository: wheel, wheel from sdist, editable."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, project, repository_files

SOURCES = ("pyproject.toml", "README.md", "LICENSE")
CORE = ("numpy", "numpy.libs", "fastrlock")

# Run inside the installed environment: it must find everything without the repository.
PROBE = """
import importlib.metadata, importlib.resources, pathlib
import gpugrad, gpugrad.kernels
root = importlib.resources.files("gpugrad.kernels")
for path in sorted(path.name for path in root.iterdir()):
    print("kernel", path)
data = importlib.resources.files("gpugrad") / "boltzmann" / "data"
if data.is_dir():
    for path in sorted(path.name for path in data.iterdir()):
        print("data", path)
print("version", importlib.metadata.version("gpugrad"), getattr(gpugrad, "__version__", "missing"))
print("package", pathlib.Path(gpugrad.__file__).parent.as_posix())
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )


def checked(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment that holds nothing, or only links to packages of this one."""

    def __init__(self, folder: Path, packages: tuple[str, ...]) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        [self.site] = folder.glob("lib/python*/site-packages")
        for package in packages:
            found = Path(sysconfig.get_path("purelib")) / package
            if package == "fastrlock" or package == "numpy":
                specification = importlib.util.find_spec(package)
                assert specification is not None and specification.origin is not None
                found = Path(specification.origin).parent
            if found.exists():
                (self.site / package).symlink_to(found)

    def see_all_packages(self) -> None:
        """Add the packages of the environment that runs the tests, but an editable gpugrad."""
        (self.site / "around.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(self, what: Path, *options: str) -> None:
        checked(
            sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check",
            "install", "--quiet", "--no-deps", "--no-index", *options, what,
            cwd=self.folder,
        )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what the build reads, so that nothing left over in the checkout can help."""
    copy = tmp_path_factory.mktemp("source")
    for name in repository_files():
        if name.parts[0] in ("gpugrad", "kernels") or str(name) in SOURCES:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def build(kind: str, source: Path, out: Path) -> Path:
    checked(
        sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source,
        cwd=out,
    )  # fmt: skip
    [built] = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel_from_sdist(sdist, tmp_path_factory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    [source] = unpacked.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel_from_sdist"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("empty"), CORE)
    environment.install(wheel)
    return environment


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected_names() -> set[str]:
    """Every file of the repository that an installed gpugrad has, at its installed place."""
    names = set()
    for name in repository_files():
        if name.parts[0] == "kernels":
            names.add(f"gpugrad/{name.as_posix()}")
        elif name.parts[0] == "gpugrad":
            names.add(name.as_posix())
    return names


def kernel_files() -> set[str]:
    return {
        path.name
        for path in (ROOT / "kernels").iterdir()
        if path.suffix in (".cu", ".cuh", ".md", ".py")
    }


def found_by(environment: Environment) -> dict[str, list[str]]:
    output = checked(environment.python, "-W", "error", "-c", PROBE, cwd=environment.folder)
    found: dict[str, list[str]] = {"kernel": [], "data": [], "version": [], "package": []}
    for line in output.splitlines():
        kind, *rest = line.split(" ", 1)
        found[kind] += rest
    return found


def test_wheel_is_pure_python(wheel):
    assert wheel.name == f"gpugrad-{project()['version']}-py3-none-any.whl"
    compiled = {name for name in names_in(wheel) if name.endswith((".so", ".pyd", ".o"))}
    assert compiled == set()


def test_wheel_holds_the_repository_files_and_nothing_else(wheel):
    assert names_in(wheel) == expected_names()


def test_wheel_built_from_the_sdist_holds_the_same(wheel, wheel_from_sdist):
    assert names_in(wheel_from_sdist) == names_in(wheel)


def test_wheel_names_its_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        licences = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert len(licences) == 1


def test_installed_wheel_finds_kernels_and_data_by_itself(installed):
    found = found_by(installed)
    assert set(found["kernel"]) - {"__pycache__"} == kernel_files()
    data = ROOT / "gpugrad" / "boltzmann" / "data"
    assert set(found["data"]) - {"__pycache__"} == {
        path.name for path in data.glob("*") if path.name != "__pycache__"
    }
    assert found["version"] == [f"{project()['version']} {project()['version']}"]
    assert found["package"] == [(installed.site / "gpugrad").resolve().as_posix()]


def test_wheel_from_the_sdist_runs(wheel_from_sdist, tmp_path):
    environment = Environment(tmp_path / "environment", CORE)
    environment.install(wheel_from_sdist)
    assert set(found_by(environment)["kernel"]) - {"__pycache__"} == kernel_files()


def test_editable_install_finds_kernels_in_the_repository(source, tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(source, checkout)
    environment = Environment(tmp_path / "environment", CORE)
    # The build runs in this environment: the new one has no setuptools.
    environment.see_all_packages()
    environment.install(checkout, "--no-build-isolation", "--editable")
    found = found_by(environment)
    assert set(found["kernel"]) - {"__pycache__"} == kernel_files()
    assert found["package"] == [(checkout / "gpugrad").resolve().as_posix()]
    (checkout / "kernels" / "new.cu").write_text("// added after the install\n")
    assert "new.cu" in found_by(environment)["kernel"]


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("kernels/*.cu*")))
def test_kernel_source_is_read_from_the_installed_package(installed, name):
    program = f"from gpugrad.backend.cuda import source; print(source({name!r}), end='')"
    printed = checked(installed.python, "-W", "error", "-c", program, cwd=installed.folder)
    own_lines = (ROOT / "kernels" / name).read_text(encoding="utf-8").splitlines()
    # Files that it includes stand in place of the lines that include them.
    expected = [line for line in own_lines if not line.startswith('#include "')]
    remaining = iter(printed.splitlines())
    assert all(line in remaining for line in expected), "not the file's lines in their order"


def test_embedded_images_are_read_from_the_installed_package(installed):
    source = (
        "from gpugrad.boltzmann import datasets\n"
        "print(datasets.mnist('train').shape, datasets.mnist('test').shape)"
    )
    printed = checked(installed.python, "-W", "error", "-c", source, cwd=installed.folder)
    assert printed.strip() == "(60000, 784) (10000, 784)"


def test_command_without_its_extra_names_it(installed):
    done = run(installed.folder / "bin" / "gpugrad", "--help", cwd=installed.folder)
    assert done.returncode == 1
    assert 'pip install "gpugrad[train]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_command_with_its_extra_prints_its_help(wheel, tmp_path):
    environment = Environment(tmp_path / "environment", CORE)
    environment.see_all_packages()
    environment.install(wheel)
    printed = checked(environment.folder / "bin" / "gpugrad", "--help", cwd=tmp_path)
    for command in ("train", "sample", "evaluate", "info"):
        assert command in printed
