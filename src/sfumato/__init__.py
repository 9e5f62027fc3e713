"""Sfumato: train, sample, measure and explore latent-variable generative models on your own data.

    import sfumato
    run = sfumato.train("diffusevae", "digits", budget=sfumato.Budget(hours=0.05))
    run.sample(64, seed=0)                      # uint8 array (64, 8, 8)
    sfumato.evaluate(run)                       # metrics, each with its protocol
    sfumato.likelihood(run, ["scans/"])         # bits per dimension of images, and how unusual they are

The package is a house of floors; a file imports only from lower floors (docs/architecture.md).
Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "Run",
    "__version__",
    "compare",
    "distill",
    "doctor",
    "evaluate",
    "likelihood",
    "open",
    "recipes",
    "train",
]

if TYPE_CHECKING:
    from .app.compare import compare
    from .app.distill import distill
    from .app.doctor import doctor
    from .app.evaluate import evaluate
    from .app.likelihood import likelihood
    from .app.run import Run
    from .app.run import open_run as open
    from .app.train import Budget, train

_HOME = {
    "Budget": ("app.train", "Budget"),
    "Run": ("app.run", "Run"),
    "open": ("app.run", "open_run"),
    "train": ("app.train", "train"),
    "distill": ("app.distill", "distill"),
    "doctor": ("app.doctor", "doctor"),
    "evaluate": ("app.evaluate", "evaluate"),
    "likelihood": ("app.likelihood", "likelihood"),
    "compare": ("app.compare", "compare"),
    "recipes": ("recipes", None),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sfumato' has no attribute '{name}'")
    import importlib

    module, attribute = _HOME[name]
    found = importlib.import_module(f".{module}", __name__)
    return found if attribute is None else getattr(found, attribute)
