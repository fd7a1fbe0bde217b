"""LightGBM without the packages that it imports only if they are installed.

An MLflow server needs scikit-learn and pandas, so they are there on a machine that runs everything. LightGBM would load
them for interfaces that Tandem does not use, and that takes thirty times as long as LightGBM itself.
"""

import sys

__all__ = ["lgb"]

_hidden = [name for name in ("pandas", "sklearn") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_hidden))  # type: ignore[arg-type]  # None means that the import fails
try:
    import lightgbm as lgb
finally:
    for _name in _hidden:
        del sys.modules[_name]
