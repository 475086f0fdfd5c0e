"""What is in a worker's spool (contract/event.h): lines of JSON, and of scalars packed columns (contract/packed.h)."""
import json
import math
import struct

MARK = 1
NEWLINE = 10


def unstuff(data):
    out, at = bytearray(), 0
    while at < len(data):
        code = data[at] ^ NEWLINE
        out += data[at + 1:at + code]
        at += code
        if code < 255 and at < len(data):
            out.append(NEWLINE)
    return bytes(out)


def stuff(data):
    out, at = bytearray(), 0
    while True:
        end = data.find(b"\n", at, at + 254)
        part = data[at:end if end >= 0 else at + 254]
        out += bytes([(len(part) + 1) ^ NEWLINE]) + part
        at += len(part) + (end >= 0)
        if end < 0 and at == len(data):
            return bytes(out)


def unpack(line):
    """The line's event, as its line of JSON would be."""
    data = unstuff(line[1:])
    seq, rows, columns = struct.unpack_from("<QII", data)
    numbers = [struct.unpack_from(f"<{rows}{kind}", data, 16 + 8 * rows * i) for i, kind in enumerate("qq" + "d" * columns)]
    names = data[16 + 8 * rows * (columns + 2):].decode().split("\0")[:columns]
    values = [[v if math.isfinite(v) else "NaN" if math.isnan(v) else "Infinity" if v > 0 else "-Infinity" for v in c] for c in numbers[2:]]
    return {"seq": seq, "type": "scalars", "step": list(numbers[0]), "time_ms": list(numbers[1]), "columns": dict(zip(names, values))}


def pack(event):
    rows, columns = len(event["step"]), event["columns"]
    data = struct.pack("<QII", event["seq"], rows, len(columns)) + struct.pack(f"<{2 * rows}q", *event["step"], *event["time_ms"])
    data += b"".join(struct.pack(f"<{rows}d", *values) for values in columns.values()) + b"".join(n.encode() + b"\0" for n in columns)
    return bytes([MARK]) + stuff(data) + b"\n"


def lines(data):
    """The events of whole lines."""
    return [unpack(line) if line[:1] == bytes([MARK]) else json.loads(line) for line in data.split(b"\n")[:-1]]


def read(path):
    with open(path, "rb") as f:
        return lines(f.read())
