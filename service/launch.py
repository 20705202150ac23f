"""The start: settings, the listening socket, and then one process or several. Owns exit codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service import exits, flags
from service import settings as table
from service.listening import listen
from service.placing import lay_out
from service.replicas import Refused
from service.terminal import complain, log_to_stderr
from service.topology import Topology

_log = logging.getLogger("service")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = vars(flags.parser().parse_args(arguments))
    print_config = options.pop("print_config")
    try:
        settings = table.load(options)
        topology = Topology.of(settings)
    except table.BadSetting as error:
        complain(error)
        return exits.BAD_SETTING
    effective = table.effective(settings, options)
    if print_config:
        print("\n".join(effective))
    else:
        log_to_stderr()
        _log.info("configuration: %s", "  ".join(effective))
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
    except table.BadSetting as error:
        complain(error)
        return exits.BAD_SETTING
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        complain(f"cannot listen on {where}: {error.strerror or error}")
        return exits.NO_PORT
    if topology.is_alone:
        from service import alone  # the supervisor needs none of what this brings in

        return alone.run(settings, listener, layout)
    from service import supervisor

    return supervisor.run(settings, listener, layout, topology)
