"""From one knee radiograph to a knee MRI volume."""

import importlib
import pkgutil

from bundle.api import load, synthesise

__all__ = ["load", "synthesise"]

__version__ = "0.1.0"

# Configs say "$import bundle" and nothing finer, so every submodule is imported here.
for _module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
