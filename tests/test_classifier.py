"""``ImageClassifier`` by scikit-learn's own checks, and on digits."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import amla

TINY = {"epochs": 3, "search_epochs": 1, "width": 6, "options": {"threads": 1, "iterations": 1}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    list(estimator_checks_generator(amla.ImageClassifier(**TINY))),
    ids=lambda value: getattr(getattr(value, "func", None), "__name__", ""),
)
def test_scikit_learns_checks(estimator, check):
    if check.func.__name__ == "check_classifiers_train":  # it asks for accuracy: three epochs are too few
        estimator.set_params(epochs=60)
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def test_digits_with_names_and_images(digits):
    """Flat rows and images alike; classes are whatever the labels are."""
    rows, numbers = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[numbers]
    classifier = amla.ImageClassifier(epochs=30, width=12, options={"iterations": 1, "threads": 1})
    classifier.fit(rows[:1200].reshape(-1, 8, 8), names[:1200])
    assert list(classifier.classes_) == sorted(set(names))
    assert classifier.score(rows[1200:].reshape(-1, 8, 8), names[1200:]) > 0.85
    probabilities = classifier.predict_proba(rows[1200:1210].reshape(-1, 8, 8))
    assert probabilities.shape == (10, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-5)
    assert (classifier.result_.folder / "network.py").exists()


def test_a_fitted_one_travels(digits):
    rows, numbers = digits
    classifier = amla.ImageClassifier(**TINY).fit(rows[:300], numbers[:300])
    expected = classifier.predict_proba(rows[300:310])
    travelled = pickle.loads(pickle.dumps(classifier))
    folder = classifier.result_.folder
    del classifier
    assert not folder.exists()
    np.testing.assert_array_equal(travelled.predict_proba(rows[300:310]), expected)


def test_in_scikit_learns_own_search(digits):
    rows, numbers = digits
    grid = GridSearchCV(amla.ImageClassifier(**TINY), {"width": [6, 8]}, cv=2, error_score="raise")
    grid.fit(rows[:300], numbers[:300])
    assert grid.best_params_["width"] in (6, 8)
    assert len(cross_val_score(amla.ImageClassifier(**TINY), rows[:300], numbers[:300], cv=2)) == 2


def test_keeping_the_run(digits, tmp_path):
    rows, numbers = digits
    classifier = amla.ImageClassifier(**TINY, out=str(tmp_path / "run")).fit(rows[:300], numbers[:300])
    assert (tmp_path / "run" / "report.html").exists()
    assert classifier.result_.folder == tmp_path / "run"


def test_arrays_by_the_function(digits, tmp_path):
    rows, numbers = digits
    images = (rows[:400].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    found = amla.search(
        images, numbers[:400], epochs=2, search_epochs=1, width=6, iterations=1, threads=1, out=tmp_path / "run"
    )
    assert 0.0 <= found.test_accuracy <= 1.0
    assert found.predict_proba(images[:3, :, :, None]).shape == (3, 10)
    assert found.final.result.parameters > 0
