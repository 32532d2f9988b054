"""What a Katib Experiment asks for: its message -> searcher, problem and how the suggestions are to be made.

Algorithm settings are texts. Their names are the options of ``amla search`` (with underscores), any key of an experiment
file with dots (``training.batch_size``), the searcher's own settings by their bare names, and ``OWN``; values are YAML.
Nothing is looked up elsewhere: the same message gives the same setup on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import Field, JsonValue

from amla import registry
from amla.engine.options import SHORT, spec_of, with_settings
from amla.engine.prepare import check_problem, problem_of
from amla.engine.rehearsal import make_searcher, rehearse
from amla.errors import AmlaError, ConfigError
from amla.searchers.base import Searcher
from amla.services.katib import parameters, slots
from amla.spec.base import Document
from amla.spec.data import DatasetInfo
from amla.spec.experiment import ExperimentSpec, Limits, Metric, Objective, Problem
from amla.spec.trial import Trial

#: What a trial prints -> our figure of it. The first is the objective where an Experiment names none.
FIGURES: dict[str, Metric] = {
    "valid_accuracy": "accuracy",
    "parameters": "parameters",
    "flops": "flops",
    "size_mb": "size_mb",
    "latency_ms": "latency_ms",
}
#: Katib's name of an operation type -> our space. Any other is the name of a space.
SPACES = {"envelopenet": "envelope"}
#: Keys of an experiment file that mean nothing in Katib, and what does instead.
ELSEWHERE = {
    "time_budget": "Katib has no clock; set search_epochs and epochs",
    "exact_time": "Katib has no clock; set search_epochs and epochs",
    "executor": "Katib runs the trials",
    "jobs": "it is the Experiment's parallelTrialCount",
    "deterministic": "the order in which Katib's trials end is not known",
    "hyperparameters": "they are the Experiment's parameters",
}
#: The longest name that a Deployment called after Experiment and algorithm leaves, and those that Katib has taken.
LONGEST = 22
TAKEN = frozenset({"random", "tpe", "enas", "darts", "grid", "sobol", "cmaes", "hyperband", "pbt"})


class Own(Document):
    """Settings of the service itself."""

    train_size: int = Field(ge=1, description="training images: what an epoch is")
    flip: bool = Field(False, description="whether a mirrored image still shows the same thing")
    input_sizes: tuple[int, int, int] | None = Field(
        None, description="height, width, channels of an image, where there is no nasConfig that says so"
    )
    output_sizes: tuple[int, ...] | None = Field(None, description="the number of classes, where no nasConfig says so")
    chains: int = Field(1, ge=1, le=1000, description="searches with other seeds that are advanced evenly")
    chain_criteria: tuple[str, ...] = Field((), description="of nac: criteria of the chains after the first, in turn")
    artifacts: str | None = Field(None, description="URL that all trials reach: they inherit weights by it")
    final: bool = Field(True, description="whether a search ends with the training of its network to the end")


class Setup(Document):
    """An Experiment, understood."""

    name: str
    spec: ExperimentSpec
    problem: Problem
    own: Own
    figure: str = Field(description="the objective, as trials print it")
    hyperparameters: dict[str, parameters.Texts] = Field({}, description="options of choices, as Katib spells them")

    @property
    def fingerprint(self) -> str:
        """Tells trials of this search from others'. How many trials there are may change while it runs."""
        told = self.problem.model_copy(update={"trials": None}).to_data()
        known = [told, self.spec.searcher, self.spec.settings, self.own.artifacts]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:10]

    def searcher(self, chain: int = 0) -> Searcher[Any]:
        """The searcher of a chain, which has seen nothing. The first is that of ``amla search`` with these settings."""
        spec, criteria = self.spec, self.own.chain_criteria
        if chain and criteria:
            criterion = criteria[(chain - 1) % len(criteria)]
            spec = spec.model_copy(update={"settings": {**spec.settings, "criterion": criterion}})
        return make_searcher(spec, self.problem_of(chain))

    def problem_of(self, chain: int) -> Problem:
        """Chain n has the seed n above that of the first."""
        return self.problem.model_copy(update={"seed": self.problem.seed + chain})

    def rehearsal(self) -> list[Trial]:
        """The search on made-up results, without limits: no real one has networks of more blocks."""
        boundless = self.problem.model_copy(update={"limits": Limits()})
        return rehearse(make_searcher(self.spec, boundless), boundless, most=RECITED)

    def slots(self) -> int:
        """How many numbers a trial of this search sends at most, besides its figures."""
        searcher = self.searcher()
        if not searcher.reads and searcher.procedures <= {"train"}:
            return 0
        return max(len(slots.places(trial.spec, searcher.reads, self.problem)) for trial in self.rehearsal())


