"""The start: settings, the listening socket, and then one process or several. Owns exit codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service import arguments as flags
from service.edge.sockets import listen
from service.placement.layout import lay_out
from service.placement.replica_count import Refused
from service.processes import exit_codes as exits
from service.processes.terminal import complain, log_to_stderr
from service.processes.topology import Topology
from service.settings import BadSetting
from service.version import version

_log = logging.getLogger("service")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = vars(flags.parser().parse_args(arguments))
    print_config = options.pop("print_config")
    try:
        settings = flags.load(options)
        topology = Topology.of(settings)
    except BadSetting as error:
        complain(error)
        return exits.BAD_SETTING
    if print_config:
        print("\n".join(flags.effective(settings, options)))
    else:
        log_to_stderr()
        changed = ", ".join(flags.changed(settings, options)) or "all at their defaults"
        _log.info("batcher %s starts; settings: %s", version(), changed)
        for line in flags.warnings_of(settings):
            _log.warning("%s", line)
    try:
        layout = lay_out(settings)
    except Refused as error:
        complain(error)
        return exits.NO_MODEL
    if print_config:
        print("\n".join(layout.lines()))
        return exits.OK
    for line in (*layout.lines(), *layout.remarks):
        _log.info("%s", line)
    try:
        listener = listen(settings)
    except BadSetting as error:
        complain(error)
        return exits.BAD_SETTING
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        complain(f"cannot listen on {where}: {error.strerror or error}")
        return exits.NO_PORT
    if topology.is_alone:
        from service.processes import single as alone

        return alone.run(settings, listener, layout)
    from service.processes import supervisor

    return supervisor.run(settings, listener, layout, topology)
