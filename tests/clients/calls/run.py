"""Runs one file of calls in its own environment: `python run.py FILE '{MODEL: URL}' [CALL …]`.

Prints one JSON line for each function of the file that has no underscore before its name: what it
returned, as test_calls.py compares it, or the exception that ended it.
"""

import json
import runpy
import sys
import traceback
from pathlib import Path


def main() -> None:
    file, urls = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.path.insert(0, str(file.parent))
    for name, call in list(runpy.run_path(str(file)).items()):
        if name.startswith("_") or getattr(call, "__module__", "") != "<run_path>":
            continue
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        try:
            said = {"told": call(urls)}
        except Exception:
            said = {"raised": traceback.format_exc()}
        print(json.dumps({"call": name, **said}, default=_plain), flush=True)


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else list(value)


main()
