"""This machine: its CPU and what of it a worker may use, the model bundle, the port."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from worker.doctor.findings import Finding, not_checked, ok, problem, refused, warning
from worker.errors import BundleError, ConfigError, Fatal
from worker.forms import topics
from worker.model import bundle as bundles
from worker.opening import bundle_folder, open_model

if TYPE_CHECKING:
    from worker.capacity.machine import Cpu
    from worker.config import ServingSettings, Settings
    from worker.model.bundle import Bundle
    from worker.opening import Model

VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
"""Any of these multiplies INT8 without saturating in between."""
GET_BUNDLE = "Copy the bundle again, or name another one in model.bundle."


def instruction_set(cpu: Cpu) -> Finding:
    """Whether INT8 is fast, and the same as elsewhere."""
    if not cpu.instruction_sets:
        return not_checked("instruction set", f"{cpu.model}: the kernel names no instruction sets of an x86 CPU.")
    found = sorted(VNNI.intersection(cpu.instruction_sets))
    if found:
        return ok("instruction set", f"{cpu.model} has {', '.join(found)}.")
    return warning(
        "instruction set",
        f"{cpu.model} has no VNNI ({', '.join(cpu.instruction_sets)}): INT8 takes about twice the time.",
        "Use a CPU with VNNI (Intel from Ice Lake on, AMD from Zen 4 on), or import the model with --reduce-range.",
    )


def cores(lanes: int, affinity: int, quota: float | None) -> Finding:
    """Lanes against the cores that this process may use.

    Args:
        lanes: `model.lanes`; 0 for as many as there are cores.
        affinity: cores of the affinity mask.
        quota: cores of the cgroup's quota; None where there is none.
    """
    usable = affinity if quota is None else min(affinity, quota)
    limits = f"{affinity} by affinity" + ("" if quota is None else f", {quota:g} by the cgroup's quota")
    running = lanes or max(1, int(usable))
    found = f"{running} lanes on {usable:g} cores ({limits})."
    if usable < 1:
        return warning(
            "cores",
            f"{found} The quota stops the lane in the middle of its runs.",
            "Give the worker at least one whole CPU (on Kubernetes resources.limits.cpu), or no limit.",
        )
    if running > usable:
        return warning(
            "cores",
            f"{found} More lanes than cores make every message slower and none of them more.",
            f"Set model.lanes to {int(usable)}, or to 0 for as many as there are.",
        )
    if quota is not None and quota < affinity and quota != int(quota):
        return warning(
            "cores",
            f"{found} {quota - int(quota):g} of a CPU is paid for and not used by a lane.",
            f"Give the worker {int(quota)} or {int(quota) + 1} whole CPUs.",
        )
    return ok("cores", found)


def model(settings: Settings) -> list[Finding]:
    """The bundle's files, and whether this machine computes what its probes expect."""
    try:
        bundle = bundles.load(bundle_folder(settings.model.bundle))
    except BundleError as error:
        return [refused("bundle", error, GET_BUNDLE), not_checked("probes", "There is no whole bundle.")]
    return [ok("bundle", _described(bundle)), *_opened(settings, bundle)]


def _described(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"{manifest.name} ({bundle.digest}), {manifest.task}: {len(bundle.labels)} labels; its digests are right."


def _opened(settings: Settings, bundle: Bundle) -> list[Finding]:
    try:
        model = open_model(settings.model, settings.entities, settings.decision)
    except Fatal as error:
        return [refused("probes", error, "Use the onnxruntime of Winnow's lock file, or a CPU with VNNI.")]
    count, within = len(bundle.manifest.probes), bundle.manifest.probe_tolerance
    computes = ok("probes", f"This machine computes what the bundle's {count} probes expect, within {within:g}.")
    return [computes, *([_routes(settings, model)] if settings.routing.topics else [])]


def _routes(settings: Settings, model: Model) -> Finding:
    try:
        topics(settings, model)
    except ConfigError as error:
        return refused("routes", error, "Correct routing.topics.")
    routes = ", ".join(f"{name} to {topic}" for name, topic in settings.routing.topics.items())
    return ok("routes", f"By {settings.routing.by}: {routes}; all else to {settings.kafka.output_topic}.")


def port(serving: ServingSettings) -> Finding:
    """Whether metrics and health can be served."""
    if not serving.enabled:
        return ok("port", "serving.enabled is false: neither metrics nor health are served.")
    where = f"{serving.host}:{serving.port}"
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            serving.host, serving.port, type=socket.SOCK_STREAM
        )[:1]:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return warning(
                "port",
                f"{where} is in use, by a worker that runs here already or by something else.",
                "Where it is something else, set serving.port to a free port (0 picks one).",
            )
        return problem(
            "port",
            f"Nothing can listen on {where} ({error.strerror}).",
            "Set serving.host to an address of this machine, and serving.port to a port that this user may take.",
        )
    return ok("port", f"{where} is free." if serving.port else f"A free port of {serving.host} will be picked.")
