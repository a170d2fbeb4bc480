"""Entry point of the supervisor: ``python -I -S __main__.py LOCK_FILE PATIENCE ORDERS_FD``.

Its path contains only the standard library. It appends the parent folder of the package `executor`, so nothing beside
the package can replace a module of the standard library.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.abspath(f"{__file__}/../../../.."))
    from executor.process.supervisor.server import main

    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
