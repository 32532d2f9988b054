"""The Keras trainer. Keras reads ``KERAS_BACKEND`` when it is imported; where it is not set, the backend is JAX."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
