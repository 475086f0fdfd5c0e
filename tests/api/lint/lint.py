#!/usr/bin/python3
"""lint.py NODE FOLDER: whether redocly, which npm installed in FOLDER, finds an error in /openapi.json; 77: it is not there, or
this Node.js is too old for it."""
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from conftest import Server  # noqa: E402

node, folder = sys.argv[1], pathlib.Path(sys.argv[2])
program = folder / "node_modules/@redocly/cli/bin/cli.js"
version = tuple(int(x) for x in re.findall(r"\d+", subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout)[:2])
if not program.exists() or version < (20, 19):
    print("redocly is not installed, or this Node.js is too old for it")
    sys.exit(77)
with tempfile.TemporaryDirectory() as temporary:
    server = Server(pathlib.Path(temporary))
    document = pathlib.Path(temporary) / "openapi.json"
    document.write_text(server.get("/openapi.json").text)
    server.close()
    p = subprocess.run([node, program, "lint", document, "--format=stylish", "--skip-rule=info-license"], capture_output=True, text=True, check=False, timeout=120,
                       env={"PATH": "/usr/bin:/bin", "HOME": temporary, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"})
print(p.stdout, p.stderr)
sys.exit(p.returncode or "warning" in p.stdout)
