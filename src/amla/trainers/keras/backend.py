"""What Keras leaves to its backend: compiling a function, and gradients. All else is ``keras.ops``."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from amla.errors import PluginError

BACKENDS = ("jax", "tensorflow")
Function = Callable[..., Any]
#: How JAX compiles for a CPU. With XLA's own choice, the step of a small network took 6.6 s to compile and 36 ms to run; so,
#: 3.1 s and 29 ms.
ON_CPU: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}


def name() -> str:
    """The backend that Keras runs on. Errors: ``PluginError`` for one that this trainer does not know."""
    found: str = keras.config.backend()
    if found not in BACKENDS:
        raise PluginError(f"the trainer 'keras' runs on {' or '.join(BACKENDS)}, not on {found!r}: set KERAS_BACKEND")
    return found


def compiled(function: Function) -> Function:
    """The function, compiled by XLA on its first call for every new shape. What ``XLA_FLAGS`` says goes before."""
    if name() == "jax":
        import jax

        said = os.environ.get("XLA_FLAGS", "")
        options = {key: value for key, value in ON_CPU.items() if key not in said} if on_cpu() else {}
        return jax.jit(function, compiler_options=options)
    import tensorflow as tf

    return tf.function(function, jit_compile=True, reduce_retracing=False)  # type: ignore[no-any-return]


def gradients(function: Function) -> Function:
    """From f(weights, *rest) -> (loss, other) to ((loss, other), gradients shaped as the weights, zero where unconnected)."""
    if name() == "jax":
        import jax

        return jax.value_and_grad(function, has_aux=True)
    import tensorflow as tf

    @functools.wraps(function)
    def both(weights: Any, *rest: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, other = function(weights, *rest)
        return (loss, other), tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return both


def numpy(value: Any) -> npt.NDArray[Any]:
    """A backend's tensor as an array of its own."""
    # a variable itself is no array to numpy 2
    return np.array(keras.ops.convert_to_numpy(value.value if isinstance(value, keras.Variable) else value))


def device() -> str:
    """For people: the GPU's name, or the CPU."""
    if name() == "jax":
        import jax

        first = jax.devices()[0]
        return "CPU, XLA" if first.platform == "cpu" else str(first.device_kind)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return "CPU, XLA" if not gpus else str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))


def on_cpu() -> bool:
    return device().startswith("CPU")


def failures() -> tuple[type[Exception], ...]:
    """What the backend raises where a program cannot run."""
    if name() == "jax":
        import jax

        return (jax.errors.JaxRuntimeError,)
    import tensorflow as tf

    return (tf.errors.OpError,)


def lacks_memory(error: Exception) -> bool:
    """Whether such an error says that there is not enough memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "OOM when allocating" in str(error)
