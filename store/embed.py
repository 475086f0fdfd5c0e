"""Migrations as C strings: embed.py OUT 0001_a.sql 0002_b.sql .."""
import json
import sys

out, *files = sys.argv[1:]
with open(out, "w") as f:
    f.write("/* made from store/schema/ */\n#pragma once\n\nstatic const char *const schema_texts[] = {\n")
    for name in files:
        with open(name) as sql:
            f.write("".join(f"        {json.dumps(line)}\n" for line in sql) + "        ,\n")
    f.write("};\n")
