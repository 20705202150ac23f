"""One call through task and engine, whatever the protocol and the task; knows no HTTP."""
