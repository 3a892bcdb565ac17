"""``python -m aya_lib.embedding --site lab --node ALPHA``: run the service in the foreground."""

from __future__ import annotations

import argparse
import sys

from aya_lib.errors import AyaError
from aya_lib.site import load_site


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aya_lib.embedding", description=__doc__)
    parser.add_argument("--site", default="lab", help="name of the site, or its site.yaml (default: lab)")
    parser.add_argument("--node", default="ALPHA", help="the node it runs on (default: ALPHA)")
    chosen = parser.parse_args()
    try:
        site = load_site(chosen.site)
        from aya_lib.embedding.service import serve

        serve(site, chosen.node)
    except AyaError as error:
        print(f"aya: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
