"""Synthetic adherent cells with a known truth: refractive index, brightfield z-stack, three stains, labels.

>>> from virtualstain.phantom import PhantomSettings, make_phantom
>>> phantom = make_phantom(PhantomSettings(shape=(8, 64, 64)), seed=1)
>>> phantom.brightfield.shape, sorted(phantom.noise_free)
((8, 64, 64), ['brightfield', 'hoechst', 'membrane', 'mitochondria'])
"""

from __future__ import annotations

from virtualstain.phantom.settings import PhantomSettings
from virtualstain.phantom.synthesis import Phantom, make_phantom

__all__ = ["Phantom", "PhantomSettings", "make_phantom"]
