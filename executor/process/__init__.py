"""Child processes, files and locks."""

import sys

# The package `executor` of PyPI has an `__init__` that imports a module of this name. If it was installed over ours,
# only this module can still report that.
if not hasattr(sys.modules["executor"], "DISTRIBUTION"):
    raise ImportError(
        f"{sys.modules['executor'].__file__} belongs to another package called executor, which was installed over "
        "make-for-milestones; use separate environments: pip uninstall executor, then "
        "pip install --force-reinstall make-for-milestones"
    )
