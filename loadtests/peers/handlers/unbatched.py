"""The baseline without batching, with the comparison's model."""

from loadtests.baselines.model import serve
from loadtests.baselines.unbatched import create_app
from loadtests.peers.model import load
from loadtests.peers.options import Options

if __name__ == "__main__":
    options = Options.from_environment()
    serve(create_app(load(options)), options.port)
