"""The classifier that judges: class of an image, and the features in which sets of images are compared.

    logits = model(x)  (B, classes)        model.features(x)  (B, D) in (-1, 1)

Trained by the `classifier` recipe on the user's own data, it is a model like any other: its run folder is
what `evaluate` reads it from. The network, which is all of it, is described in nets/critic.py.
"""

from ..nets.critic import Classifier

__all__ = ["Classifier"]
