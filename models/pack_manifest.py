"""Writing pack.toml from Python: whole sections, and the entry of each file."""

import hashlib
import re

ENTRY = """[files."{name}"]
sha256 = "{sha256}"
size = {size}
licence = "{licence}"
provenance = "{provenance}"
"""


def sections(text):
    """The text cut before every line that begins a table; the first piece may be a preamble."""
    return re.split(r"(?m)^(?=\[)", text)


def put(text, header, body):
    """Replaces the section that begins with `header`, or puts it before the files' entries."""
    parts = sections(text)
    body = body.rstrip("\n") + "\n\n"
    for at, part in enumerate(parts):
        if part.startswith(header):
            parts[at] = body
            break
    else:
        first = next((at for at, part in enumerate(parts) if part.startswith("[files.")), len(parts))
        at = len(parts) if header.startswith("[files.") else first
        parts.insert(at, body)
    return "".join(part if part.endswith("\n\n") else part.rstrip("\n") + "\n\n" for part in parts).rstrip("\n") + "\n"


def put_file(text, folder, name, provenance, licence="Apache-2.0"):
    """Puts the entry of a file that lies in the pack's folder."""
    content = (folder / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    entry = ENTRY.format(name=name, sha256=digest, size=len(content), licence=licence, provenance=provenance)
    return put(text, f'[files."{name}"]', entry)
