"""What the tests need to know of each method that is not among the seven: one module per method.

A module enters what its method needs: a loop in float64 where the spec's formula is not enough
(:func:`~..reference.looped`), the same in operations of PyTorch (:func:`~..reference.written`),
parts that are layers of their own (:func:`~..families.extra`), checks that do not hold for it, with
the reason (:func:`~..families.unlike`), and at least four mistakes that the checks must find
(:func:`~..mutants.mutation`; of a convolution, :func:`~..convolutions.mistake`).
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
