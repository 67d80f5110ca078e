"""Licences of weights: from a hub's spelling to SPDX, and a loud no where they forbid what a pack is for."""

import sys

# Hub spelling (lower case) to SPDX, where they differ.
SPDX = {"mit": "MIT", "apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0",
        "openrail": "LicenseRef-openrail", "apple-amlr": "LicenseRef-apple-amlr",
        "apple-ascl": "LicenseRef-apple-ascl"}  # fmt: skip

# What each forbids, in words for the person who is about to build on it.
FORBIDS = {
    "LicenseRef-apple-amlr": "Apple's machine learning research licence: RESEARCH ONLY, no product and no service, "
    "commercial or not; MobileCLIP2's weights are under it",
    "CC-BY-NC": "no commercial use",
    "LicenseRef-unknown": "no licence is stated: without one nobody may use the weights at all",
}


def spdx(tag):
    """SPDX expression for a hub's licence tag."""
    if not tag or tag in ("other", "unknown"):
        return "LicenseRef-unknown"
    return SPDX.get(tag.lower(), tag.upper() if tag.lower().startswith("cc-") else tag)


def forbidden(licence):
    """What a licence forbids; None where nothing is known against it."""
    return next((words for start, words in FORBIDS.items() if licence.upper().startswith(start.upper())), None)


def insist(name, licence, accepted):
    """Ends the program unless a licence that forbids use was accepted by name.

    `accepted`: the SPDX expressions of --accept-licence.
    """
    words = forbidden(licence)
    if words is None:
        return
    line = "#" * 100
    print(f"{line}\n### {name}: {licence}\n### {words}\n{line}", file=sys.stderr)
    if licence not in accepted:
        sys.exit(f"{name}: not exported; if you may use it so, say --accept-licence {licence}, or --licence SPDX with "
                 "the licence that you have it under")  # fmt: skip