#: Trials of a rehearsal at most: those who send statistics have few, or all of one kind.
RECITED = 300


# ----------------------------------------------------------------------------------------------------------------- names
def algorithm_name(searcher: str) -> str:
    """A searcher's name in Katib: a DNS label that Katib's own services have not. Errors: ``ConfigError`` (too long)."""
    name = searcher.replace("_", "-")
    name = f"amla-{name}" if name in TAKEN else name
    if len(name) > LONGEST or not all(part.isalnum() for part in name.split("-")):
        raise ConfigError(f"searcher: {searcher!r} makes no algorithm name of at most {LONGEST} letters")
    return name


def searcher_of(algorithm: str) -> str:
    """The searcher that an algorithm's name picks. Errors: ``ConfigError``."""
    name = algorithm.removeprefix("amla-").replace("-", "_")
    known = registry.names("searchers")
    if name not in known:
        names = ", ".join(other.replace("_", "-") for other in known)
        raise ConfigError(f"algorithmName: no searcher is called {algorithm!r}; there are {names}")
    return name


# --------------------------------------------------------------------------------------------------------------- reading
def setup_of(experiment: Any) -> Setup:
    """The setup of a message ``Experiment``. Errors: ``AmlaError`` in one line that names the setting."""
    spec = experiment.spec
    searcher = searcher_of(spec.algorithm.algorithm_name)
    said = [(setting.name, setting.value) for setting in spec.algorithm.algorithm_settings]
    own, options = _sorted_out(dict(said), searcher)
    shape, classes = _sizes(spec.nas_config.graph_config, own)
    _with_space(options, spec.nas_config)
    hyperparameters, texts = parameters.read(spec.parameter_specs.parameters)
    figure, objectives = _objectives(spec.objective, options.pop("objectives", None))
    options |= {"searcher": searcher, "hyperparameters": hyperparameters, "objectives": objectives}
    options.setdefault("dataset", "katib")
    if searcher == "nac" and own.artifacts is None:  # nothing to inherit by
        options.setdefault("settings", {}).setdefault("mode", "afresh")
    asked = spec_of(options)
    plain = registry.load("searchers", searcher)
    if asked.trials is None and spec.max_trial_count > 1 and not plain.sequential and plain.procedures == {"train"}:
        asked = asked.model_copy(update={"trials": spec.max_trial_count - (1 if own.final else 0)})
    problem = problem_of(asked, _info(own, shape, classes))
    return Setup(name=experiment.name, spec=asked, problem=problem, own=own, figure=figure, hyperparameters=texts)


def check(experiment: Any) -> Setup:
    """The setup, everything looked at that can be wrong with it before a trial runs. Errors: ``AmlaError``."""
    setup = setup_of(experiment)
    check_problem(registry.load("searchers", setup.spec.searcher), setup.spec.searcher, setup.problem)
    if setup.own.chain_criteria and setup.spec.searcher != "nac":
        raise ConfigError("chain_criteria: only 'nac' has criteria; leave it out")
    for chain in range(1 + len(setup.own.chain_criteria)):
        setup.searcher(chain)
    if experiment.spec.early_stopping.algorithm_name:
        check_stopping(setup)
    needed = setup.slots()
    declared = sum(slots.is_slot(name) for name in experiment.spec.objective.additional_metric_names)
    if declared < needed:
        raise ConfigError(
            f"additionalMetricNames: {declared} of the {needed} statistics slots that this search needs are declared "
            f"({slots.name(0)} ... {slots.name(needed - 1)}); `amla katib experiment` writes them"
        )
    return setup


