"""A task file of AMLA 0.x -> an experiment of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amla.errors import SpecError
from amla.spec import architecture as a
from amla.spec.amla0.keys import Keys, built, list_of
from amla.spec.amla0.network import STYLE, read_branches, read_head, read_network, read_stem, stem_width
from amla.spec.amla0.system import is_system
from amla.spec.amla0.training import read_training
from amla.spec.data import DatasetSpec
from amla.spec.experiment import ExperimentSpec
from amla.spec.training import Augmentation, Budget

#: Side in pixels of the images of data sets that AMLA 0.x knew, and how many classes they have.
_SIDES = {"cifar10": 32, "cifar100": 32}
_CLASSES = {"cifar10": 10, "cifar100": 100}
_NAMES = {"fashion_mnist": "fashion-mnist", "fashionmnist": "fashion-mnist"}

_IDLE = {
    "exec": "where trials run is --executor",
    "gpus": "a GPU is used where there is one",
    "gpu_usage": "memory is taken as it is needed",
    "log_stats": "statistics are taken where the search needs them",
    "eval_interval": "evaluations are placed so that they cost little",
    "train_dir": "the run's folder is --out",
}

Head = tuple[a.Step, ...]
#: Layers, blocks and iterations that a file may ask for at most: what the space and the searcher take.
MOST = 1000


def recognise(data: Any) -> str | None:
    """``task``, ``system``, or None where it is no file of AMLA 0.x."""
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("parameters"), Mapping):
        return "task"
    return "system" if is_system(data) else None


def convert(data: Any) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """The experiment that a task file asks for, and the warnings. Errors: ``SpecError`` naming the key."""
    warnings: list[str] = []
    keys = Keys(data, "", warnings)
    parameters = keys.group("parameters")
    mode = parameters.choose("mode", ("construct", "train", "oneshot"))
    algorithm = parameters.choose("algorithm", ("envelopenet", "random", "deterministic"))
    if (mode, algorithm) in (("construct", "deterministic"), ("train", "envelopenet"), ("train", "random")):
        raise SpecError(f"parameters.algorithm: {algorithm!r} cannot be had with mode {mode!r}")
    dataset, augmentation = _dataset(parameters)
    stem = read_stem(keys.group("init_cell"))
    head, classes = read_head(keys.group("classification_cell"))
    _check_classes(dataset, classes, keys)
    training = read_training(keys.group("child_training"), _whole(parameters, "batch_size"), augmentation)
    steps, iterations = _whole(parameters, "steps"), _whole(parameters, "iterations", 5)
    if iterations > MOST:
        raise SpecError(f"parameters.iterations: wanted a whole number from 1 to {MOST}, got {iterations}")
    found: dict[str, Any] = {"budget": Budget(steps=steps), "final_budget": Budget(steps=steps)}
    if algorithm == "deterministic":
        network = read_network(keys.group("arch"), stem, head)
        found |= {"searcher": "fixed", "settings": {"architecture": network.to_data()}}
        _unread(keys, ("envelopenet", "random", "skip"))
    elif algorithm == "envelopenet":
        found |= _envelopenet(keys, stem, head, mode, iterations)
    else:
        found |= _random(keys, stem, head, mode, iterations)
    name = parameters.take("arch_name", str, "task")
    for key, why in _IDLE.items():
        parameters.without_effect(key, why)
    parameters.leftover()
    keys.leftover()
    spec = ExperimentSpec.parse(
        {"name": name, "dataset": dataset.to_data(), "training": training.to_data()}
        | {key: value.to_data() if isinstance(value, Budget) else value for key, value in found.items()}
    )
    return spec, tuple(warnings)


def _dataset(keys: Keys) -> tuple[DatasetSpec, Augmentation]:
    """``image_size`` above the images' own side means padding and a random crop, as the original did for CIFAR-10 at 40."""
    given = keys.take("dataset", str)
    name = _NAMES.get(given, given)
    data_dir = keys.take("data_dir", str, "") or None
    size = _whole(keys, "image_size", _SIDES.get(name, 224))
    if name == "imagenet":
        keys.warn("dataset", "imagenet is read from a folder of class sub-folders (the original read TFRecords)")
        spec = built(keys.path, DatasetSpec, name=f"folder:{data_dir or '.'}", image_size=size)
        return spec, Augmentation(pad_crop=size // 8, flip=True)
    if not name:
        raise SpecError(f"{keys.at('dataset')}: wanted the name of a dataset, got ''")
    side = _SIDES.get(name)
    if side is None:
        return DatasetSpec(name=name, data_dir=data_dir), Augmentation()
    if size < side:
        return DatasetSpec(name=name, data_dir=data_dir, image_size=size), Augmentation()
    return DatasetSpec(name=name, data_dir=data_dir), Augmentation(pad_crop=(size - side) // 2, flip=size > side)


def _check_classes(dataset: DatasetSpec, classes: int | None, keys: Keys) -> None:
    if classes == 1001:
        keys.warn("classification_cell", "names 1001 classes, ImageNet's and one of background; the data's are taken")
    real = _CLASSES.get(dataset.plugin)
    if real is not None and classes != real:
        keys.warn("classification_cell", f"names {classes} classes; {dataset.name} has {real}, and so has the network")


def _space(keys: Keys, stages: int, stem: tuple[a.Step, ...], head: Head, skips: bool) -> dict[str, Any]:
    """What the envelope space is told, for either algorithm."""
    return {
        "width": stem_width(stem),
        "layers": list(_counts(keys, "layers_per_stage", stages)),
        "parameter_limits": list(_per_stage(keys, "parameter_limits", bool, stages, False)),
        "skips": skips,
        "stem": [step.to_data() for step in stem],
        "head": [step.to_data() for step in head],
        "style": STYLE.to_data(),
    }


def _envelopenet(keys: Keys, stem: tuple[a.Step, ...], head: Head, mode: str, iterations: int) -> dict[str, Any]:
    net = keys.group("envelopenet")
    stages = _whole(net, "stages")
    space = _space(net, stages, stem, head, _skip(keys, net))
    if not net.has("envelopecell"):
        raise SpecError("envelopenet.envelopecell: missing; wanted a group of branches")
    space["operations"] = [operation for _, operation in read_branches(net, "envelopecell")]
    _check_width(space, net.at("envelopecell"))
    most = _counts(net, "max_layers_per_stage", stages)
    construction = _per_stage(net, "construction", bool, stages, True)
    max_prune = net.take("max_filter_prune", int, 6)
    if max_prune < 0:
        raise SpecError(f"{net.at('max_filter_prune')}: wanted a whole number from 0 on, got {max_prune}")
    worst = net.take("worst_case", bool, False)
    space["max_layers"] = list(most)
    net.leftover()
    _unread(keys, ("arch", "random"))
    if mode == "oneshot":
        return {"searcher": "envelope", "space_settings": space}
    settings = {
        "mode": "afresh",
        "iterations": iterations,
        "criterion": "worst" if worst else "mean_square",
        "max_prune": max_prune,
        "construction": list(construction),
    }
    return {"searcher": "nac", "settings": settings, "space_settings": space}


def _random(keys: Keys, stem: tuple[a.Step, ...], head: Head, mode: str, iterations: int) -> dict[str, Any]:
    net = keys.group("random")
    stages = _whole(net, "stages")
    space = _space(net, stages, stem, head, _skip(keys, net))
    space["max_layers"] = space["layers"]
    if not net.has("blocks"):
        raise SpecError("random.blocks: missing; wanted a list of operations")
    space["operations"] = list(dict.fromkeys(operation for _, operation in read_branches(net, "blocks")))
    _check_width(space, net.at("blocks"))
    space["blocks"] = list(_counts(net, "num_blocks_per_stage", stages))
    for blocks, layers in zip(space["blocks"], space["layers"], strict=True):
        if blocks < layers:
            raise SpecError(f"{net.at('num_blocks_per_stage')}: {blocks} blocks cannot fill {layers} layers")
    net.leftover()
    _unread(keys, ("arch", "envelopenet"))
    found: dict[str, Any] = {"searcher": "random", "space_settings": space, "trials": iterations}
    if mode == "oneshot":  # drawn once; what counts is its training to the end
        found |= {"trials": 1, "budget": Budget(steps=1)}
    return found


def _skip(keys: Keys, net: Keys) -> bool:
    """``skip`` stands in the algorithm's group, or at the top in older files."""
    top = keys.take("skip", bool, False)
    return net.take("skip", bool, top)


def _per_stage(keys: Keys, key: str, kind: type[Any], stages: int, default: Any = None) -> tuple[Any, ...]:
    if not keys.has(key) and default is not None:
        return (default,) * stages
    values = list_of(keys.take(key, list), kind, keys.at(key))
    if len(values) < stages:
        raise SpecError(f"{keys.at(key)}: {len(values)} values for {stages} stages; give one a stage")
    if len(values) > stages:
        keys.warn(key, f"has {len(values)} values for {stages} stages: the last {len(values) - stages} have no effect")
    return values[:stages]


def _counts(keys: Keys, key: str, stages: int) -> tuple[int, ...]:
    """A list of layers or blocks, one number a stage."""
    values = _per_stage(keys, key, int, stages)
    for value in values:
        if not 1 <= value <= MOST:
            raise SpecError(f"{keys.at(key)}: wanted whole numbers from 1 to {MOST}, got {value}")
    return values


def _check_width(space: dict[str, Any], path: str) -> None:
    if space["width"] < len(space["operations"]):
        raise SpecError(
            f"{path}: {len(space['operations'])} branches cannot share the {space['width']} channels of init_cell"
        )


def _whole(keys: Keys, key: str, default: int | None = None) -> int:
    value = keys.take(key, int, default)
    if value < 1:
        raise SpecError(f"{keys.at(key)}: wanted a whole number from 1 on, got {value}")
    return value


def _unread(keys: Keys, names: tuple[str, ...]) -> None:
    for name in names:
        keys.without_effect(name, "the algorithm of this task does not read it")
