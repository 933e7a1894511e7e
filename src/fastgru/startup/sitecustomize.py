"""What Python runs at its start where this folder is on PYTHONPATH: a process that a program of `fastgru run` starts.

A sitecustomize that is there anyway runs as it would have.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
_this = sys.modules.pop("sitecustomize")
try:
    import_module("sitecustomize")
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = _this  # as the import that is under way expects
if find_spec("fastgru") is not None:  # the program may start another Python
    from fastgru.launch import begin_child

    begin_child()
