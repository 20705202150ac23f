"""The HTTP microservice around the engine: `python -m service`.

The folders, each above those that it imports:

repository/, cache/     models on disk; what a start has found out, kept for the next
tasks/, placement/, http/   input → ModelInput, value → result; replicas and their devices; requests
models/, catalog.py     the worker's side, which runs the model; what is served, by name
inference/, state.py    one call through task and engine; what the endpoints share
api/, edge/, app.py     one file a wire protocol; sockets and HTTP parsing; the routing table
processes/, main.py     one process or several, from load to drain

docs/architecture.md has the path of a request, in five files.
"""
