"""A container of an image that was built here, without a container engine: as a pod under "restricted" has it.

User and command are the image's; the root is read-only, there are no capabilities, no new privileges and no network.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.rendering import WORK
from tests.kube.tools import CLUSTER, output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RUNC = [str(WORK / "deb/usr/sbin/runc"), "--root", str(WORK / "runc")]
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list"]


class Container:
    """An image, unpacked; each `start` is a process of its own in namespaces of its own."""

    def __init__(self, root: Path, config: Mapping[str, Any], folder: Path) -> None:
        self.root, self.config = root, config
        self._folder = folder
        self._count = 0

    def run(self, *arguments: str, stdin: bytes | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """To its end; `arguments` replace the image's command, as in a pod."""
        name, process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(stdin, timeout=60)
        finally:
            self.remove(name)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def start(
        self,
        *arguments: str,
        entrypoint: Sequence[str] | None = None,
        env: Sequence[str] = (),
        mounts: Mapping[Path, str] | None = None,
    ) -> tuple[str, subprocess.Popen[bytes]]:
        """Its name for runc, and the process that waits for it.

        Args:
            arguments: instead of the image's command.
            entrypoint: instead of the image's.
            env: `NAME=value`, beside the image's.
            mounts: folders that it sees read-only, by their places in it.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        command = [*(entrypoint or self.config["Entrypoint"]), *(arguments or self.config["Cmd"])]
        specification = _specification(self.root, self.config, command, [*env], dict(mounts or {}))
        (folder / "config.json").write_text(json.dumps(specification), "utf-8")
        name = f"winnow-{self._folder.name}-{self._count}"
        process = subprocess.Popen(
            [*RUNC, "run", "--bundle", str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return name, process

    @staticmethod
    def pid(name: str) -> int | None:
        """Of its first process, as it is numbered outside; None while it is being made."""
        asked = subprocess.run([*RUNC, "state", name], capture_output=True, check=False)
        return int(json.loads(asked.stdout)["pid"]) or None if asked.returncode == 0 else None

    @staticmethod
    def remove(name: str) -> None:
        subprocess.run([*RUNC, "delete", "--force", name], capture_output=True, check=False)


@contextmanager
def unpacked(image: str, folder: Path) -> Iterator[Container]:
    """The image NAME:TAG as `cluster image` keeps it; `folder` is for what its containers need."""
    name = output(CLUSTER, "buildah", "from", "--pull-never", f"docker.io/library/{image}")
    try:
        root = Path(output(CLUSTER, "buildah", "mount", name))
        config = json.loads(output(CLUSTER, "buildah", "inspect", "--type", "image", f"docker.io/library/{image}"))
        yield Container(root, config["OCIv1"]["config"], folder)
    finally:
        subprocess.run([CLUSTER, "buildah", "rm", name], capture_output=True, check=False)


def _specification(
    root: Path, config: Mapping[str, Any], command: list[str], env: list[str], mounts: dict[Path, str]
) -> dict[str, Any]:
    """Of the OCI runtime."""
    user, group = map(int, config["User"].split(":"))
    own = [
        {"destination": place, "type": "bind", "source": str(at), "options": ["bind", "ro"]}
        for at, place in mounts.items()
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": command,
            "env": [*config["Env"], *env],
            "cwd": config.get("WorkingDir") or "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            *own,
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": MASKED,
        },
    }
