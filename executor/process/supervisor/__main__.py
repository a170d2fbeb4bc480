"""Where the supervisor starts: ``python -I -S __main__.py LOCK_FILE PATIENCE ORDERS_FD``.

On its path is the standard library alone. It adds the folder that has the package `executor`, as the last one: nothing
that lies beside the package can stand in for a module of the standard library.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.abspath(f"{__file__}/../../../.."))
    from executor.process.supervisor.server import main

    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
