"""``ImageClassifier``: a search behind scikit-learn's conventions."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import psutil
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from amla.api import SearchResult, make_trainer, search
from amla.datasets.base import Images
from amla.errors import DataError
from amla.exporters.folder import load_model


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Constructs a network for images and classifies with it.

    ``X``: images (n, height, width) or (n, height, width, channels), or flat (n, height * width) where that is a square
    (any flat length n_features is taken as one row of pixels otherwise). Parameters are the options of ``amla search``;
    ``options`` takes any other by its name. ``out`` keeps the run's folder; else it goes with the object.
    After ``fit``: ``classes_``, ``result_`` (a ``SearchResult``), ``model_`` and ``weights_`` (the network, so that a
    fitted classifier can be pickled), ``n_features_in_``.
    """

    def __init__(  # noqa: PLR0913  # scikit-learn wants every parameter by its name
        self,
        *,
        searcher: str = "nac",
        time_budget: float | str | None = None,
        epochs: float | None = None,
        search_epochs: float | None = None,
        width: int | None = None,
        random_state: int = 0,
        out: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.searcher = searcher
        self.time_budget = time_budget
        self.epochs = epochs
        self.search_epochs = search_epochs
        self.width = width
        self.random_state = random_state
        self.out = out
        self.options = options

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Search, train, test. Errors: ``ValueError`` on what scikit-learn would not accept, ``AmlaError`` else."""
        given = _dense(X)
        images, labels = check_X_y(given, y, allow_nd=True, dtype=None if given.dtype == np.uint8 else "numeric")
        validate_data(self, images.reshape(len(images), -1), skip_check_array=True)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        folder = Path(self.out or tempfile.mkdtemp(prefix="amla-"))
        if not self.out:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        chosen: dict[str, Any] = {
            "searcher": self.searcher,
            "time_budget": self.time_budget,
            "epochs": self.epochs,
            "search_epochs": self.search_epochs,
            "width": self.width,
            "seed": int(self.random_state or 0),
            # not measured, so that the same ``random_state`` gives the same classifier
            "precision": "float32",
            "threads": psutil.cpu_count(logical=False) or 1,
            **(self.options or {}),
        }
        names = np.array([f"{number:09d}" for number in numbers])  # text that sorts as the classes do
        self.result_: SearchResult = search(
            _as_images(images),
            names,
            store=f"sqlite:///{folder / 'amla.db'}",
            out=folder,
            **chosen,
        )
        self.model_, self.weights_ = load_model(folder)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Class probabilities (n, classes), in the order of ``classes_``."""
        check_is_fitted(self)
        given = _dense(X)
        checked = validate_data(
            self,
            given if given.ndim < 3 else given.reshape(len(given), -1),
            reset=False,
            dtype=None if given.dtype == np.uint8 else "numeric",
        )
        images = self._like_training(_as_images(checked if given.ndim < 3 else given))
        graph = self.model_.graph().inference()
        return make_trainer(self.result_.experiment.spec.trainer_of("final")).predict(
            graph, self.weights_, self.model_.data, images
        )

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The most probable class of each image."""
        best = self.predict_proba(X).argmax(1)
        chosen: npt.NDArray[Any] = self.classes_[best]
        return chosen

    def _like_training(self, images: npt.NDArray[Any]) -> Images:
        """Images in the shape and on the scale on which the network was trained."""
        data = self.model_.data
        if images.ndim == 3:
            images = images[:, :, :, None]
        if images.shape[1:] != data.shape:
            raise DataError(f"images of shape {images.shape[1:]}, fitted on {data.shape}")
        if data.dtype == "uint8":
            return np.asarray(np.clip(np.rint(images), 0, 255), np.uint8)
        return np.asarray(images, np.float32)


def _dense(X: npt.ArrayLike) -> npt.NDArray[Any]:
    """``X`` as an array. Errors: ``TypeError``, in scikit-learn's words, where it is sparse."""
    return check_array(X) if issparse(X) else np.asarray(X)


def _as_images(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flat rows as square images where their length is a square, else as images of one row."""
    if values.ndim != 2:
        return values
    side = round(values.shape[1] ** 0.5)
    if side * side == values.shape[1]:
        return values.reshape(len(values), side, side)
    return values.reshape(len(values), 1, values.shape[1])
