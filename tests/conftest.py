"""What all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
# XLA then compiles these tiny networks in half the time; read when JAX is first imported.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# Tests must not depend on the machine: no deadlines, and the same examples every time.
hypothesis.settings.register_profile("amla", deadline=None, derandomize=True, max_examples=25, print_blob=True)
hypothesis.settings.load_profile("amla")


@pytest.fixture
def golden() -> Callable[[Path, str], None]:
    """Compare text with a file; AMLA_UPDATE_GOLDEN=1 writes it anew."""

    def compare(path: Path, text: str) -> None:
        if os.environ.get("AMLA_UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, f"{path} differs; AMLA_UPDATE_GOLDEN=1 writes it anew"

    return compare


@pytest.fixture(scope="session")
def task_files() -> Path:
    """Task files of AMLA 0.x, where they are at hand."""
    folder = ROOT.parent / "shared" / "data" / "amla-configs"
    if not folder.is_dir():
        pytest.skip("the task files of AMLA 0.x are not at hand")
    return folder