def check_stopping(setup: Setup) -> None:
    """Errors: ``ConfigError`` where a trial that was stopped early would be of no use to the search."""
    searcher = setup.searcher()
    if searcher.sequential or searcher.reads or searcher.procedures != {"train"}:
        raise ConfigError(
            f"earlyStopping: every trial of {setup.spec.searcher!r} has to run to its end; leave it out, or take a "
            "searcher of independent trials such as 'random' or 'evolution'"
        )


def _sorted_out(said: Mapping[str, str], searcher: str) -> tuple[Own, dict[str, Any]]:
    """The service's own settings, and all others as options of ``amla search``."""
    settings = registry.load("searchers", searcher).Settings.model_fields
    own: list[str] = []
    others: list[str] = []
    for name, text in said.items():
        head = name.split(".")[0]
        if head in ELSEWHERE:
            raise ConfigError(f"{name}: it has no effect in Katib; {ELSEWHERE[head]}")
        known = head in SHORT or head in ExperimentSpec.model_fields
        if head in Own.model_fields:
            own.append(f"{name}={text}")
        elif not known and head in settings:
            others.append(f"settings.{name}={text}")
        elif known:
            others.append(f"{name}={text}")
        else:
            raise ConfigError(f"{name}: neither the searcher {searcher!r} nor AMLA has such a setting")
    values = with_settings({}, own)
    if "train_size" not in values:
        raise ConfigError("train_size: how many training images are there? Set it; it says what an epoch is")
    try:
        return Own.parse(values), with_settings({}, others)
    except AmlaError as error:
        raise ConfigError(str(error).removeprefix("Own: ")) from None


def _sizes(graph: Any, own: Own) -> tuple[tuple[int, int, int], int]:
    """(height, width, channels) and the number of classes. Errors: ``ConfigError``."""
    shape = tuple(graph.input_sizes) or own.input_sizes
    classes = tuple(graph.output_sizes) or own.output_sizes
    if not shape or len(shape) != 3 or min(shape) < 1:
        raise ConfigError("input_sizes: three numbers, the height, width and channels of an image")
    if not classes or classes[-1] < 2:
        raise ConfigError("output_sizes: the number of classes, at least 2")
    return (shape[0], shape[1], shape[2]), classes[-1]


def _with_space(options: dict[str, Any], nas: Any) -> None:
    """The space and its operations, where ``nasConfig`` says them; a setting of the same name must agree."""
    settings = options.setdefault("space_settings", {})
    for operation in nas.operations.operation:
        space = SPACES.get(operation.operation_type, operation.operation_type)
        if options.setdefault("space", space) != space:
            raise ConfigError(f"space: the setting is {options['space']!r}, but nasConfig has {space!r}")
        for parameter in operation.parameter_specs.parameters:
            if parameter.feasible_space.list:
                settings["operations"] = list(parameter.feasible_space.list)
    stages = nas.graph_config.num_layers
    layers = options.get("layers", settings.get("layers"))
    if layers is not None and stages and options.get("space", "envelope") == "envelope" and len(layers) != stages:
        raise ConfigError(f"layers: {len(layers)} values, but nasConfig's numLayers says {stages} stages")


def _objectives(objective: Any, others: Any) -> tuple[str, list[dict[str, JsonValue]]]:
    """The objective as trials print it, and all objectives. Katib's comes first. Errors: ``ConfigError``."""
    figure = objective.objective_metric_name or next(iter(FIGURES))
    if figure not in FIGURES:
        raise ConfigError(f"objectiveMetricName: trials print no {figure!r}; they print {', '.join(FIGURES)}")
    first = Objective.parse({"metric": FIGURES[figure]})
    asked = {1: "minimize", 2: "maximize"}.get(objective.type, first.direction)
    first = first.model_copy(update={"direction": cast(Literal["maximize", "minimize"], asked)})
    rest = [Objective.parse(other) for other in _listed(others)]
    if rest and rest[0].metric == first.metric:
        rest = rest[1:]
    return figure, [one.to_data() for one in (first, *rest)]


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _info(own: Own, shape: tuple[int, int, int], classes: int) -> DatasetInfo:
    """The data, as far as a search depends on it."""
    channels = shape[2]
    return DatasetInfo(
        name="katib",
        shape=shape,
        classes=tuple(str(number) for number in range(classes)),
        sizes={"train": own.train_size, "valid": 1, "test": 1},
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        flip=own.flip,
    )
