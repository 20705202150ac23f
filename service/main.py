"""The start: settings, the listening socket, and then one process or several. Owns exit codes."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence

from service import arguments as flags
from service.edge.certificate import Certificate
from service.edge.sockets import listen
from service.edge.unix_socket import SocketFile
from service.models.own.find import RunnerNotFound, check_module
from service.observability.logs import LogOptions, start_logging
from service.placement.layout import Layout, plan_layout
from service.placement.replica_count import Refused
from service.processes import exit_codes as exits
from service.processes.terminal import print_error, print_page
from service.processes.topology import Topology
from service.settings import BadSetting, Settings
from service.version import VERSION

_log = logging.getLogger("service")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = flags.parse(arguments)
    print_config = options.pop("print_config")
    try:
        settings = flags.load(options)
        topology = Topology.of(settings)
        certificate = Certificate.of(settings)
        if settings.root_path is not None:
            from service.app import check_root_path  # only then: it imports every route

            check_root_path(settings)
    except BadSetting as error:
        print_error(error)
        return exits.BAD_SETTING
    try:
        check_module(settings.runner)
    except RunnerNotFound as error:
        print_error(error)
        return exits.NO_MODEL
    if print_config:
        print_page("\n".join(flags.effective(settings, options)))
    else:
        start_logging(LogOptions(settings.log_level, settings.log_format))
        changed = ", ".join(flags.changed(settings, options)) or "all at their defaults"
        _log.info("batcher %s starts; settings: %s", VERSION, changed)
        for line in flags.warnings_of(settings):
            _log.warning("%s", line)
    try:
        layout = plan_layout(settings)
    except Refused as error:
        print_error(error)
        return exits.NO_MODEL
    if print_config:
        print_page("\n".join(layout.lines()))
        return exits.OK
    for line in (*layout.lines(), *layout.notes):
        _log.info("%s", line)
    try:
        listener = listen(settings)
    except BadSetting as error:
        print_error(error)
        return exits.BAD_SETTING
    except OSError as error:
        where = settings.unix_socket or f"{settings.host}:{settings.port}"
        print_error(f"cannot listen on {where}: {error.strerror or error}")
        return exits.NO_PORT
    file = SocketFile.of(listener)
    try:
        return _serve(settings, listener, layout, topology, certificate)
    finally:
        if file is not None:
            file.remove()


def _serve(
    settings: Settings,
    listener: socket.socket,
    layout: Layout,
    topology: Topology,
    certificate: Certificate | None,
) -> int:
    """Returns the exit code."""
    log_address(settings, listener)
    if topology.is_alone:
        from service.processes import single

        return single.run(settings, listener, layout, certificate)
    from service.processes import supervisor

    return supervisor.run(settings, listener, layout, topology, certificate)


def log_address(settings: Settings, listener: socket.socket) -> None:
    if settings.unix_socket is not None:
        _log.info("listening on the unix socket %s; loading the model", settings.unix_socket)
        return
    address, port = listener.getsockname()[:2]
    _log.info("listening on %s port %d; loading the model", address, port)
    if settings.api_key is None and not ipaddress.ip_address(address).is_loopback:
        _log.warning(
            "BATCHER_HOST=%s without BATCHER_API_KEY: anyone who can reach this address can use the"
            " service",
            settings.host,
        )
