"""Child processes, files, locks."""

import sys

# The package `executor` of PyPI has an `__init__` that imports a module of this name. Where it was installed over ours,
# this is the only place that can still say so.
if not hasattr(sys.modules["executor"], "DISTRIBUTION"):
    raise ImportError(
        f"{sys.modules['executor'].__file__} belongs to another package called executor, which was installed over "
        "make-for-milestones; use one environment for each: pip uninstall executor, then "
        "pip install --force-reinstall make-for-milestones"
    )
