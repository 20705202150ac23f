"""The busy loop of the blogs, with the comparison's model."""

from loadtests.baselines.busyloop import BusyLoop, create_app
from loadtests.baselines.model import serve
from loadtests.peers.model import load
from loadtests.peers.options import Options

if __name__ == "__main__":
    options = Options.from_environment()
    loop = BusyLoop(load(options), options.max_batch, options.max_wait_ms / 1000)
    loop.start()
    serve(create_app(loop), options.port)
