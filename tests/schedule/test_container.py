"""The recipe of the image: what it copies is there, it does not run as root, and its commands install the program."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchmix import __version__
from batchmix.schedule.units import UnitFormat, unit
from tests.documents import ROOT, page
from tests.schedule.test_units import paths, scheduled

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Return the instructions of the recipe, such as `("USER", "1000:1000")`."""
    lines = re.sub(r"\\\n", " ", page("jobs/Dockerfile")).splitlines()
    split = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [(name, rest) for name, rest in split]


def values(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_what_the_recipe_copies_is_in_the_repository_and_sent_to_the_builder() -> None:
    sources = [word for rest in values("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    assert "batchmix" in sources
    sent = [line[1:] for line in page("jobs/Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert sorted(sources) == sorted(sent)
    assert all((ROOT / name).exists() for name in sources)


def test_the_kubernetes_unit_asks_for_the_image_and_its_user(tmp_path: Path) -> None:
    manifest = json.loads(unit(UnitFormat.KUBERNETES, scheduled(tmp_path), paths(tmp_path)))
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    context = pod["securityContext"]
    assert values("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert context["runAsNonRoot"]
    assert context["runAsUser"] == context["fsGroup"] > 0
    assert container["workingDir"] == values("WORKDIR")[-1]
    assert json.loads(values("ENTRYPOINT")[0]) == container["command"][:1]
    for text in (page("jobs/Dockerfile"), page("jobs/schedule.md")):
        assert f"docker build -f jobs/Dockerfile -t {container['image']} ." in text
    assert container["image"] == f"batchmix:{__version__}"


@pytest.mark.slow
def test_the_commands_of_the_recipe_install_the_program(tmp_path: Path) -> None:
    """They are run one by one with the folders of the image below a temporary one, and without the change of owner."""

    def inside(text: str) -> str:
        return re.sub(r"(?<![\w.])/(opt|src|work)\b", rf"{tmp_path}/\1", text)

    folder, environ = tmp_path, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    for name, rest in instructions():
        if name == "WORKDIR":
            folder = Path(inside(rest))
            folder.mkdir(exist_ok=True)
        elif name == "ARG":
            key, _, value = rest.partition("=")
            environ[key] = value
        elif name == "COPY" and "--from" not in rest:
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, folder / target)
                else:
                    shutil.copy(ROOT / source, folder / target)
        elif name == "RUN":
            command = re.sub(r"&& chown \S+ \S+", "", inside(rest))
            done = subprocess.run(["sh", "-c", command], cwd=folder, env=environ, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
        elif name == "ENV":
            for word in shlex.split(inside(rest)):
                key, _, value = word.partition("=")
                environ[key] = value.replace("$PATH", environ["PATH"])
    (tmp_path / "work" / "rows.jsonl").write_text('{"prompt": "Say it."}\n')
    entry = json.loads(values("ENTRYPOINT")[0])
    call = [*entry, "run", "rows.jsonl", "--model", "m", "--base-url", "rehearsal:", "--progress", "none"]
    program = shutil.which(call[0], path=environ["PATH"])
    assert program is not None
    assert program.startswith(str(tmp_path))
    subprocess.run([program, *call[1:]], cwd=folder, env=environ, check=True, capture_output=True)
    assert (tmp_path / "work" / "runs" / "rows" / "_SUCCESS").exists()
