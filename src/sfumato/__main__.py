"""The command `sfumato`: run a verb, and turn whatever goes wrong into one clear message and an exit code.

    0 ok   1 a bug of ours   2 usage   3 data   4 file refused   5 storage   6 diverged
    7 worker or rank   8 busy   9 memory   130 interrupted   143 terminated

No traceback unless --debug is given; a bug (code 1) alone prints one, and says where it was written.
"""

from __future__ import annotations

import os
import sys

# Threads that spin while they wait take the processor from the very thread they wait for as soon as
# another program runs. A training step on digits, two cores, on average: alone 59 ms with this setting and
# 57 without, beside two busy programs 140 and 500. It must stand before torch is loaded; results do not
# depend on it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def main() -> None:
    """Entry point of the console script and of `python -m sfumato`."""
    from .app.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
