from amla.testing.searchers import SearcherSuite


class TestAnnealing(SearcherSuite):
    name = "annealing"  # as registered; not installed, it would be "amla_annealing:Annealing"


class TestAnnealingOfCells(SearcherSuite):
    name = "annealing"
    problem = SearcherSuite.problem.model_copy(
        update={"space": "nasbench201", "space_settings": {"width": 4, "cells": 1}, "trials": 12}
    )


class TestTemperature(SearcherSuite):
    """Cold, the walk only climbs; hot, it takes whatever comes."""

    name = "annealing"

    def stands_on(self, temperature):
        self.settings = {"hot": temperature, "cold": temperature}
        searcher = self.make()
        trials = self.run()
        searcher.observe(trials)
        return searcher.current, trials

    def test_cold(self):
        current, trials = self.stands_on(1e-9)
        assert current.result.accuracy == max(trial.result.accuracy for trial in trials)

    def test_hot(self):
        current, trials = self.stands_on(1e9)
        assert current == trials[-1]
